"""Inputs for the device commands, from files and folders: images, or what a bundle answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selector.commands.last_words import say_last
from zoo.errors import DataError, InputError

if TYPE_CHECKING:
    from zoo.inputs.kind import InputKind

_NAMED = 3  # unreadable files whose errors are repeated


def input_files(paths: list[Path], kind: InputKind) -> list[Path]:
    """Files of this kind, and those inside folders; what else lies in the folders is counted at the end."""
    from zoo.inputs.image_files import files_below, left_out_words

    files: list[Path] = []
    left_out: Counter[str] = Counter()
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        names, others = files_below(path, kind.is_file_name)
        if not names:
            held = f"none; {left_out_words(others)}" if others else "none"
            raise DataError(f"expected {kind.noun}s in {path}, got {held}. Supported: {kind.formats}")
        files += [path / name for name in names]
        left_out += others
    if left_out:
        say_last(left_out_words(left_out))
    return files


def read_inputs(files: list[Path], unread: list[str], kind: InputKind) -> Iterator[tuple[Path, Any]]:
    """Paths and inputs; what cannot be read is passed over, and why is appended to `unread`."""
    for path in files:
        try:
            item = kind.load(path)
        except InputError as error:
            unread.append(str(error))
            continue
        yield path, item


def tell_unread(unread: list[str], tried: int, kind: InputKind, *, skip_bad: bool) -> None:
    """Name and count the inputs that could not be read; an error unless they may be left out."""
    if not unread:
        return
    more = f" and {len(unread) - _NAMED} more" if len(unread) > _NAMED else ""
    which = "; ".join(reason.removesuffix(".") for reason in unread[:_NAMED]) + more
    count = f"{len(unread)} of {tried} {kind.noun}s could not be read"
    if skip_bad:
        say_last(f"{count} and were left out. They are: {which}.")
        return
    rest = " All others are answered." if len(unread) < tried else ""
    raise kind.error(f"{count}: {which}.{rest} Repair them, or leave them out with --skip-bad.")
