"""Images for the device commands, from files and folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selector.commands.last_words import say_last
from zoo.errors import DataError, ImageError

_NAMED = 3  # unreadable files whose errors are repeated


def image_files(paths: list[Path]) -> list[Path]:
    """Image files, and those inside folders; what else lies in the folders is counted at the end."""
    from zoo.inputs.image_files import SUFFIXES, images_below, left_out_words

    files: list[Path] = []
    left_out: Counter[str] = Counter()
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        names, others = images_below(path)
        if not names:
            held = f"none; {left_out_words(others)}" if others else "none"
            raise DataError(
                f"expected images in {path}, got {held}. Supported: {', '.join(sorted(SUFFIXES))}"
            )
        files += [path / name for name in names]
        left_out += others
    if left_out:
        say_last(left_out_words(left_out))
    return files


def read_images(files: list[Path], unread: list[str]) -> Iterator[tuple[Path, Any]]:
    """Paths and pixels; what cannot be read is passed over, and why is appended to `unread`."""
    from zoo.inputs.image import load_image

    for path in files:
        try:
            image = load_image(path)
        except ImageError as error:
            unread.append(str(error))
            continue
        yield path, image


def tell_unread(unread: list[str], tried: int, *, skip_bad: bool) -> None:
    """Name and count the images that could not be read; an error unless they may be left out."""
    if not unread:
        return
    more = f" and {len(unread) - _NAMED} more" if len(unread) > _NAMED else ""
    which = "; ".join(reason.removesuffix(".") for reason in unread[:_NAMED]) + more
    count = f"{len(unread)} of {tried} images could not be read"
    if skip_bad:
        say_last(f"{count} and were left out. They are: {which}.")
        return
    rest = " All others are answered." if len(unread) < tried else ""
    raise ImageError(f"{count}: {which}.{rest} Repair them, or leave them out with --skip-bad.")
