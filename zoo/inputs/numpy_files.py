"""Arrays from ``.npy`` and ``.npz`` files, without trusting them: no objects, and bounded memory."""

from __future__ import annotations

import io
import math
import zipfile
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
        rest = content[stream.tell() :]
        if dtype.hasobject or len(rest) != math.prod(shape) * dtype.itemsize:
            held = "objects" if dtype.hasobject else f"{len(rest):,} bytes"
            raise InputError(f"expected a .npy file of numbers {dtype} {list(shape)}, got {held}.")
        values: NDArray[Any] = np.frombuffer(rest, dtype).reshape(shape, order="F" if columns_first else "C")
    except InputError:
        raise
    except Exception as error:  # of numpy, which evaluates the header as Python and promises no classes
        raise InputError(f"expected a .npy file, got: {_words(error)}.") from error
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
            found = {
                member.filename.removesuffix(".npy"): read_npy(opened.open(member).read(member.file_size))
                for member in members
            }
    except (InputError, OSError):
        raise
    except Exception as error:  # of what unpacks, each method with classes of its own
        raise InputError(f"expected a .npz file, got: {_words(error)}.") from error
    if len(found) < len(members):
        raise InputError("expected arrays of distinct names, got some twice. Write the file again.")
    return found


def _words(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__
