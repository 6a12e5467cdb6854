"""Notes: small records of a store that are worth keeping, and no harm when they are lost.

What does not validate counts as lost. Whatever is in the way of a new note is replaced by it.
"""

from __future__ import annotations

import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from zoo.files import atomic_path, encode_record, open_file

MAX_NOTE_BYTES = 2**20

T = TypeVar("T")


def read_note(path: Path, kind: type[T]) -> T | None:
    """The record of type `kind` at `path`; None where it is missing, damaged, too large or no file."""
    try:
        with open_file(path) as stream:
            content = stream.read(MAX_NOTE_BYTES + 1)
        return None if len(content) > MAX_NOTE_BYTES else msgspec.json.decode(content, type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def write_note(path: Path, note: msgspec.Struct, *, sync: bool = True) -> None:
    """Replace what is at `path`, whatever that is; raises OSError where that is not possible."""
    with suppress(FileNotFoundError):
        if not remove_folder(path) and not stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
    with atomic_path(path, sync=sync) as temporary:
        temporary.write_bytes(encode_record(note))


def remove_folder(path: Path) -> bool:
    """Remove a folder with all that is in it; False where there is none, but perhaps a file or a link."""
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            return False
    except OSError:
        return False
    shutil.rmtree(path)
    return True
