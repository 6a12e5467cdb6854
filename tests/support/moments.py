"""What a kill at any file operation would leave on disk, seen without a kill.

A process that dies leaves what it has given to the operating system, and nothing that was still in its
memory. A copy of the folder just before an operation is the same, as long as one thread does the work; so one
run shows every moment. ``tests/test_moments.py`` kills in earnest and compares.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

EVENTS = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod"})
_watched: Callable[[str, tuple[Any, ...]], None] | None = None
_hooked = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    makes_file = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_EXCL
    if _watched is not None and (makes_file or event in EVENTS):
        _watched(event, arguments)


def watch(folder: Path, act: Callable[[int], None]) -> None:
    """Call `act` with 1, 2, … before each operation in `folder`, until :func:`forget`."""
    global _watched, _hooked
    thread, count, acting, prefix = threading.get_ident(), 0, False, os.fspath(folder)

    def watched(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count, acting
        if acting or not str(arguments[0]).startswith(prefix):
            return
        assert threading.get_ident() == thread, f"{event} in another thread: a copy would show no one moment"
        count, acting = count + 1, True
        try:
            act(count)
        finally:
            acting = False

    _watched = watched
    if not _hooked:  # one hook for good, since Python has no way to take one away
        sys.addaudithook(_hook)
        _hooked = True


def forget() -> None:
    """Watch nothing any more."""
    global _watched
    _watched = None


def moments_of(action: Callable[[], object], folder: Path, copies: Path) -> list[Path]:
    """Copies of `folder` as it was before each file operation of `action`; where it was not there, none."""

    def copy(number: int) -> None:
        if folder.exists():
            shutil.copytree(folder, copies / f"{number:03d}")

    copies.mkdir()
    watch(folder, copy)
    try:
        action()
    finally:
        forget()
    return sorted(copies.iterdir())
