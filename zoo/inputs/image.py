"""Images at the edge: arrays are checked strictly, files are decoded to the one form that models take."""

from __future__ import annotations

import io
import math
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ImageError
from zoo.files import open_file
from zoo.inputs.image_advice import no_image
from zoo.inputs.image_files import FORMATS
from zoo.inputs.pixel_range import check_high_bytes, gray_in_8_bits, loses_low_bits

if TYPE_CHECKING:
    from PIL import Image

# uint8 [H, W, 3] in RGB order, a PIL image, or the path of an image file.
ImageLike: TypeAlias = "NDArray[np.uint8] | Image.Image | str | os.PathLike[str]"

_UINT8 = np.dtype(np.uint8)
MAX_PIXELS = 64_000_000  # of an image that is decoded: 8,000 × 8,000
_TOO_LARGE = "expected an image of at most {:,} pixels"
_ADVICE = "Make it smaller; in Python, load_image(path, max_pixels=…) reads larger ones."


def check_image(image: Any) -> NDArray[np.uint8]:
    """One image as uint8 ``[1, H, W, 3]``, without a copy where that is possible.

    Parameters
    ----------
    image
        uint8 array ``[H, W, 3]`` in RGB order, a PIL image, or the path of a file for :func:`load_image`.

    Raises
    ------
    ImageError
        For anything else, with how to convert it, and for files that cannot be read.
    """
    if isinstance(image, np.ndarray) and image.dtype == _UINT8 and image.ndim == 3 and image.shape[2] == 3:
        if image.size:
            return image[np.newaxis]
        raise ImageError(f"expected at least one pixel, got a zero-size image {list(image.shape)}.")
    if isinstance(image, str | os.PathLike):
        return check_image(load_image(os.fspath(image)))
    if is_picture(image):
        return check_image(_pixels_of(image))
    raise no_image(image, "[H, W, 3]")


def is_picture(image: Any) -> bool:
    """Whether it is an image of Pillow, which is not imported for that."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def check_batch(images: Any) -> NDArray[np.uint8]:
    """A batch as uint8 ``[N, H, W, 3]``; raises :class:`ImageError` for anything else."""
    if (
        isinstance(images, np.ndarray)
        and images.dtype == np.uint8
        and images.ndim == 4
        and images.shape[3] == 3
    ):
        if images.size:
            return images
        raise ImageError(f"expected at least one image of at least one pixel, got {list(images.shape)}.")
    raise no_image(images, "[N, H, W, 3]")


def load_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode an image file to uint8 ``[H, W, 3]`` RGB.

    Grayscale becomes three equal channels, transparency is laid over white, and the orientation tag of a
    camera is applied. Deeper pixels are scaled to 8 bits by one rule:

    - 16 bits: 65535 is white. A TIFF file may declare fewer bits.
    - Whole numbers of 32 bits: values to 255 are taken as they are, higher ones as 16 bits.
    - Real numbers: values to 1 are taken as 0..1, higher ones as 0..255.

    Values that fit two of these are refused: 16 bits that stay below 4096, for instance, may be 12 bits.

    Parameters
    ----------
    max_pixels
        The largest width times height. It is checked before decoding, which takes up to 22 bytes a pixel: a
        file of a few bytes may hold a canvas of gigabytes.

    Raises
    ------
    ImageError
        When the file is missing, truncated, not an image, larger than `max_pixels` or of an unclear range of
        values; the file is named.

    Examples
    --------
    >>> from zoo import load_image
    >>> load_image("photos/red/1.png").shape
    (12, 12, 3)
    """
    try:
        with open_file(path) as stream, _opened(stream, max_pixels) as opened:
            return _decoded(opened, own=True)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    except Exception as error:  # every decoder has error classes of its own
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{path}: cannot be read as an image: {reason}.") from error


def decode_image(content: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """:func:`load_image` for the content of a file, uint8 ``[H, W, 3]`` RGB; raises :class:`ImageError`.

    Examples
    --------
    >>> from pathlib import Path
    >>> from zoo.inputs.image import decode_image
    >>> decode_image(Path("photos/red/1.png").read_bytes()).shape
    (12, 12, 3)
    """
    try:
        with io.BytesIO(content) as stream, _opened(stream, max_pixels) as opened:
            return _decoded(opened, own=True)
    except ImageError:
        raise
    except Exception as error:  # every decoder has error classes of its own
        raise ImageError(
            f"expected the content of an image file, got what cannot be read: {error}."
        ) from error


def encoded_pixels(content: bytes, *, max_pixels: int = MAX_PIXELS) -> int | None:
    """How many pixels a file's bytes say they hold, without decoding them; None where they are no image."""
    try:
        with io.BytesIO(content) as stream, _opened(stream, max_pixels) as opened:
            return math.prod(opened.size)
    except Exception:  # every decoder has error classes of its own
        return None


def _pixels_of(picture: Image.Image) -> NDArray[np.uint8]:
    try:
        _check_pixels(picture.size, MAX_PIXELS)
        return _decoded(picture, own=False)
    except ImageError as error:
        raise ImageError(f"PIL image: {error}") from error
    except Exception as error:  # it may be a file that is decoded only now
        raise ImageError(f"PIL image: cannot be read: {error}.") from error


def _opened(stream: IO[bytes], max_pixels: int) -> Image.Image:
    from PIL import Image, UnidentifiedImageError  # here, so that importing the package stays fast

    Image.init()
    try:
        opened = Image.open(stream, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError as error:
        raise ValueError(f"it is in none of the formats {', '.join(FORMATS)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{_TOO_LARGE.format(max_pixels)}, got more: {error} {_ADVICE}") from error
    _check_pixels(opened.size, max_pixels)
    return opened


def _check_pixels(size: tuple[int, int], most: int) -> None:
    if math.prod(size) > most:
        raise ImageError(f"{_TOO_LARGE.format(most)}, got {size[0]:,} × {size[1]:,}. {_ADVICE}")


def _decoded(opened: Image.Image, *, own: bool) -> NDArray[np.uint8]:
    """The pixels of an opened image, which is changed where it is our `own`: that spares a copy."""
    from PIL import Image, ImageOps

    cut = loses_low_bits(opened)
    if own:
        ImageOps.exif_transpose(opened, in_place=True)
    picture: Image.Image = opened if own else ImageOps.exif_transpose(opened)
    if picture.mode.startswith(("I", "F")):
        gray = gray_in_8_bits(np.asarray(picture), opened)
        return np.repeat(gray[:, :, np.newaxis], 3, axis=2)
    if cut:
        check_high_bytes(picture)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.new("RGBA", layer.size, "white")
        picture.alpha_composite(layer)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"), dtype=np.uint8)
