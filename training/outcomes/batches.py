"""Batches of a profile: images that fit into memory together, read while the models work on others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.images import LabelledImages
from zoo.errors import DataError, ModelError
from zoo.inputs.kind import Batch as Inputs
from zoo.inputs.kind import InputKind, Item

Values = NDArray[Any]  # [n, width]
Call = Callable[[Inputs], Values]
Stacks = list[tuple[list[int], Inputs]]  # per size of an input: places in the batch, the inputs

_ALL_PIXELS = 2**24  # of a batch times models: each keeps the memory of its largest batch, 20 bytes a pixel
_LEAST_PIXELS = 2**20
_NO_MEMORY = ("allocate memory", "bad_alloc", "bad allocation", "out of memory")


class Batch(NamedTuple):
    """Images that run together."""

    first: int  # place of its first image among the members
    size: int
    pixels: int
    stacks: Stacks
    of_images: dict[str, Values]  # features and pixels, where wanted


def pixels_per_batch(models: int) -> int:
    """How many pixels a batch may have; a larger image is a batch alone."""
    return max(_LEAST_PIXELS, _ALL_PIXELS // max(1, models))


class Batches:
    """Decoded images of some members of `data`, in order.

    Parameters
    ----------
    size, pixels
        Images and pixels of a batch at most.
    of_images
        What is computed of the images themselves: name → function of ``[N, H, W, 3]``.
    """

    def __init__(
        self,
        data: LabelledImages,
        members: NDArray[np.intp],
        *,
        size: int,
        pixels: int,
        of_images: Mapping[str, Call],
    ) -> None:
        self._data, self._members, self._of_images = data, members, of_images
        self.size, self._pixels = size, pixels
        self._refused = False

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(1) as reader:
            first = 0
            upcoming: Future[Batch] | None = None
            while first < len(self._members):
                upcoming = upcoming or reader.submit(self._prepare, first)
                try:
                    batch = upcoming.result()
                except Exception as error:
                    upcoming = None
                    if not is_out_of_memory(error):
                        raise
                    self._halve(first, min(self.size, len(self._members) - first), error)
                    continue
                after, upcoming = first + batch.size, None
                if after < len(self._members) and batch.pixels <= self._pixels:
                    upcoming = reader.submit(self._prepare, after)
                yield batch
                del batch
                if self._refused:
                    self._refused, upcoming = False, None
                else:
                    first = after

    def refuse(self, batch: Batch, error: Exception) -> None:
        """Bring the images of `batch` again in smaller batches: there was no memory for it.

        Raises
        ------
        DataError
            When it has one image only.
        """
        self._halve(batch.first, batch.size, error)
        self._refused = True

    def _halve(self, first: int, size: int, error: Exception) -> None:
        if size == 1:
            sample = self._data.ids[self._members[first]]
            raise DataError(
                f"expected memory for one image at a time, got none for sample {sample!r}. Make the images "
                "smaller, or free some memory, and run the same command again; it continues."
            ) from error
        self.size = size // 2
        text = f"Not enough memory for {size} images at a time; going on with {self.size}."
        tqdm.write(text, file=sys.stderr)

    def _prepare(self, first: int) -> Batch:
        images: list[Item] = []
        pixels = 0
        for member in self._members[first : first + self.size]:
            image = self._data.image(int(member))
            area = self._data.kind.area(image)
            if images and pixels + area > self._pixels:
                break
            images.append(image)
            pixels += area
        stacks = stacked(images, self._data.kind)
        made = {name: in_order(stacks, call) for name, call in self._of_images.items()}
        return Batch(first, len(images), pixels, stacks, made)


def in_order(stacks: Stacks, call: Call) -> Values:
    """Call once for every image size and put the rows back in the order of the batch."""
    if len(stacks) == 1:
        return call(stacks[0][1])
    rows: dict[int, NDArray[Any]] = {}
    for places, images in stacks:
        rows.update(zip(places, call(images), strict=True))
    return np.stack([rows[place] for place in sorted(rows)])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether numpy, a decoder or ONNX Runtime found no memory; the last says so in words only."""
    if isinstance(error, MemoryError):
        return True
    cause = error.__cause__ if isinstance(error, ModelError) else error
    return cause is not None and any(sign in str(cause) for sign in _NO_MEMORY)


def stacked(images: Sequence[Item], kind: InputKind) -> Stacks:
    """Inputs of one shape together, with their places."""
    by_size: dict[tuple[Any, ...], list[int]] = {}
    for i, image in enumerate(images):
        by_size.setdefault(kind.shape(image), []).append(i)
    return [(places, kind.stack([images[i] for i in places])) for places in by_size.values()]
