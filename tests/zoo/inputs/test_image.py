"""Claims about images: what models take passes, what they do not take gets advice that works."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zoo import load_image
from zoo.errors import ImageError
from zoo.inputs.image import check_batch, check_image

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def test_takes_one_image_without_a_copy() -> None:
    batch = check_image(PIXELS)
    assert batch.shape == (1, 6, 9, 3)
    assert np.shares_memory(batch, PIXELS)


def test_takes_a_batch_as_it_is() -> None:
    batch = np.stack([PIXELS, PIXELS])
    assert check_batch(batch) is batch


@pytest.mark.parametrize(
    ("image", "got", "advice"),
    [
        (PIXELS[..., 0], r"uint8 \[6, 9\]", "grayscale image needs three channels"),
        (PIXELS[..., :1], r"uint8 \[6, 9, 1\]", "grayscale image needs three channels"),
        (PIXELS[..., [0, 1, 2, 0]], r"uint8 \[6, 9, 4\]", "RGBA image has to lose its alpha"),
        (PIXELS.transpose(2, 0, 1), r"uint8 \[3, 6, 9\]", "channels come last"),
        (PIXELS.astype(np.uint16), "uint16", "Scale 16 bits to 8"),
        (PIXELS.astype(np.int64), "int64", "Convert the values to 0..255 and the type to uint8"),
        (PIXELS > 99, "bool", "Values are 0..255"),
        (PIXELS / 255, "float64", "For values 0..1"),
        ((PIXELS / 255).astype(np.float16), "float16", "For values 0..1"),
        (np.full((2, 2, 3), np.nan), "float64", "NaN or infinite"),
        (np.full((2, 2, 3), -np.inf, np.float32), "float32", "NaN or infinite"),
        (np.zeros((0, 4, 3), np.float32), r"float32 \[0, 4, 3\]", "For values 0..1"),
        (PIXELS[np.newaxis], r"uint8 \[1, 6, 9, 3\]", "One image has 3 axes"),
        (np.zeros((5, 5, 2), np.uint8), r"uint8 \[5, 5, 2\]", "One image has 3 axes"),
        (np.zeros((), np.uint8), r"uint8 \[\]", "One image has 3 axes"),
        (PIXELS.tolist(), "list", "numpy.asarray"),
        (None, "NoneType", "Give an array, a PIL image or the path of a file"),
    ],
)
def test_says_what_arrived_and_how_to_convert_it(image: Any, got: str, advice: str) -> None:
    with pytest.raises(ImageError, match=rf"expected a uint8 array \[H, W, 3\].*got {got}.*{advice}"):
        check_image(image)


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0, 3), (0, 0, 3)])
def test_refuses_an_image_without_pixels(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"zero-size image \["):
        check_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (2, 0, 4, 3)])
def test_refuses_a_batch_without_pixels(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="at least one image of at least one pixel"):
        check_batch(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("images", "advice"),
    [
        (PIXELS, "a batch has 4"),
        ([PIXELS], "numpy.asarray"),
        (PIXELS.transpose(2, 0, 1)[np.newaxis], "channels come last"),
        (PIXELS[np.newaxis] / 255, "For values 0..1"),
    ],
)
def test_refuses_what_is_not_a_batch(images: Any, advice: str) -> None:
    with pytest.raises(ImageError, match=rf"\[N, H, W, 3\] in RGB order.*{advice}"):
        check_batch(images)


def test_the_advice_for_arrays_works() -> None:
    gray, deep, real = PIXELS[..., 0], PIXELS.astype(np.uint16) * 257, PIXELS / 255
    check_image(np.repeat(gray.reshape(*gray.shape[:2], 1), 3, 2))
    np.testing.assert_array_equal(check_image((deep / 257).round().astype("uint8"))[0], PIXELS)
    np.testing.assert_array_equal(check_image((real * 255).round().clip(0, 255).astype("uint8"))[0], PIXELS)
    np.testing.assert_array_equal(check_image(np.moveaxis(PIXELS.transpose(2, 0, 1), -3, -1))[0], PIXELS)


def saved(path: Path, picture: Image.Image, **options: Any) -> Path:
    picture.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGB", "png"), ("RGB", "bmp"), ("RGB", "webp"), ("RGB", "ppm")]
)
def test_reads_the_exact_pixels_of_lossless_files(tmp_path: Path, mode: str, suffix: str) -> None:
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(PIXELS), lossless=True)
    image = load_image(path)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    np.testing.assert_array_equal(image, PIXELS)


def test_a_grayscale_file_becomes_three_equal_channels(tmp_path: Path) -> None:
    image = load_image(saved(tmp_path / "a.png", Image.fromarray(PIXELS[..., 0])))
    np.testing.assert_array_equal(image, np.repeat(PIXELS[..., :1], 3, axis=2))


def test_a_black_and_white_file_becomes_0_and_255(tmp_path: Path) -> None:
    image = load_image(saved(tmp_path / "a.png", Image.fromarray(PIXELS[..., 0] > 127)))
    np.testing.assert_array_equal(image[..., 0], np.where(PIXELS[..., 0] > 127, 255, 0))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white(tmp_path: Path, mode: str) -> None:
    picture = Image.new("RGBA", (4, 2), (10, 10, 10, 255))
    picture.paste((10, 10, 10, 0), (0, 0, 2, 2))
    image = load_image(saved(tmp_path / "a.png", picture.convert(mode)))
    assert (image[:, :2] == 255).all()
    assert (image[:, 2:] == 10).all()


def test_a_palette_with_one_transparent_colour_is_laid_over_white(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    picture.putpalette([200, 0, 0, 0, 0, 200])
    for path in (
        saved(tmp_path / "a.gif", picture, transparency=0),
        saved(tmp_path / "a.png", picture, transparency=b"\x00\xff"),
    ):
        assert load_image(path).tolist() == [[[255, 255, 255], [0, 0, 200]]]


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bits_are_scaled_to_8(tmp_path: Path, suffix: str) -> None:
    picture = Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))
    image = load_image(saved(tmp_path / f"a.{suffix}", picture))
    assert image[0, :, 1].tolist() == [0, 1, 128, 255]
    assert image.shape == (1, 4, 3)


RAMP = np.arange(20, 236, dtype=np.uint8)[np.newaxis]


@pytest.mark.parametrize(
    "values",
    [
        RAMP.astype(np.uint16) * 257,
        RAMP.astype(np.int32),
        RAMP.astype(np.int32) * 257,
        RAMP.astype(np.float32),
        RAMP.astype(np.float32) / 255,
        np.zeros((2, 2), np.uint16),
        np.zeros((2, 2), np.float32),
    ],
    ids=["uint16", "int32 to 255", "int32 to 65535", "0..255", "0..1", "black uint16", "black float"],
)
def test_deep_gray_files_show_the_same_as_with_8_bits(tmp_path: Path, values: Any) -> None:
    image = load_image(saved(tmp_path / "a.tif", Image.fromarray(values)))
    np.testing.assert_array_equal(image[..., 0], RAMP if values.any() else np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("values", "got"),
    [
        (RAMP.astype(np.uint16) * 16, "to 3760: they may have 12 bits"),
        (RAMP.astype(np.uint16), "to 235: they may have 12 bits"),
        (RAMP.astype(np.int32) * 16, "to 3760: they may have 12 bits"),
        (RAMP.astype(np.int32) - 21, r"-1\.\.214"),
        (RAMP.astype(np.int32) * 65537, "15401195"),
        (RAMP / np.float32(200), r"0\.1\.\.1\.175"),
        (RAMP * np.float32(100), r"2000\.\.23500"),
        (RAMP - np.float32(21), r"-1\.\.214"),
        (np.full((2, 2), np.nan, np.float32), "nan"),
        (np.full((2, 2), np.inf, np.float32), "inf"),
    ],
)
def test_refuses_a_file_whose_range_is_unclear(tmp_path: Path, values: Any, got: str) -> None:
    path = saved(tmp_path / "a.tif", Image.fromarray(values))
    with pytest.raises(ImageError, match=rf"a\.tif: expected .*got .*{got}.*8 bits"):
        load_image(path)


def tiff(values: bytes, width: int, *, bits: int, white_is_zero: bool = False, signed: bool = False) -> bytes:
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: int(not white_is_zero), 273: 8, 277: 1, 278: 1}
    tags |= {279: len(values), 339: 2 if signed else 1}
    entries = b"".join(struct.pack("<HHII", number, 4, 1, value) for number, value in tags.items())
    head = b"II*\0" + struct.pack("<I", 8 + len(values))
    return head + values + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (tiff(bytes([0x00, 0x0F, 0xFF]), 2, bits=12), [0, 255]),
        (tiff(struct.pack("<2H", 0, 65535), 2, bits=16, white_is_zero=True), [255, 0]),
        (tiff(struct.pack("<2h", 0, 32767), 2, bits=16, signed=True), [0, 255]),
    ],
    ids=["12 bits", "white is zero", "signed"],
)
def test_believes_what_a_tiff_file_says_about_its_range(
    tmp_path: Path, content: bytes, shown: list[int]
) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    assert load_image(tmp_path / "a.tif")[0, :, 0].tolist() == shown


def test_a_pgm_file_is_scaled_by_the_white_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 4095 " + struct.pack(">2H", 0, 4095))
    assert load_image(tmp_path / "a.pgm")[0, :, 0].tolist() == [0, 255]


def png_16(colours: Any) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    head = struct.pack(">IIBBBBB", colours.shape[1], len(colours), 16, 2, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def test_refuses_colours_of_12_bits_in_16(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_16(PIXELS.astype(np.uint16) * 256))
    np.testing.assert_array_equal(load_image(path), PIXELS)
    path.write_bytes(png_16(PIXELS.astype(np.uint16) * 16))
    with pytest.raises(ImageError, match=r"a\.png: expected 16-bit values .*they may have 12 bits"):
        load_image(path)


def test_postscript_is_refused_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr("subprocess.check_call", lambda *given, **_: started.append(given))
    (tmp_path / "a.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(ImageError, match=r"a\.jpg: cannot be read as an image"):
        load_image(tmp_path / "a.jpg")
    assert not started


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "L", "RGB"])
def test_reads_jpeg_in_every_colour_space(tmp_path: Path, mode: str) -> None:
    picture = Image.new("RGB", (16, 16), (200, 200, 200)).convert(mode)
    image = load_image(saved(tmp_path / "a.jpg", picture, quality=95))
    assert image.shape == (16, 16, 3)
    assert np.abs(image.astype(int) - 200).max() <= 3


def test_applies_the_orientation_of_a_camera(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows are columns
    path = saved(tmp_path / "a.png", Image.fromarray(PIXELS), exif=exif)
    np.testing.assert_array_equal(load_image(path), np.rot90(PIXELS, -1))


def test_names_a_file_that_is_missing_or_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("missing.png", "notes.jpg", "empty.png", "."):
        with pytest.raises(ImageError, match=r"cannot be read as an image") as caught:
            load_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tiff", "bmp"])
def test_refuses_a_truncated_file(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(noise))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=rf"a\.{suffix}: cannot be read as an image"):
        load_image(path)


def test_names_a_damaged_file_whatever_its_decoder_raises(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.dds", Image.fromarray(PIXELS))
    content = bytearray(path.read_bytes())
    content[80:84] = bytes(4)  # pixel format flags that no file has: NotImplementedError in the decoder
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.dds: cannot be read as an image: Unknown pixel format"):
        load_image(path)


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_refuses_a_file_that_claims_absurdly_many_pixels(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(width, height))
    with pytest.raises(ImageError, match=r"bomb\.png"):
        load_image(path)


def encoded(suffix: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, suffix)
    return stream.getvalue()


FILES = {suffix: encoded(suffix) for suffix in ("jpeg", "png", "gif", "webp", "tiff", "bmp", "ppm")}


@given(
    suffix=st.sampled_from(sorted(FILES)),
    start=st.integers(0, 400),
    cut=st.integers(0, 20),
    junk=st.binary(max_size=20),
)
def test_any_damage_gives_an_image_or_an_image_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, start: int, cut: int, junk: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged.{suffix}"
    path.write_bytes(FILES[suffix][:start] + junk + FILES[suffix][start + cut :])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # decoders remark on odd metadata
        try:
            image = load_image(path)
        except ImageError:
            return
    assert image.dtype == np.uint8
    assert image.ndim == 3
