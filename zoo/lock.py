"""A lock on a folder that holds between processes, between threads, and again within the same thread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zoo.errors import StoreLockedError, ZooError

POLL_INTERVAL_S = 0.02


class FolderLock:
    """The right to change a folder. The system gives it back when its holder dies.

    A lock belongs to the thread that took it, which has to give it back.

    Parameters
    ----------
    path
        A file in the folder; it stays there, empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = threading.RLock()
        self._depth = 0
        self._handle = -1

    @contextmanager
    def hold(self, timeout_s: float) -> Iterator[None]:
        """Hold the lock inside a ``with``; a thread that holds it already gets it again.

        Raises
        ------
        StoreLockedError
            When another thread or process still holds it after `timeout_s` seconds.
        ZooError
            When the file cannot be made, or its disk or system has no locks.
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
                    self._give_back()
        finally:
            self._thread.release()

    def _take(self, until: float, timeout_s: float) -> None:
        with suppress(OSError):  # an empty folder in its place goes; of anything else, a file stays
            self.path.rmdir()
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError as error:
            raise ZooError(
                f"cannot lock {self.path}, to change what is in its folder: {error.strerror}. What is there "
                "can still be read; check the disk, who may write, and that nothing but a file is there."
            ) from error
        try:
            while not _locked(handle):
                if time.monotonic() >= until:
                    raise self._held("another process", timeout_s)
                time.sleep(POLL_INTERVAL_S)
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle

    def _give_back(self) -> None:
        # Closing gives it back, too, but on Windows only after a while.
        with suppress(OSError, ImportError):  # an interpreter that ends imports nothing
            from filelock import unlock_descriptor

            unlock_descriptor(self._handle)
        os.close(self._handle)

    def _held(self, holder: str, timeout_s: float) -> StoreLockedError:
        return StoreLockedError(
            f"expected to change {self.path.parent} alone, got: {holder} was at work there for "
            f"{timeout_s:g} seconds. Wait until it has finished, then try again."
        )


def _locked(handle: int) -> bool:
    from filelock import lock_descriptor  # here, because importing it takes 20 ms

    try:
        return lock_descriptor(handle, blocking=False)
    except OSError as error:  # some network file systems have no locks
        raise ZooError(f"cannot lock a folder: {error.strerror}. Put it on a disk of this device.") from error
