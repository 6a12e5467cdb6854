"""Arrays from ``.npy`` and ``.npz`` files, without trusting them: no objects, and bounded memory."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError
from zoo.files import open_file

MAX_MEMBERS = 64  # arrays of a ``.npz`` file
_HEADER = 10_000  # bytes of a header, at most


def read_npy(content: bytes) -> NDArray[Any]:
    """The array that the content of a ``.npy`` file holds; it may be read-only.

    Raises
    ------
    InputError
        When it is no such file, holds objects, or says that it holds more than it does.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, columns_first, dtype = read(stream, max_header_size=_HEADER)
    except (ValueError, EOFError) as error:
        raise InputError(f"expected a .npy file, got: {str(error)[:200]}.") from error
    rest = content[stream.tell() :]
    if dtype.hasobject or len(rest) != math.prod(shape) * dtype.itemsize:
        held = "objects" if dtype.hasobject else f"{len(rest):,} bytes"
        raise InputError(f"expected a .npy file of numbers {dtype} {list(shape)}, got {held}.")
    values: NDArray[Any] = np.frombuffer(rest, dtype).reshape(shape, order="F" if columns_first else "C")
    return values


def read_npz(path: str | Path, most_bytes: int) -> dict[str, NDArray[Any]]:
    """The arrays of a ``.npz`` file by name.

    Parameters
    ----------
    most_bytes
        Of all arrays together, unpacked.

    Raises
    ------
    InputError
        When it is no such file, or holds more.
    OSError
        When it cannot be read.
    """
    try:
        with open_file(path) as stream, zipfile.ZipFile(stream) as opened:
            members = opened.infolist()
            size = sum(member.file_size for member in members)
            if len(members) > MAX_MEMBERS or size > most_bytes:
                raise InputError(
                    f"expected at most {MAX_MEMBERS} arrays of {most_bytes:,} bytes together, got "
                    f"{len(members)} of {size:,}. Give a part of them."
                )
            return {
                member.filename.removesuffix(".npy"): _member(opened.open(member).read, member.file_size)
                for member in members
            }
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise InputError(f"expected a .npz file, got: {str(error)[:200]}.") from error


def _member(read: Callable[[int], bytes], size: int) -> NDArray[Any]:
    return read_npy(read(size))
