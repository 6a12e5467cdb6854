"""Class names in a text file: one a line, in the order of a model's outputs."""

from __future__ import annotations

import re
from pathlib import Path

from zoo.errors import DataError
from zoo.files import open_file

_MAX_BYTES = 2**24
_NAMED = 3  # names whose lines are told


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names in a UTF-8 file, with or without a byte order mark; empty lines do not count.

    Raises
    ------
    DataError
        When the file cannot be read, holds fewer than two names, or one of them twice.
    """
    try:
        with open_file(path) as stream:
            content = stream.read(_MAX_BYTES + 1)
        lines = re.split(r"\r\n?|\n", content.decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: expected a text file (UTF-8) with one class name a line, got: "
            f"{getattr(error, 'strerror', None) or error}."
        ) from error
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path}: expected at most {_MAX_BYTES:,} bytes of class names, got more.")
    places: dict[str, list[int]] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            places.setdefault(line.strip(), []).append(number)
    twice = [
        f"{name!r} in the lines {', '.join(map(str, numbers[:_NAMED]))}{', …' if numbers[_NAMED:] else ''}"
        for name, numbers in places.items()
        if len(numbers) > 1
    ]
    if twice:
        more = f" and {len(twice) - _NAMED} more names" if len(twice) > _NAMED else ""
        raise DataError(
            f"{path}: expected a different name in every line, got {'; '.join(twice[:_NAMED])}{more}. "
            "Tell them apart, such as 'crane (bird)' and 'crane (machine)'."
        )
    if len(places) < 2:
        raise DataError(f"{path}: expected at least two class names, one a line, got {len(places)}.")
    return tuple(places)
