"""Beside: one thread for what no answer has to wait for."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from zoo.cores import allowed_cores

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_alone: bool | None = None  # whether there is no core for it; None: not asked yet


def has_room() -> bool:
    """Whether there is a core for it."""
    return allowed_cores() > 1


def beside(work: Callable[[], None]) -> bool:
    """Have `work` done in the background, in the order of the calls; False: do it yourself.

    That is where this process may use one core only, and while the interpreter ends. What `work` raises is
    lost. The thread is begun when first needed, and ends with the process.
    """
    global _pool, _alone
    pool = _pool
    if pool is None:
        with _lock:
            if _alone is None:
                _alone = not has_room()
            if _alone:
                return False
            if _pool is None:
                _pool = ThreadPoolExecutor(1, thread_name_prefix="zooselect-beside")
            pool = _pool
    try:
        pool.submit(work)
    except RuntimeError:  # the interpreter ends
        return False
    return True


def _renew() -> None:
    """In a forked process: the thread is not there."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
