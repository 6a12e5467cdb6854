"""The follower: a thread in which a Selector looks after its store, so that no answer does.

Starting a thread waits until it runs, and closing a session takes longer than some answers; both would be
felt by the answer that happened to do it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

YIELD_S = 0.0005


def breathe() -> None:
    """Between pieces of work that hold the interpreter's lock: let answers in other threads have it."""
    time.sleep(YIELD_S)


class Follower:
    """Calls a method of its owner when it is woken, and ends with its owner."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work: weakref.WeakMethod[Callable[[], None]] = weakref.WeakMethod(work)
        self._woken = threading.Event()
        self._thread = self._start()
        weakref.finalize(work.__self__, self._woken.set).atexit = False  # type: ignore[attr-defined]

    def wake(self) -> None:
        """Have the method called soon; takes microseconds."""
        self._woken.set()
        if not self._thread.is_alive():  # this is the copy of a process, which has no threads but its own
            self._thread = self._start()

    def _start(self) -> threading.Thread:
        arguments: tuple[Any, ...] = (self._work, self._woken)
        thread = threading.Thread(target=_follow, args=arguments, name="zooselect-update", daemon=True)
        thread.start()
        return thread


def _follow(work: weakref.WeakMethod[Callable[[], None]], woken: threading.Event) -> None:
    while True:
        woken.wait()
        woken.clear()
        call = work()
        if call is None:
            return
        call()
        del call  # while it waits, the owner may go
