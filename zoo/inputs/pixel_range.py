"""Which pixel value is white: files with more than 8 bits are scaled by one rule, or refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

MAX_8_BIT, MAX_16_BIT = 255, 65535
MIN_16_BIT = 4096  # when no value is as high, the picture may have 12 bits as well
MIN_REAL_8_BIT = 16  # real values between 1 and this may be 0..1 with an overshoot as well

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_WHITE_IS_ZERO, _SIGNED = 0, 2


def gray_in_8_bits(values: NDArray[Any], file: Image.Image) -> NDArray[np.uint8]:
    """Gray values of one channel as uint8.

    Parameters
    ----------
    values
        ``[H, W]``, integers or real numbers as the file holds them.
    file
        The opened file, which may declare the range.

    Raises
    ------
    ImageError
        When the range is unclear; the message says what to write into the file.
    """
    if np.issubdtype(values.dtype, np.floating):
        gray = _from_real(values)
    else:
        gray = _from_whole(values, _declared_white(file), wide=_tag(file, _BITS_PER_SAMPLE, 16) > 16)
    if _tag(file, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO:
        np.subtract(MAX_8_BIT, gray, out=gray)
    return gray


def loses_low_bits(file: Image.Image) -> bool:
    """Whether Pillow reads only the high byte of 16-bit channels; it no longer tells once it has decoded."""
    return not file.mode.startswith("I") and any(
        re.search(r";16[BLN]$", str(arguments if isinstance(arguments, str) else arguments[0]))
        for _, _, _, arguments in getattr(file, "tile", [])
        if arguments
    )


def check_high_bytes(picture: Image.Image) -> None:
    """Refuse a picture of high bytes that are all so low that its 16 bits may be 12."""
    bands = zip(picture.getbands(), picture.split(), strict=True)
    highest = max(int(np.asarray(band).max()) for name, band in bands if name not in ("A", "a"))
    if highest < MIN_16_BIT >> 8:
        raise _unclear_16_bits(f"below {(highest + 1) << 8}")


def _from_whole(values: NDArray[Any], white: int | None, *, wide: bool) -> NDArray[np.uint8]:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > (white or MAX_16_BIT):
        raise ImageError(
            f"expected gray values 0..{white or MAX_16_BIT}, got {low}..{high}. "
            "Scale them to 0..255, as 8 bits."
        )
    if white is None and high > 0:
        if wide and high <= MAX_8_BIT:
            white = MAX_8_BIT
        elif high < MIN_16_BIT:
            raise _unclear_16_bits(f"to {high}")
    # A table spares a copy of the picture in real numbers; row by row, one of indices as well.
    levels = np.rint(np.arange(MAX_16_BIT + 1) / ((white or MAX_16_BIT) / MAX_8_BIT))
    table = np.minimum(levels, MAX_8_BIT).astype(np.uint8)
    scaled = np.empty(values.shape, np.uint8)
    for row, gray in zip(values, scaled, strict=True):
        gray[:] = table[row]
    return scaled


def _from_real(values: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and (high <= 1 or MIN_REAL_8_BIT <= high <= MAX_8_BIT)):  # NaN is refused as well
        raise ImageError(
            f"expected real gray values 0..1, or 0..255 with some above {MIN_REAL_8_BIT}, "
            f"got {low:g}..{high:g}. Scale them to 0..255, as 8 bits."
        )
    scaled = values * np.float32(MAX_8_BIT if high <= 1 else 1)
    return np.rint(scaled, out=scaled).astype(np.uint8)


def _declared_white(file: Image.Image) -> int | None:
    if file.format in ("PPM", "JPEG2000"):  # they hold their range, and Pillow scales by it
        return MAX_16_BIT
    bits = _tag(file, _BITS_PER_SAMPLE, 16)
    signed = _tag(file, _SAMPLE_FORMAT, 1) == _SIGNED and bits <= 16
    return (1 << (bits - signed)) - 1 if bits < 16 or signed else None


def _tag(file: Image.Image, number: int, default: int) -> int:
    value: Any = getattr(file, "tag_v2", {}).get(number, default)
    return int(value[0] if isinstance(value, tuple) else value)


def _unclear_16_bits(got: str) -> ImageError:
    return ImageError(
        f"expected 16-bit values that use the range to {MAX_16_BIT}, got values {got}: they may have 12 bits "
        "or fewer. Scale them to 8 bits: for 12 bits, (image / 4095 * 255).round().astype('uint8')."
    )
