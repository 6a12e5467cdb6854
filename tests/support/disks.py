"""Real disks for tests: small ones, and read-only ones. A test is skipped where none may be mounted."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str = "1m") -> Iterator[Path]:
    """A file system of that size."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, timeout=60).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=60)


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Inside, nothing can be written to a small disk."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True, timeout=60)


def free_bytes(disk: Path) -> int:
    """What is free on a disk."""
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def fill(file: Path, *, leave: int = 0) -> None:
    """Fill the disk of a file with it, but for some bytes."""
    file.write_bytes(b"")
    file.write_bytes(bytes(free_bytes(file.parent) - leave))
