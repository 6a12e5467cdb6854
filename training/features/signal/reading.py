"""What features read of a signal: windows over its length; numpy alone, so that a worker starts quickly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def grid_of(kind: str) -> int:
    """How many samples are read, whatever the length."""
    return 1024 if kind == "uint8" else 2048


def windows_of(kind: str) -> int:
    """How many windows are read: of bytes the beginning and the end, of sound eight places."""
    return 2 if kind == "uint8" else 8


def places(length: int, grid: int, windows: int) -> NDArray[np.int64]:
    """Which samples ``[grid]`` of a signal are read: windows from its beginning to its end, evenly spaced.

    A signal that is shorter than a window is read over and over, which keeps its statistics.
    """
    width = grid // windows
    starts = np.arange(windows) * max(length - width, 0) // (windows - 1)
    found: NDArray[np.int64] = (starts[:, np.newaxis] + np.arange(width)) % length
    return found.reshape(-1)


def read_signals(signals: NDArray[Any], grid: int, windows: int) -> NDArray[Any]:
    """The samples ``[N, grid]`` that features of signals ``[N, L]`` depend on."""
    return signals[:, places(signals.shape[1], grid, windows)]
