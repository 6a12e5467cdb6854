"""The reserve: room on a disk for what is small and has to be written even when the disk is full."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from zoo.files import atomic_path
from zoo.store.notes import remove_folder

RESERVE_FILE = "reserve"
RESERVE_BYTES = 2**18  # the record of a hundred models, or the metadata of a publisher
BLOCK_BYTES = 4096  # of most disks: what a file takes is rounded up to it


def reserved(folder: Path) -> bool:
    """Whether the reserve is there, whole."""
    with suppress(OSError):
        return (folder / RESERVE_FILE).lstat().st_size == RESERVE_BYTES
    return False


def make_reserve(folder: Path) -> None:
    """Make the reserve where there is room for it; random, so that no file system makes it smaller."""
    with suppress(OSError):
        remove_folder(folder / RESERVE_FILE)
    with suppress(OSError), atomic_path(folder / RESERVE_FILE, sync=False) as temporary:
        temporary.write_bytes(os.urandom(RESERVE_BYTES))


def give_up_reserve(folder: Path) -> None:
    """Let others have the room."""
    with suppress(OSError):
        (folder / RESERVE_FILE).unlink(missing_ok=True)


def free_bytes(folder: Path) -> int | None:
    """What is free on the disk of a folder; None where the system does not say."""
    with suppress(OSError):
        return shutil.disk_usage(folder).free
    return None
