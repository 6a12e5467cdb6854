"""Types that records share: names, digests, numbers with bounds, relative paths."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

from msgspec import Meta

# "(?!\n)": in Python a bare "$" also matches before a final line break.
Name = Annotated[
    str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$(?!\n)", description="lower case, digits, . _ -")
]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)", description="64 hexadecimal digits")]
Positive = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(gt=0, le=1)]
# what the owner of a table of outcomes calls a model, such as "meta/Llama-3 70B": never the name of a file
ModelName = Annotated[str, Meta(min_length=1, max_length=128)]
Label = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}$(?!\n)")]


def check_relative(file: str) -> None:
    r"""Raise ValueError unless `file` is a path that stays inside its folder, on whatever system it is read.

    Parts are separated by "/". There is at least one; none is "..", and none ends with a dot or a space,
    which Windows leaves out. There is no "\", no ":" (a drive, a stream) and nothing that cannot be printed.
    """
    parts = PurePosixPath(file).parts
    if (
        not parts
        or file.startswith("/")
        or set(file) & set("\\:")
        or not file.isprintable()
        or any(part.endswith((".", " ")) for part in parts)
    ):
        raise ValueError(f"expected a relative path that stays inside its folder, got {file!r}")
