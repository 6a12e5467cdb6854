"""What differs between kinds of input: an interface with one class a kind, and how records name a kind.

Everything else in zooselect handles *items* (single inputs) and *batches* (several inputs of one shape, at
least one) without looking inside. A batch has a length, rows that can be picked by slices or lists of
indices, a ``shape`` and ``nbytes``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError
from zoo.inputs.record import InputRecord as InputRecord

Item: TypeAlias = Any  # one input, as the kind's `item` returns it
Batch: TypeAlias = Any
Size: TypeAlias = tuple[int, int]  # height and width in pixels; of other kinds 1 and their length

TYPES: Mapping[str, str] = {  # type of numpy → type of ONNX Runtime
    "bool": "tensor(bool)",
    "uint8": "tensor(uint8)",
    "int8": "tensor(int8)",
    "int16": "tensor(int16)",
    "int32": "tensor(int32)",
    "int64": "tensor(int64)",
    "float32": "tensor(float)",
    "float64": "tensor(double)",
}


@dataclass(frozen=True)
class GraphInput:
    """One input of a graph."""

    name: str
    type: str  # of numpy: a key of TYPES
    axes: tuple[int | str, ...]  # with the axis of the batch; free ones by a name

    def __str__(self) -> str:
        return f"{self.name} {self.type} [{', '.join(map(str, self.axes))}]"


@dataclass(frozen=True)
class InputKind(ABC):
    """A kind of input. Its fields are its settings, which records keep.

    A new kind is a class like this one under :func:`register`, and, where it is trained on, a
    :class:`training.features.kinds.FeatureKind` and environments of its own.
    """

    name: ClassVar[str]  # in records
    noun: ClassVar[str]  # in messages: "image"
    formats: ClassVar[str]  # of files, in words
    default_size: ClassVar[Size]  # of made-up items, where nobody says otherwise

    # what a graph takes

    @property
    @abstractmethod
    def inputs(self) -> tuple[GraphInput, ...]:
        """The inputs of every model and of every graph that looks at inputs."""

    def feeds(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """What a graph is given for a batch."""
        return {self.inputs[0].name: batch}

    def padding(self, name: str) -> float | None:
        """What fills the first axis of the graphs' input `name` where it may be shorter; None: it may not."""
        return None

    # what an application hands over

    @abstractmethod
    def item(self, given: Any) -> Item:
        """One input, checked; without a copy where that is possible.

        Raises
        ------
        InputError
            For anything else, with how to convert it, and for files that cannot be read.
        """

    @abstractmethod
    def batch(self, given: Any) -> Batch:
        """Several inputs in one array, checked; raises :class:`InputError`."""

    def one(self, given: Any) -> Batch:
        """A batch of one input; raises like :meth:`item`."""
        return self.item(given)[np.newaxis]

    def is_batch(self, given: Any) -> bool:
        """Whether it is meant as a batch, not as an iterable of inputs."""
        return isinstance(given, np.ndarray)

    def is_empty(self, given: Any) -> bool:
        """Whether it is a batch of this kind without any input, which is answered with nothing."""
        wanted = self.inputs[0]
        return (
            isinstance(given, np.ndarray)
            and given.dtype == wanted.type
            and given.ndim == len(wanted.axes)
            and not len(given)
        )

    def is_single(self, given: Any) -> bool:
        """Whether it is one input where several are asked for."""
        return isinstance(given, (str, Path, bytes, bytearray, memoryview))

    def single_words(self, given: Any) -> str:
        """What one input is called, where several are asked for."""
        return f"one {self.noun} ({type_name(given)})"

    error: ClassVar[type[InputError]] = InputError

    def stack(self, items: Sequence[Item]) -> Batch:
        """A batch of items of one :meth:`shape`."""
        return items[0][np.newaxis] if len(items) == 1 else np.stack(items)

    def rows(self, batch: Batch) -> Sequence[Item]:
        """The items of a batch."""
        return [*batch]

    def shape(self, item: Item) -> tuple[Any, ...]:
        """Items whose shapes are equal can run together."""
        found: tuple[Any, ...] = item.shape
        return found

    def area(self, item: Item) -> int:
        """How many numbers or pixels it has: what memory and time of a run grow with."""
        return int(item.size)

    def shortened(self, item: Item, ends: tuple[int, int]) -> Item:
        """Its beginning and end, of such lengths, where models see no more of it; all of it by default."""
        return item

    def content(self, item: Item) -> tuple[bytes, ...]:
        """What an item is made of, for digests."""
        return (str(item.shape).encode(), np.ascontiguousarray(item).tobytes())

    # files

    @abstractmethod
    def is_file_name(self, name: str) -> bool:
        """Whether a file of this name is read where a folder is searched."""

    @abstractmethod
    def load(self, path: str | Path) -> Item:
        """One input from a file; raises :class:`InputError` that names it."""

    # made-up inputs, for timing, self-tests and checks

    @abstractmethod
    def size(self, item: Item) -> Size:
        """The size that latency tables note."""

    @abstractmethod
    def random(self, size: Size, rng: np.random.Generator) -> Item:
        """An item of random content."""

    @abstractmethod
    def reference(self, size: Size) -> Item:
        """The item that models are tested with on every device: whole numbers, the same in every version."""

    def made(self) -> list[Item]:
        """Items of several sizes or contents, on which what was written is compared with what it is to do."""
        rng = np.random.default_rng(0)
        return [self.reference(self.default_size), *(self.random(self.default_size, rng) for _ in range(4))]

    def parse_size(self, text: str) -> Size:
        """The size that an option says; raises :class:`InputError`."""
        try:
            length = int(text)
        except ValueError:
            length = 0
        if not 1 <= length <= 2**26:
            raise InputError(f"expected a length such as {self.default_size[1]}, got {text!r}.")
        return 1, length

    # records

    @property
    def record(self) -> InputRecord | None:
        """How cards name it; None for images, which they do not name."""
        return InputRecord(kind=self.name, settings=asdict(self))

    def __str__(self) -> str:
        settings = ", ".join(f"{key} {value}" for key, value in asdict(self).items() if value is not None)
        return f"{self.name} ({settings})" if settings else self.name


Kind = TypeVar("Kind", bound=type[InputKind])
_REGISTERED: dict[str, type[InputKind]] = {}


def register(kind: Kind) -> Kind:
    """Make a kind known, so that records can name it; a decorator."""
    _REGISTERED[kind.name] = kind
    return kind


def registered(name: str) -> type[InputKind]:
    """The kind with this name; raises ValueError, which says which there are."""
    if name not in _REGISTERED:
        raise ValueError(
            f"expected a kind of input among {', '.join(sorted(_REGISTERED))}, got {name!r}; "
            "a newer zooselect may know it"
        )
    return _REGISTERED[name]


def type_name(value: Any) -> str:
    """What something is, in words, for errors."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__
