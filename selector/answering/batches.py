"""Batches: many images, of any sizes, in pieces that run together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ImageError, LimitError, NotFiniteError
from zoo.models.image import ImageLike, check_batch, check_image, is_picture
from zoo.models.image_advice import no_image

# These bound memory.
_IMAGES_PER_INFERENCE = 64
_BYTES_PER_INFERENCE = 2**26
_IMAGES_TOGETHER = 1024  # that a policy decides about together
_IMAGES_IN_MEMORY = 256  # of an iterable, which may read files
_BYTES_IN_MEMORY = 2**28

Images: TypeAlias = "NDArray[np.uint8] | Iterable[ImageLike]"  # [N, H, W, 3], or any number of single images
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Portion:
    """Some of the images of a batch, and which of them run together."""

    images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]  # [N, H, W, 3], or [1, H, W, 3] each
    pieces: list[list[int]]  # indices of images of one size, ascending, that are decided together
    first: int  # place of its first image in the batch


Batch: TypeAlias = "NDArray[np.uint8] | Portion"  # [N, H, W, 3] that run together, or a portion in its pieces


def portions(images: Images) -> Iterator[Portion]:
    """The images in portions, of which one at a time is in memory where they are read from an iterable.

    Raises
    ------
    ImageError
        For anything that is no image; in an iterable its place is named.
    """
    if isinstance(images, np.ndarray):
        if images.dtype == np.uint8 and images.ndim == 4 and not len(images):
            return
        every = list(range(len(check_batch(images))))
        yield Portion(images, _pieces(every, images[0].nbytes), 0)
        return
    first, held, size = 0, list[NDArray[np.uint8]](), 0
    for i, image in enumerate(_singles(images)):
        try:
            held.append(check_image(image))
        except ImageError as error:
            raise ImageError(f"image {i}: {error}") from error
        size += held[-1].nbytes
        if len(held) >= _IMAGES_IN_MEMORY or size >= _BYTES_IN_MEMORY:
            yield _portion(held, first)
            first, held, size = i + 1, [], 0
    if held:
        yield _portion(held, first)


def run_pieces(run: Callable[[NDArray[np.uint8]], Sequence[T]], portion: Portion) -> list[T]:
    """What `run` returns for batches ``[N, H, W, 3]``, one thing an image, in the order of the images.

    Raises
    ------
    NotFiniteError
        When there is no answer to one of the images; its place is named.
    """
    images, found = portion.images, dict[int, T]()
    for rows in portion.pieces:
        if isinstance(images, np.ndarray):
            batch = images[rows[0] : rows[-1] + 1]
        else:
            batch = np.concatenate([images[i] for i in rows])
        try:
            found.update(zip(rows, run(batch), strict=True))
        except LimitError:
            if len(rows) == 1:
                raise
            alone = (run(image[np.newaxis])[0] for image in batch)  # they may be too many, and none too much
            found.update(zip(rows, alone, strict=True))
        except NotFiniteError:
            for row, image in zip(rows, batch, strict=True):
                try:
                    run(image[np.newaxis])
                except NotFiniteError as error:
                    raise NotFiniteError(f"image {portion.first + row}: {error}") from error
            raise
    return [found[i] for i in range(len(found))]


def _singles(images: Iterable[ImageLike]) -> Iterable[ImageLike]:
    """The images one by one, where they are several."""
    if isinstance(images, str | os.PathLike) or is_picture(images):
        got = "a PIL image" if is_picture(images) else f"the path {os.fspath(images)!r}"  # type: ignore[call-overload]
        raise ImageError(
            f"expected several images, got {got}. Put it in a list, or call predict or select for one image."
        )
    if isinstance(images, bytes | bytearray | memoryview) or hasattr(images, "__array__"):
        raise no_image(images, "[N, H, W, 3]")
    try:
        return iter(images)
    except TypeError:
        raise no_image(images, "[N, H, W, 3]") from None


def _portion(images: list[NDArray[np.uint8]], first: int) -> Portion:
    by_size: dict[tuple[int, ...], list[int]] = {}
    for i, image in enumerate(images):
        by_size.setdefault(image.shape, []).append(i)
    pieces = [piece for rows in by_size.values() for piece in _pieces(rows, images[rows[0]].nbytes)]
    return Portion(images, pieces, first)


def _pieces(rows: list[int], image_bytes: int) -> list[list[int]]:
    """Indices of images of one size, cut so that no copy of them takes too much memory."""
    step = max(1, min(_IMAGES_TOGETHER, _BYTES_IN_MEMORY // image_bytes))
    return [rows[i : i + step] for i in range(0, len(rows), step)]


def per_inference(batch: NDArray[np.uint8]) -> int:
    """How many images of a batch ``[N, H, W, 3]`` may run at once.

    Examples
    --------
    >>> import numpy as np
    >>> per_inference(np.zeros((100, 32, 32, 3), np.uint8))
    64
    """
    return max(1, min(_IMAGES_PER_INFERENCE, _BYTES_PER_INFERENCE // int(batch[0].nbytes)))
