"""Timing: single calls by the clock on the wall and that of the processor, and which were interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zoo.errors import LatencyError

RUNS_IN_A_ROW = 5  # runs of one model in a row: a device that answers with it has it in its caches
# By so much the clock on the wall may be ahead of that of the processor: reading both takes a microsecond, a
# page fault a few, the shortest turn of another program far more.
MARGIN_SHARE = 0.03
MARGIN_MS = 0.02
_QUIET_MS = 250  # how long a look at the machine takes

Clock = Literal["thread", "process"]


@dataclass(frozen=True)
class Times:
    """Single calls of one function, in the order in which they ran."""

    wall_ms: NDArray[np.float64]  # [runs]
    # [runs], by how much the wall's clock was ahead of the processor's, from the end of the call before this
    # one to the end of this one
    waited_ms: NDArray[np.float64]

    @cached_property
    def interrupted(self) -> NDArray[np.bool_]:
        """Which runs ``[runs]`` another program interrupted, or came right after an interruption.

        A run is interrupted when the clock on the wall goes on by more than 3 % of the run, and by more than
        20 microseconds, while that of the processor stands still: during the run, or between the run before
        and this one. The run after it finds the caches filled by the other program, so it is left out too.
        """
        ahead = self.waited_ms > np.maximum(MARGIN_SHARE * self.wall_ms, MARGIN_MS)
        found: NDArray[np.bool_] = ahead.copy()
        found[1:] |= ahead[:-1]
        return found

    @property
    def kept_ms(self) -> NDArray[np.float64]:
        """Milliseconds of the runs that were not interrupted; of the shortest where every one was."""
        kept: NDArray[np.float64] = self.wall_ms[~self.interrupted]
        return kept if len(kept) or not len(self.wall_ms) else self.wall_ms.min(keepdims=True)

    def at_speed(self, factor: float) -> Times:
        """The same on a machine that takes `factor` times as long."""
        return Times(self.wall_ms * factor, self.waited_ms * factor)

    @property
    def share_interrupted(self) -> float:
        """Share of the runs that were interrupted."""
        return float(self.interrupted.mean()) if len(self.wall_ms) else 0.0


def clock_of(threads: int) -> Clock:
    """Which clock of the processor tells an interruption.

    That of the thread, where it does all the work. With more threads that of the process: it goes on when any
    thread works, so it only tells when all of them stood still.
    """
    return "thread" if threads == 1 else "process"


def time_interleaved(
    calls: Mapping[str, Callable[[Any], object]],
    inputs: Sequence[Any],
    *,
    runs: int,
    warm_up: int = 10,
    burst: int = 1,
    seed: int = 0,
    threads: int = 1,
    progress: bool = False,
) -> dict[str, Times]:
    """Time every call on the same inputs, in a new random order each round.

    Interleaving lets slow drifts of a shared machine fall on all calls alike.

    Parameters
    ----------
    calls
        Name → function of one input.
    inputs
        What to call them with; round r uses ``inputs[r % len(inputs)]`` for all of them.
    runs
        Runs of each call that count. `warm_up` rounds before them do not.
    burst
        Runs of one call in a row. With 1, every run finds the caches filled by other calls; with more, one
        further run at the start of each burst does not count, as where a device uses one of them over and
        over.
    threads
        That a call works in, those that work beside it among them: see :func:`clock_of`.

    Returns
    -------
    dict
        Name → times of its runs in the order of `inputs`, over and over.
    """
    from tqdm import tqdm  # here, so that importing the package stays fast

    rng = np.random.default_rng(seed)
    names = list(calls)
    wall = {name: np.empty(runs) for name in names}
    waited = {name: np.empty(runs) for name in names}
    clock = time.perf_counter_ns
    worked = time.thread_time_ns if clock_of(threads) == "thread" else time.process_time_ns
    rounds = range(-warm_up, runs, burst)
    for first in tqdm(rounds, desc="timing", unit="round", disable=not progress or None, leave=False):
        for k in rng.permutation(len(names)):
            call, name = calls[names[k]], names[k]
            if burst > 1:
                call(inputs[(first - 1) % len(inputs)])
            before = clock() - worked()
            for r in range(first, min(first + burst, runs)):
                item = inputs[r % len(inputs)]
                start = clock()
                call(item)
                end = clock()
                ahead = end - worked()
                if r >= 0:
                    wall[name][r] = (end - start) * 1e-6
                    waited[name][r] = (ahead - before) * 1e-6
                before = ahead
    return {name: Times(wall[name], waited[name]) for name in names}


def waiting_share(milliseconds: float = _QUIET_MS) -> float:
    """Share of time for which a thread that always wants to work waits for a processor now."""
    start, working = time.perf_counter_ns(), time.thread_time_ns()
    end = start + int(milliseconds * 1e6)
    now = start
    while now < end:
        now = time.perf_counter_ns()
    return max(0.0, 1 - (time.thread_time_ns() - working) / (now - start))


def wait_quiet(
    seconds: float,
    *,
    most: float,
    look: Callable[[], float] = waiting_share,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Wait until a program waits for a processor for a share of at most `most`, or `seconds` have passed.

    Returns
    -------
    bool
        Whether the machine is quiet.

    Raises
    ------
    LatencyError
        When `seconds` is negative.
    """
    if not seconds >= 0:
        raise LatencyError(f"expected a number of seconds to wait, 0 or more, got {seconds}.")
    end = now() + seconds
    while look() > most:
        left = end - now()
        if left <= 0:
            return False
        sleep(min(2.0, left))
    return True
