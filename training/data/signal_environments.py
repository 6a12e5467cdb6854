"""Changing environments for signals: noise, clipping, a narrow band, and an early end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[Any]  # uint8, int16 or float32 [L]
Effect = Callable[[Samples, np.random.Generator, float], Samples]


def clear(signal: Samples, rng: np.random.Generator, severity: float) -> Samples:
    """The signal as it is."""
    return signal


def noise(signal: Samples, rng: np.random.Generator, severity: float) -> Samples:
    """White noise: sound down to -6 dB of its own power at severity 1; up to 40 % of bytes become others."""
    if signal.dtype == np.uint8:
        share = 0.4 * severity * rng.uniform(0.7, 1.0)
        changed = rng.random(len(signal)) < share
        return np.where(changed, rng.integers(0, 256, len(signal), dtype=np.uint8), signal)
    real = signal.astype(np.float64)
    level = np.sqrt(np.mean(real**2)) * 2 * severity * rng.uniform(0.7, 1.0)
    return _like(signal, real + rng.normal(0, 1, len(signal)) * level)


def clipping(signal: Samples, rng: np.random.Generator, severity: float) -> Samples:
    """Values beyond a limit are cut: at severity 1 sound at 10 % of its peak; bytes lose their upper bits."""
    kept = 1 - 0.9 * severity * rng.uniform(0.8, 1.0)
    if signal.dtype == np.uint8:
        return np.minimum(signal, np.uint8(round(255 * kept)))
    real = signal.astype(np.float64)
    limit = np.abs(real).max() * kept
    return _like(signal, real.clip(-limit, limit))


def band(signal: Samples, rng: np.random.Generator, severity: float) -> Samples:
    """A narrow band: a mean over up to 1/200 of the length, 32 samples at most, at severity 1."""
    width = 1 + round(min(32, len(signal) / 200) * severity * rng.uniform(0.7, 1.0))
    real = np.convolve(signal.astype(np.float64), np.ones(width) / width, mode="same")
    return _like(signal, real[: len(signal)])


def truncation(signal: Samples, rng: np.random.Generator, severity: float) -> Samples:
    """An early end: at severity 1 down to 5 % of the length, one sample at least."""
    kept = 1 - 0.95 * severity * rng.uniform(0.7, 1.0)
    return signal[: max(1, round(len(signal) * kept))]


SIGNAL_ENVIRONMENTS: dict[str, Effect] = {
    "clear": clear,
    "noise": noise,
    "clipping": clipping,
    "band": band,
    "truncation": truncation,
}


def _like(signal: Samples, real: NDArray[np.float64]) -> Samples:
    """Real numbers as samples of the type of `signal`."""
    if signal.dtype.kind == "f":
        return real.astype(signal.dtype)
    limits = np.iinfo(signal.dtype)
    return np.rint(real).clip(limits.min, limits.max).astype(signal.dtype)
