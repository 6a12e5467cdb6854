"""Images at the edge: arrays are checked strictly, files are decoded to the one form that models take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ImageError
from zoo.models.image_files import FORMATS
from zoo.models.pixel_range import check_high_bytes, gray_in_8_bits, loses_low_bits

if TYPE_CHECKING:
    from PIL import Image


def check_image(image: Any) -> NDArray[np.uint8]:
    """One image as uint8 ``[1, H, W, 3]``, without a copy where that is possible.

    Parameters
    ----------
    image
        uint8 array ``[H, W, 3]`` in RGB order.

    Raises
    ------
    ImageError
        For anything else; the message says how to convert it.
    """
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        if image.size:
            return image[np.newaxis]
        raise ImageError(f"expected at least one pixel, got a zero-size image {list(image.shape)}.")
    raise _explain(image, "[H, W, 3]")


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
    raise _explain(images, "[N, H, W, 3]")


def load_image(path: str | Path) -> NDArray[np.uint8]:
    """Decode an image file to uint8 ``[H, W, 3]`` RGB.

    Grayscale becomes three equal channels, transparency is laid over white, and the orientation tag of a
    camera is applied. Deeper pixels are scaled to 8 bits by one rule:

    - 16 bits: 65535 is white. A TIFF file may declare fewer bits.
    - Whole numbers of 32 bits: values to 255 are taken as they are, higher ones as 16 bits.
    - Real numbers: values to 1 are taken as 0..1, higher ones as 0..255.

    Values that fit two of these are refused: 16 bits that stay below 4096, for instance, may be 12 bits.

    Raises
    ------
    ImageError
        When the file is missing, truncated, not an image, larger than Pillow's limit (about 179 million
        pixels) or of an unclear range of values; the file is named.
    """
    try:
        with _opened(path) as opened:
            return _decoded(opened)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    except Exception as error:  # every decoder has error classes of its own
        raise ImageError(f"{path}: cannot be read as an image: {error}.") from error


def _opened(path: str | Path) -> Image.Image:
    from PIL import Image  # here, so that importing the package stays fast

    Image.init()
    return Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])


def _decoded(opened: Image.Image) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    cut = loses_low_bits(opened)
    picture: Image.Image = ImageOps.exif_transpose(opened)
    if picture.mode.startswith(("I", "F")):
        gray = gray_in_8_bits(np.asarray(picture), opened)
        return np.repeat(gray[:, :, np.newaxis], 3, axis=2)
    if cut:
        check_high_bytes(picture)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.new("RGBA", layer.size, "white")
        picture.alpha_composite(layer)
    return np.array(picture.convert("RGB"), dtype=np.uint8)


def _explain(image: Any, shape: str) -> ImageError:
    expected = f"expected a uint8 array {shape} in RGB order"
    if not isinstance(image, np.ndarray):
        return ImageError(
            f"{expected}, got {type(image).__name__}. Convert with numpy.asarray(picture.convert('RGB')) "
            "or read a file with zoo.load_image(path)."
        )
    got = f"{image.dtype} {list(image.shape)}"
    if image.dtype == np.uint16:
        advice = "Scale 16 bits to 8: (image / 257).round().astype('uint8')."
    elif np.issubdtype(image.dtype, np.floating):
        bad = image.size > 0 and not bool(np.isfinite(image).all())
        advice = (
            "It holds NaN or infinite values: repair them before converting to uint8."
            if bad
            else "For values 0..1: (image * 255).round().clip(0, 255).astype('uint8')."
        )
    elif image.dtype != np.uint8:
        advice = "Convert the values to 0..255 and the type to uint8."
    elif image.ndim == 2 or (image.ndim >= 3 and image.shape[-1] == 1):
        advice = (
            "A grayscale image needs three channels: numpy.repeat(image.reshape(*image.shape[:2], 1), 3, 2)."
        )
    elif image.ndim >= 3 and image.shape[-1] == 4:
        advice = "An RGBA image has to lose its alpha channel: image[..., :3]."
    elif image.ndim >= 3 and image.shape[-3] == 3:
        advice = "The channels come last: numpy.moveaxis(image, -3, -1)."
    else:
        advice = "One image has 3 axes (predict, select), a batch has 4 (predict_batch, select_batch)."
    return ImageError(f"{expected}, got {got}. {advice}")
