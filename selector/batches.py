"""Batches: many images, of any sizes, in pieces that run together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from selector.engine import Engine, Outcome
from zoo.errors import ImageError
from zoo.image import check_batch, check_image

_BATCH = 64  # images per inference; bounds memory

Images = NDArray[np.uint8] | Sequence[NDArray[np.uint8]]  # [N, H, W, 3], or [H, W, 3] each
Pieces = list[list[int]]


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
        rows[first : first + _BATCH] for rows in by_size.values() for first in range(0, len(rows), _BATCH)
    ]


def run_pieces(
    engine: Engine, images: Images, pieces: Pieces, threshold: float | None, *, answer: bool
) -> list[Outcome]:
    """Outcomes of all images, in their order; see :meth:`Engine.run`."""
    found: dict[int, Outcome] = {}
    for rows in pieces:
        if isinstance(images, np.ndarray):
            batch = images[rows[0] : rows[-1] + 1]
        else:
            batch = np.stack([images[i] for i in rows])
        found.update(zip(rows, engine.run(batch, threshold, answer=answer), strict=True))
    return [found[i] for i in range(len(found))]
