"""The image that every published model is tested with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def reference_image(height: int, width: int) -> NDArray[np.uint8]:
    """The image ``[height, width, 3]``: a smooth pattern of colours under a fine, repeatable texture.

    Whole numbers only, so that it is the same on every device and in every version.
    """
    y, x = np.mgrid[0:height, 0:width].astype(np.uint32)
    down, right = y * 191 // max(height - 1, 1), x * 191 // max(width - 1, 1)
    smooth = np.stack([right, down, 191 - (right + down) // 2], axis=-1)
    mixed = (x * np.uint32(2654435761)) ^ (y * np.uint32(2246822519))  # wraps at 2**32
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(3266489917)
    texture = np.stack([mixed >> np.uint32(26), mixed >> np.uint32(20), mixed >> np.uint32(14)], axis=-1) & 63
    image: NDArray[np.uint8] = (smooth + texture).astype(np.uint8)
    return image
