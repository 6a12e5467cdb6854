"""Files that hold secrets, private keys and tokens: nobody but their owner may read or write them."""

from __future__ import annotations

import functools
import logging
import os
import stat
from pathlib import Path

from zoo.errors import ZooError

HAS_MODES = os.name == "posix"  # elsewhere Python shows no permissions of other users
IGNORE_FILE = ".gitignore"
ROOT_USER = 0

log = logging.getLogger("zooselect")


def require_private(path: Path, error: type[ZooError], *, handle: int | None = None) -> None:
    """Refuse a file that others may read or write.

    It has to belong to the user of this process or to root; root may use those of anybody. So nobody else can
    put a file of their own in its place.

    Parameters
    ----------
    path
        The file; what a symbolic link leads to counts.
    error
        The class to raise.
    handle
        Of the file, where it is open already, so that what is checked is what is read.

    Raises
    ------
    ZooError
        Of the class `error`; the message has the command that mends it. On Windows nothing is checked, which
        is said once, through the logger ``zooselect``.
    OSError
        When the file is not there.
    """
    if not HAS_MODES:
        _say_what_is_not_checked()
        return
    status = path.stat() if handle is None else os.fstat(handle)
    _require_owner(path, status, error)
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise error(
            f"{path}: expected a file that only its owner may read and write, got mode "
            f"{stat.S_IMODE(status.st_mode):04o}. Run: chmod 600 {path}. Others may have read it: replace "
            "what it holds, if they were not meant to. On a disk without file modes, such as FAT, mount it "
            "with umask=077."
        )


def require_private_folder(folder: Path, error: type[ZooError]) -> None:
    """Refuse a folder in which others may put or replace files; raises like :func:`require_private`."""
    if not HAS_MODES:
        _say_what_is_not_checked()
        return
    status = folder.stat()
    _require_owner(folder, status, error)
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise error(
            f"{folder}: expected a folder in which only its owner may put files, got mode "
            f"{stat.S_IMODE(status.st_mode):04o}: others may have put or replaced some. Look at what is "
            f"there, then run: chmod 700 {folder}"
        )


def make_private_folder(folder: Path, error: type[ZooError]) -> None:
    """Make a folder for secrets, which git ignores; one that is there is checked.

    Raises
    ------
    ZooError
        Of the class `error`, when others may put files there.
    OSError
        When it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    require_private_folder(folder, error)
    ignore = folder / IGNORE_FILE
    if not ignore.exists():
        ignore.write_text("*\n")


def _require_owner(path: Path, status: os.stat_result, error: type[ZooError]) -> None:
    user = os.geteuid()
    if user != ROOT_USER and status.st_uid not in (user, ROOT_USER):
        raise error(
            f"{path}: expected that it belongs to the user of this process (number {user}) or to root, got "
            f"user {status.st_uid}. Run this as that user, or copy what you trust into a folder of your own."
        )


@functools.cache
def _say_what_is_not_checked() -> None:
    log.warning(
        "On this system nothing checks who else may read private keys and tokens. Keep them in a folder that "
        "only your user can open."
    )
