"""The grid of pixels that features read of an image; numpy alone, so that a worker starts quickly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def read_pixels(images: NDArray[np.uint8], grid: int) -> NDArray[np.uint8]:
    """The pixels ``[N, grid, grid, 3]`` that features of images uint8 ``[N, H, W, 3]`` depend on."""
    rows, columns = (
        np.minimum(pixel_places(grid) * (size - 1) // grid + np.arange(grid) % 2, size - 1)
        for size in images.shape[1:3]
    )
    return images[:, rows][:, :, columns]


def pixel_places(grid: int) -> NDArray[np.int64]:
    """Where the cell of each pixel begins ``[grid]``, in units of (size - 1) / grid; evenly spaced."""
    return (2 * np.arange(grid // 2) + 1).repeat(2)
