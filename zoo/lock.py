"""A lock on a folder that holds between processes, between threads, and again within the same thread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import StoreLockedError

try:
    import fcntl
except ImportError:  # not a platform where two processes share a store
    fcntl = None  # type: ignore[assignment]

LOOK_AGAIN_S = 0.02


class FolderLock:
    """The right to change a folder. The system gives it back when its holder dies.

    Parameters
    ----------
    path
        A file in the folder; it stays there, empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = threading.RLock()
        self._depth = 0
        self._file = -1

    @contextmanager
    def hold(self, timeout_s: float) -> Iterator[None]:
        """Hold the lock inside a ``with``; a thread that holds it already gets it again.

        Raises
        ------
        StoreLockedError
            When another thread or process still holds it after `timeout_s` seconds.
        """
        until = time.monotonic() + timeout_s
        if not self._thread.acquire(timeout=max(timeout_s, 0)):
            raise self._held("another thread", timeout_s)
        try:
            if self._depth == 0:
                self._take(until, timeout_s)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    os.close(self._file)  # which gives the lock back
        finally:
            self._thread.release()

    def _take(self, until: float, timeout_s: float) -> None:
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if fcntl is None:
            return
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() >= until:
                    os.close(self._file)
                    raise self._held("another process", timeout_s) from error
            except BaseException:
                os.close(self._file)
                raise
            time.sleep(LOOK_AGAIN_S)

    def _held(self, holder: str, timeout_s: float) -> StoreLockedError:
        return StoreLockedError(
            f"expected to change {self.path.parent} alone, got: {holder} was at work there for "
            f"{timeout_s:g} seconds. Wait until it has finished, then try again."
        )
