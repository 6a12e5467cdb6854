"""Ratios of times: calls in turns on one thread, by the clock of the thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNDISTURBED_QUANTILE = 0.25  # of times that other programs on the machine hardly touch
_IN_A_ROW = 5  # calls of one kind in a turn, behind one that does not count: its caches are those of another


def quiet_times_us(
    calls: Mapping[str, Callable[[Any], object]],
    inputs: Sequence[Any],
    *,
    rounds: int,
    clock: Callable[[], int] = time.thread_time_ns,
    seed: int = 0,
) -> dict[str, float]:
    """Microseconds of each call on the processor: the lower quartile of calls in turns.

    Other programs make a call slower and never faster; in turns, they fall on all calls alike.

    Parameters
    ----------
    calls
        Name → function of one input.
    inputs
        The calls of a turn take them one after the other.
    rounds
        Turns of each call.
    clock
        What tells nanoseconds: that of the thread, or of the process where several threads work.
    """
    rng = np.random.default_rng(seed)
    names = list(calls)
    taken: dict[str, NDArray[np.float64]] = {name: np.empty((rounds, _IN_A_ROW)) for name in names}
    for turn in range(-2, rounds):
        for k in rng.permutation(len(names)):
            call, row = calls[names[k]], taken[names[k]][turn]
            call(inputs[turn % len(inputs)])
            for i in range(_IN_A_ROW):
                item = inputs[(turn + i + 1) % len(inputs)]
                start = clock()
                call(item)
                row[i] = clock() - start
    return {name: float(np.quantile(times, UNDISTURBED_QUANTILE)) / 1e3 for name, times in taken.items()}
