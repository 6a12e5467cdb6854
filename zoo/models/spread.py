"""The spread of times: its shape in a few characters, and whether it has two peaks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BLOCKS = "▁▂▃▄▅▆▇█"
LEAST_SHARE = 0.1  # of the runs, on either side
LEAST_RATIO = 1.1  # of the means of both sides
# Share of the variance of log times that two groups explain: 0.64 for a normal curve cut in half, 0.75 for
# equally frequent times in an interval, which have no two peaks.
LEAST_EXPLAINED = 0.85


def bars(times_ms: Sequence[float] | NDArray[np.float64], width: int = 12) -> str:
    """How often times occur from the shortest to the 99th percentile, in `width` characters."""
    times = np.sort(np.asarray(times_ms, np.float64))
    if not len(times):
        return ""
    low, high = float(times[0]), float(np.quantile(times, 0.99))
    if high <= low:
        return _BLOCKS[-1]
    counts, _ = np.histogram(times[times <= high], bins=width, range=(low, high))
    levels = np.ceil(counts / counts.max() * len(_BLOCKS)).astype(int)
    return "".join(_BLOCKS[level - 1] if level else " " for level in levels)


def two_peaks(times_ms: Sequence[float] | NDArray[np.float64]) -> tuple[float, float] | None:
    """Medians of the two groups that times fall into, or None where there are no two.

    The times are cut where the variance of log times within both parts is least (Otsu 1979). They are two
    groups when either has a tenth of the runs, the means are a tenth apart, and the cut explains 85 % of the
    variance.

    Examples
    --------
    >>> from zoo.models.spread import two_peaks
    >>> two_peaks([1.0] * 50 + [1.5] * 50)
    (1.0, 1.5)
    """
    times = np.sort(np.asarray(times_ms, np.float64))
    count = len(times)
    least = max(2, int(np.ceil(LEAST_SHARE * count)))
    if count < 2 * least or times[0] <= 0:
        return None
    logs = np.log(times)
    sums = np.cumsum(logs)
    cuts = np.arange(least, count - least + 1)  # runs on the left side
    left, right = sums[cuts - 1] / cuts, (sums[-1] - sums[cuts - 1]) / (count - cuts)
    between = cuts * (count - cuts) * (right - left) ** 2 / count**2
    best = int(between.argmax())
    total = float(logs.var())
    if (
        total <= 0
        or between[best] / total < LEAST_EXPLAINED
        or right[best] - left[best] < np.log(LEAST_RATIO)
    ):
        return None
    cut = int(cuts[best])
    return float(np.median(times[:cut])), float(np.median(times[cut:]))
