"""Watching: a monitor is told the features of inputs, and how sure the first model was."""

from __future__ import annotations

import threading

import numpy as np

from selector.drift.monitor import DriftStatus, Monitor
from selector.routing.deciders import Columns
from selector.routing.record import RouteReference

Sure = tuple[str, float] | None  # the first model and its log-odds, where it is the same for every input


class RouteWatch:
    """The monitor of a router.

    Inputs wait until a few can be looked at together, which takes half the time. Safe to use from several
    threads.

    Parameters
    ----------
    reference
        What to hold inputs against.
    """

    def __init__(self, reference: RouteReference) -> None:
        self._monitor = Monitor(reference)
        self._columns = list(reference.columns)
        self._waiting: list[tuple[Columns, Sure]] = []
        self._lock = threading.Lock()

    @property
    def alarm(self) -> bool:
        """Whether inputs are not like those of the certificates any more."""
        return self._monitor.alarm

    def status(self) -> DriftStatus:
        """What the monitor has seen, once it has looked at all that waits."""
        self._look()
        return self._monitor.status()

    def passes(self) -> bool:
        """Whether the next input need not be looked at; see :meth:`.Monitor.passes`."""
        return self._monitor.passes()

    def note(self, columns: Columns, sure: Sure) -> None:
        """Take note of an input, with all its columns ``[1, F]``."""
        self._waiting.append((columns, sure))
        if len(self._waiting) >= self._monitor.block:
            self._look()

    def _look(self) -> None:
        with self._lock:
            waiting = self._waiting[:]
            del self._waiting[: len(waiting)]
            if waiting:
                values = np.concatenate([columns for columns, _ in waiting])[:, self._columns]
                self._monitor.update_block(values, [sure for _, sure in waiting])
