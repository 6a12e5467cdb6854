"""Claims about images that are bombs: they are refused before a pixel is decoded, and nothing waits."""

from __future__ import annotations

import os
import socket
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo import load_image
from zoo.errors import ImageError
from zoo.inputs.image import MAX_PIXELS, check_image
from zoo.inputs.pixel_range import gray_in_8_bits


def small_gif(width: int, height: int) -> bytes:
    """A canvas of that size around one pixel, in 35 bytes."""
    size = struct.pack("<HH", width, height)
    palette = b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    return b"GIF89a" + size + palette + b",\0\0\0\0\1\0\1\0\0" + b"\x02\x02D\x01\0" + b";"


@pytest.mark.parametrize("side", [8001, 9500, 13000, 65535])  # Pillow warns from 9,459 on, and has its limit
def test_a_canvas_that_is_too_large_is_refused_before_decoding(tmp_path: Path, side: int) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(small_gif(side, side))
    tracemalloc.start()
    with pytest.raises(ImageError, match=r"a\.gif: expected an image of at most 64,000,000 pixels, got"):
        load_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


def test_the_limit_on_pixels_is_an_argument(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(ImageError, match=r"at most 599 pixels, got 30 × 20\. Make it smaller; in Python"):
        load_image(tmp_path / "a.png", max_pixels=599)


def test_a_picture_of_the_application_has_the_same_limit(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(small_gif(9000, 9000))
    assert MAX_PIXELS < 9000**2
    with (
        Image.open(tmp_path / "a.gif") as picture,
        pytest.raises(ImageError, match="PIL image: expected an image of at most"),
    ):
        check_image(picture)


def test_16_bits_are_scaled_without_larger_numbers() -> None:
    values = (np.arange(2**21) % 65536).astype(np.uint16).reshape(1024, 2048)
    picture = Image.new("I;16", (1, 1))
    tracemalloc.start()
    gray = gray_in_8_bits(values, picture)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(gray, np.rint(values / 257))
    assert peak < 2 * gray.nbytes


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.png"))
        for path, got in (
            (tmp_path / "pipe.png", "a pipe, not a file"),
            (tmp_path / "socket.png", "No such device or address"),
            (tmp_path, "a folder, not a file"),
            (Path("/dev/zero"), "a device, not a file"),
            (tmp_path / ("x" * 5000), "File name too long"),
            ("a\0b", "embedded null byte"),
        ):
            with pytest.raises(ImageError, match=f"cannot be read as an image: {got}"):
                load_image(path)
