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


Label = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}$(?!\n)")]


def check_relative(file: str) -> None:
    """Raise ValueError unless `file` is a relative path that stays inside its folder."""
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts or "\\" in file or ":" in file or not path.parts:
        raise ValueError(f"file must be a relative path inside the bundle, got {file!r}")
