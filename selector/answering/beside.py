"""Beside: one thread for what no answer has to wait for."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

from zoo.cores import allowed_cores

_END_GRACE_S = 5.0  # for the work at hand, when the process ends

_Work = Callable[[], None]

_lock = threading.Lock()
# Its work; of an executor, a call takes several times as long, and answers wait for the call.
_waiting: SimpleQueue[_Work | None] | None = None
_alone: bool | None = None  # whether there is no core for it, or no time; None: not asked yet


def has_room() -> bool:
    """Whether there is a core for it."""
    return allowed_cores() > 1


def beside(work: _Work) -> bool:
    """Have `work` done in the background, in the order of the calls; False: do it yourself.

    That is where this process may use one core only, and while the interpreter ends. What `work` raises is
    lost. The thread is begun when first needed, and ends with the process.
    """
    waiting = _waiting
    if waiting is None:
        waiting = _begin()
        if waiting is None:
            return False
    waiting.put(work)
    return True


def _begin() -> SimpleQueue[_Work | None] | None:
    global _waiting, _alone
    with _lock:
        if _alone is None:
            _alone = not has_room()
        if _waiting is None and not _alone:
            waiting: SimpleQueue[_Work | None] = SimpleQueue()
            thread = threading.Thread(target=_work_off, args=(waiting,), name="zooselect-beside", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter ends
                return None
            atexit.register(_end, thread, waiting)
            _waiting = waiting
        return _waiting


def _work_off(waiting: SimpleQueue[_Work | None]) -> None:
    while (work := waiting.get()) is not None:
        with contextlib.suppress(Exception):
            work()
        del work  # what it holds is not kept by a thread that waits


def _end(thread: threading.Thread, waiting: SimpleQueue[_Work | None]) -> None:
    """No thread is at work once the interpreter is taken apart."""
    global _waiting, _alone
    with _lock:
        if _waiting is waiting:
            _waiting, _alone = None, True
    waiting.put(None)
    thread.join(_END_GRACE_S)


def _renew() -> None:
    """In a forked process: the thread is not there."""
    global _lock, _waiting
    _lock, _waiting = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
