"""The pool of signals: which features there are, by the stage that computes them."""

from __future__ import annotations

from collections.abc import Sequence

BANDS = 7  # Haar wavelets (Haar 1910) of 2, 4, … 128 samples
# Class of bytes → the values in it.
BYTES: dict[str, Sequence[int]] = {
    "zero": [0],
    "control": [*range(1, 9), *range(14, 32), 127],
    "space": [32, 9],
    "line_end": [10, 13],
    "digit": range(48, 58),
    "upper_case": range(65, 91),
    "lower_case": range(97, 123),
    "quote": [34, 39, 96],
    "bracket": [40, 41, 91, 93, 123, 125],
    "angle": [60, 62],
    "separator": [44, 58, 59],
    "mark": [33, 35, 36, 37, 38, 42, 43, 45, 46, 47, 61, 63, 64, 92, 94, 95, 124, 126],
    "continuation": range(128, 192),
    "lead": range(192, 248),
    "all_ones": [255],
}
STAGES: dict[str, tuple[str, ...]] = {
    "length": ("log_length",),
    "moments": ("mean", "log_std", "peakedness", "largest", "smallest"),
    "crossings": ("crossing_rate",),
    "bands": tuple(f"band_{i}_energy" for i in range(1, BANDS + 1)),
    "blocks": ("block_mean_spread", "block_energy_spread", "ends_difference"),
    "histogram": (*(f"{name}_share" for name in BYTES), "entropy", "peak_share", "distinct_values"),
}
