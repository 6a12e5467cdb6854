"""Batches: many images, of any sizes, in pieces that run together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ImageError
from zoo.models.image import check_batch, check_image

_IMAGES_PER_INFERENCE = 64  # images per inference; bounds memory

Images = NDArray[np.uint8] | Sequence[NDArray[np.uint8]]  # [N, H, W, 3], or [H, W, 3] each
Pieces = list[list[int]]
T = TypeVar("T")


def pieces_of(images: Images) -> Pieces:
    """Indices of images that run together: of one size, and not too many.

    Raises
    ------
    ImageError
        For anything that is no image; in a sequence its place is named.
    """
    by_size: dict[tuple[int, ...], list[int]] = {}
    if isinstance(images, np.ndarray):
        by_size[images.shape] = list(range(len(check_batch(images))))
    else:
        for i, image in enumerate(images):
            try:
                check_image(image)
            except ImageError as error:
                raise ImageError(f"image {i}: {error}") from None
            by_size.setdefault(image.shape, []).append(i)
    return [
        rows[first : first + _IMAGES_PER_INFERENCE]
        for rows in by_size.values()
        for first in range(0, len(rows), _IMAGES_PER_INFERENCE)
    ]


def run_pieces(run: Callable[[NDArray[np.uint8]], Sequence[T]], images: Images, pieces: Pieces) -> list[T]:
    """What `run` returns for batches ``[N, H, W, 3]``, one thing an image, in the order of the images."""
    found: dict[int, T] = {}
    for rows in pieces:
        if isinstance(images, np.ndarray):
            batch = images[rows[0] : rows[-1] + 1]
        else:
            batch = np.stack([images[i] for i in rows])
        found.update(zip(rows, run(batch), strict=True))
    return [found[i] for i in range(len(found))]
