"""Claims about arrays from files: whatever bytes come, they make an array or an error of ours."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.support.small_tensors import KIND
from zoo.errors import InputError
from zoo.files import read_npz as read_own_npz
from zoo.inputs.numpy_files import read_npy, read_npz


def npy(header: str, rest: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + rest


def described(dtype: str, shape: str) -> str:
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}"


@pytest.mark.parametrize(
    "content",
    [
        npy(described("'<f4'", "(-1, -5)"), bytes(20)),
        npy(described("'<f4'", "(True,)"), bytes(4)),
        npy(described("'<f4'", str((1,) * 99)), bytes(4)),
        npy(described("('<f4', (3,))", "(2,)"), bytes(24)),
        npy(described("'S0'", "(3,)")),
        npy("-" * 9000 + "1"),
        npy("(" * 4000),
        b"",
    ],
    ids=["negative", "bool", "axes", "inner", "nothing", "deep", "open", "empty"],
)
def test_a_header_that_describes_no_array_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match=r"expected a \.npy file"):
        read_npy(content)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_an_archive_that_does_not_unpack_is_refused(tmp_path: Path, method: int) -> None:
    array = io.BytesIO()
    np.save(array, np.arange(1000.0))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as file:
        file.writestr("row.npy", array.getvalue())
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[60:68] = b"\xff" * 8
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npz: "):
        KIND.load(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"."):
        read_own_npz(tmp_path / "a.npz", most_bytes=10_000)


def test_an_array_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    array = io.BytesIO()
    np.save(array, np.zeros(2))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        for name in ("row", "row.npy"):
            file.writestr(name, array.getvalue())
    with pytest.raises(InputError, match="distinct names"):
        read_npz(tmp_path / "a.npz", 10_000)
