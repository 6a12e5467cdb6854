"""Batches: many images, of any sizes, in pieces that run together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError, LimitError, NotFiniteError
from zoo.inputs.kind import Batch as Rows
from zoo.inputs.kind import InputKind
from zoo.inputs.kinds import InputLike

_IMAGES_PER_INFERENCE = 64
_BYTES_PER_INFERENCE = 2**15  # of inputs: beyond it, what layers hand on does not stay in the caches
# These bound memory.
_IMAGES_TOGETHER = 1024  # that a policy decides about together
_IMAGES_IN_MEMORY = 256  # of an iterable, which may read files
_BYTES_IN_MEMORY = 2**28

# Images [N, H, W, 3], or any number of single images; of other kinds of input likewise.
Images: TypeAlias = "NDArray[Any] | Iterable[InputLike]"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Portion:
    """Some of the inputs of a batch, and which of them run together."""

    images: Rows | Sequence[Rows]  # together, or each as a batch of one
    together: bool
    pieces: list[list[int]]  # indices of inputs of one size, ascending, that are decided together
    first: int  # place of its first input in the batch
    noun: str  # what an input is called


Batch: TypeAlias = "Rows | Portion"  # inputs that run together, or a portion in its pieces


def portions(images: Images, kind: InputKind) -> Iterator[Portion]:
    """The inputs in portions, of which one at a time is in memory where they are read from an iterable.

    Raises
    ------
    InputError
        For anything that is none of this kind; in an iterable its place is named.
    """
    given: Any = images
    if kind.is_batch(given):
        if kind.is_empty(given):
            return
        batch = kind.batch(given)
        every = list(range(len(batch)))
        yield Portion(batch, True, _pieces(every, batch.nbytes // len(batch)), 0, kind.noun)
        return
    first, held, size = 0, list[Rows](), 0
    for i, image in enumerate(_singles(given, kind)):
        try:
            held.append(kind.one(image))
        except InputError as error:
            raise type(error)(f"{kind.noun} {i}: {error}") from error
        size += held[-1].nbytes
        if len(held) >= _IMAGES_IN_MEMORY or size >= _BYTES_IN_MEMORY:
            yield _portion(held, first, kind.noun)
            first, held, size = i + 1, [], 0
    if held:
        yield _portion(held, first, kind.noun)


def run_pieces(run: Callable[[Rows], Sequence[T]], portion: Portion) -> list[T]:
    """What `run` returns for batches, one thing an input, in the order of the inputs.

    Raises
    ------
    NotFiniteError
        When there is no answer to one of the inputs; its place is named.
    """
    images, found = portion.images, dict[int, T]()
    for rows in portion.pieces:
        cut = slice(rows[0], rows[-1] + 1)
        batch = images[cut] if portion.together else np.concatenate([images[i] for i in rows])
        try:
            found.update(zip(rows, run(batch), strict=True))
        except LimitError:
            if len(rows) == 1:
                raise
            # they may be too many, and none too much
            alone = (run(batch[i : i + 1])[0] for i in range(len(rows)))
            found.update(zip(rows, alone, strict=True))
        except NotFiniteError:
            for i, row in enumerate(rows):
                try:
                    run(batch[i : i + 1])
                except NotFiniteError as error:
                    raise NotFiniteError(f"{portion.noun} {portion.first + row}: {error}") from error
            raise
    return [found[i] for i in range(len(found))]


def _singles(images: Any, kind: InputKind) -> Iterable[Any]:
    """The inputs one by one, where they are several."""
    if kind.is_single(images):
        path = isinstance(images, str | os.PathLike)
        got = f"the path {os.fspath(images)!r}" if path else kind.single_words(images)
        raise kind.error(
            f"expected several {kind.noun}s, got {got}. "
            "Put it in a list, or call predict or select for one of them."
        )
    if isinstance(images, bytes | bytearray | memoryview) or hasattr(images, "__array__"):
        return [kind.batch(images)]  # which says what is wrong
    try:
        singles: Iterable[Any] = iter(images)
    except TypeError:
        return [kind.batch(images)]
    return singles


def _portion(images: list[Rows], first: int, noun: str) -> Portion:
    by_size: dict[tuple[int, ...], list[int]] = {}
    for i, image in enumerate(images):
        by_size.setdefault(image.shape, []).append(i)
    pieces = [piece for rows in by_size.values() for piece in _pieces(rows, images[rows[0]].nbytes)]
    return Portion(images, False, pieces, first, noun)


def _pieces(rows: list[int], image_bytes: int) -> list[list[int]]:
    """Indices of images of one size, cut so that no copy of them takes too much memory."""
    step = max(1, min(_IMAGES_TOGETHER, _BYTES_IN_MEMORY // image_bytes))
    return [rows[i : i + step] for i in range(0, len(rows), step)]


def per_inference(batch: Rows) -> int:
    """How many inputs of a batch may run at once.

    Examples
    --------
    >>> import numpy as np
    >>> [per_inference(np.zeros((9, side, side, 3), np.uint8)) for side in (8, 32, 224)]
    [64, 10, 1]
    """
    return max(1, min(_IMAGES_PER_INFERENCE, _BYTES_PER_INFERENCE // int(batch.nbytes // len(batch))))
