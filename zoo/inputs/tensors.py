"""Named arrays as a kind of input: rows of a table, tokens, embeddings, frames of several sensors."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError, ModelError
from zoo.inputs.image_files import ending, is_hidden
from zoo.inputs.kind import GraphInput, InputKind, InputRecord, Item, Size, register, type_name
from zoo.inputs.numpy_files import read_npz

NumberType = Literal["bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64"]
Rows: TypeAlias = NDArray[Any]  # structured: one field an array

MAX_ARRAYS = 16
MAX_NUMBERS = 2**24  # of one input
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,47}")  # of which features have longer ones
_STAND_INS: Mapping[str, NumberType] = {  # for numbers that no zoo holds
    "float16": "float32",
    "uint16": "int32",
    "uint32": "int64",
    "uint64": "int64",
}
_TAKEN = ("logits", "embedding", "features", "scores")  # what graphs give


@dataclass(frozen=True)
class Array:
    """One array of an input.

    Parameters
    ----------
    name
        Of the input of the graphs.
    shape
        Without the axis of the batch; () for one number.
    pad
        The first axis may be shorter, and is filled with this number; None: it may not.
    """

    name: str
    type: NumberType
    shape: tuple[int, ...] = ()
    pad: float | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in _TAKEN:
            raise ValueError(
                f"name: expected a letter, then up to 47 letters, digits, . _ - and none of "
                f"{', '.join(_TAKEN)}, got {self.name!r}"
            )
        if min(self.shape, default=1) < 1:
            raise ValueError(f"shape of {self.name}: expected sizes of at least 1, got {list(self.shape)}")
        if self.pad is not None and not self.shape:
            raise ValueError(f"pad of {self.name}: expected an array with axes, got one number")

    def __str__(self) -> str:
        sizes = [str(size) for size in self.shape]
        if self.pad is not None:
            sizes[0] = f"1 to {sizes[0]}"
        return f"{self.name} {self.type} [{', '.join(sizes)}]"


@register
@dataclass(frozen=True)
class Tensors(InputKind):
    """Named arrays of fixed types and shapes; the first axis of one may be shorter where its card says so.

    A batch is a structured array with a field for every name, so that inputs are compared, cut and joined as
    those of any kind.

    Examples
    --------
    >>> import numpy as np
    >>> from zoo.inputs.tensors import Array, Tensors
    >>> kind = Tensors((Array("tokens", "int64", (8,), pad=0), Array("length", "float32")))
    >>> one = kind.item({"tokens": np.array([5, 7]), "length": np.float32(2)})
    >>> one["tokens"].tolist()
    [5, 7, 0, 0, 0, 0, 0, 0]
    """

    name: ClassVar[str] = "tensors"
    noun: ClassVar[str] = "input"
    formats: ClassVar[str] = ".npz"

    arrays: tuple[Array, ...]

    def __post_init__(self) -> None:
        names = [one.name for one in self.arrays]
        if not 1 <= len(names) <= MAX_ARRAYS or len(set(names)) != len(names):
            raise ValueError(f"arrays: expected 1 to {MAX_ARRAYS} of distinct names, got {names}")
        if self.numbers > MAX_NUMBERS:
            raise ValueError(f"arrays: expected at most {MAX_NUMBERS:,} numbers, got {self.numbers:,}")

    @cached_property
    def numbers(self) -> int:
        """Of one input, in all arrays."""
        return sum(math.prod(one.shape) for one in self.arrays)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Of an item, and of the rows of a batch."""
        return np.dtype([(one.name, one.type, one.shape) for one in self.arrays], align=True)

    @property
    def default_size(self) -> Size:  # type: ignore[override]
        """1 and how many numbers one input has."""
        return 1, self.numbers

    @cached_property
    def _inputs(self) -> tuple[GraphInput, ...]:
        return tuple(GraphInput(one.name, one.type, ("N", *one.shape)) for one in self.arrays)

    @property
    def inputs(self) -> tuple[GraphInput, ...]:
        """One for each array."""
        return self._inputs

    def feeds(self, batch: Rows) -> dict[str, NDArray[Any]]:
        """The arrays ``[N, …]`` by name."""
        return {one.name: np.ascontiguousarray(batch[one.name]) for one in self.arrays}

    def padding(self, name: str) -> float | None:
        """Of the array of this name."""
        return next((one.pad for one in self.arrays if one.name == name), None)

    def item(self, given: Any) -> Rows:
        """One input: arrays by name, an array where there is but one, or the path of a ``.npz`` file."""
        if isinstance(given, np.ndarray | np.void) and given.dtype == self.dtype and given.ndim == 0:
            return np.asarray(given)
        if isinstance(given, str | os.PathLike):
            return self.load(os.fspath(given))
        return self._filled(self._named(given, ""), ())

    def batch(self, given: Any) -> Rows:
        """Several inputs: arrays ``[N, …]`` by name, or one array where there is but one."""
        if isinstance(given, np.ndarray) and given.dtype == self.dtype and given.ndim == 1 and len(given):
            return given
        named = self._named(given, "N, ")
        for one in self.arrays:
            _check_type(one, named[one.name])
        counts = {np.shape(value)[:1] for value in named.values()}
        if len(counts) != 1 or counts & {(), (0,)}:
            shapes = ", ".join(f"{name} {list(np.shape(value))}" for name, value in named.items())
            raise InputError(
                f"expected the same number of rows in each array, at least one, got {shapes}. "
                "One input goes to predict or select."
            )
        return self._filled(named, counts.pop())

    def is_batch(self, given: Any) -> bool:
        """Whether it is meant as a batch: arrays by name, or an array."""
        return isinstance(given, np.ndarray | Mapping)

    def is_empty(self, given: Any) -> bool:
        """Whether all its arrays have no rows."""
        arrays = [*given.values()] if isinstance(given, Mapping) else [given]
        return bool(arrays) and all(isinstance(one, np.ndarray) and one.shape[:1] == (0,) for one in arrays)

    def rows(self, batch: Rows) -> Sequence[Item]:
        """Each row as an array without axes."""
        return [batch[i, ...] for i in range(len(batch))]

    def area(self, item: Rows) -> int:
        """Numbers of one input."""
        return self.numbers

    def content(self, item: Rows) -> tuple[bytes, ...]:
        """The arrays, without what lies between them in memory."""
        return tuple(part for one in self.arrays for part in (str(one).encode(), item[one.name].tobytes()))

    def is_file_name(self, name: str) -> bool:
        """``.npz``."""
        return not is_hidden(name) and ending(name) == ".npz"

    def load(self, path: str | Path) -> Rows:
        """The arrays of a ``.npz`` file."""
        try:
            found = read_npz(path, self.dtype.itemsize + MAX_ARRAYS * 2**14)
            return self._filled(self._named(found, ""), ())
        except InputError as error:
            other = "" if self.is_file_name(Path(path).name) else f" Give a {self.formats} file of one input."
            raise InputError(f"{path}: {error}{other}") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from error

    def size(self, item: Rows) -> Size:
        """1 and how many numbers one input has."""
        return self.default_size

    def random(self, size: Size, rng: np.random.Generator) -> Rows:
        """Normal real numbers, and whole ones from 0 to 9, which most tables of tokens have."""
        made = np.zeros((), self.dtype)
        for one in self.arrays:
            whole = rng.integers(0, 2 if one.type == "bool" else 10, one.shape)
            made[one.name] = rng.normal(size=one.shape) if one.type.startswith("float") else whole
        return made

    def reference(self, size: Size) -> Rows:
        """Whole numbers from 0 to 7, or 0 and 1, in a fixed order."""
        made = np.zeros((), self.dtype)
        for one in self.arrays:
            steps = np.arange(math.prod(one.shape)).reshape(one.shape) * 5 % 8
            made[one.name] = steps % 2 if one.type == "bool" else steps
        return made

    @property
    def record(self) -> InputRecord | None:
        """How cards name it, as JSON gives it back."""
        settings = msgspec.json.decode(msgspec.json.encode({"arrays": self.arrays}))
        return InputRecord(kind=self.name, settings=settings)

    def __str__(self) -> str:
        return f"{self.name} ({'; '.join(map(str, self.arrays))})"

    def _named(self, given: Any, lead: str) -> Mapping[str, Any]:
        """What was given, by the names of the arrays."""
        if isinstance(given, np.ndarray) and given.dtype.names is None and len(self.arrays) == 1:
            return {self.arrays[0].name: given}
        names = [one.name for one in self.arrays]
        if not isinstance(given, Mapping):
            expected = ", ".join(f"{one.name!r}: array [{lead}…]" for one in self.arrays)
            raise InputError(
                f"expected arrays by name, {{{expected}}}, got {type_name(given)}. Give a dict of arrays"
                f"{' or the path of a .npz file' if not lead else ''}."
            )
        if set(given) != set(names):
            raise InputError(
                f"expected the arrays {', '.join(names)}, got {', '.join(map(str, given)) or 'none'}. "
                "Give exactly these."
            )
        return given

    def _filled(self, given: Mapping[str, Any], lead: tuple[int, ...]) -> Rows:
        made = np.zeros(lead, self.dtype)
        for one in self.arrays:
            value = given[one.name]
            _check_type(one, value)
            have = value.shape[len(lead) :]
            shorter = one.pad is not None and len(have) == len(one.shape) and 1 <= have[0] < one.shape[0]
            if have != one.shape and not (shorter and have[1:] == one.shape[1:]):
                raise InputError(
                    f"expected {one} for one input, got the shape {list(have)}. {_advice(one, have)}"
                )
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise InputError(
                    f"expected finite numbers in {one.name!r}, got NaN or infinity. "
                    "Fill gaps first, such as with numpy.nan_to_num."
                )
            if shorter:
                made[one.name] = one.pad
                made[one.name][(slice(None),) * len(lead) + (slice(have[0]),)] = value
            else:
                made[one.name] = value
        return made


def _check_type(one: Array, value: Any) -> None:
    if not isinstance(value, np.ndarray | np.generic) or value.dtype != one.type:
        raise InputError(
            f"expected {one.name!r} of the type {one.type}, got {type_name(value)}. Convert it: "
            f"numpy.asarray({one.name}, dtype='{one.type}')."
        )


def _advice(one: Array, have: tuple[int, ...]) -> str:
    """What to do about an array of another shape."""
    if one.pad is not None and len(have) == len(one.shape) and have[1:] == one.shape[1:]:
        return f"Give its first {one.shape[0]}." if have[0] else "Give at least one."
    if len(have) == len(one.shape) + 1:
        return "A batch goes to predict_batch or select_batch."
    return "Reshape it."


@dataclass(frozen=True)
class Taken:
    """What a network takes, in the words of its file or its server."""

    name: str
    numbers: str  # type, as numpy calls it
    axes: tuple[int | None, ...]  # without that of the batch; None: free
    shown: str


def tensors_for(
    whose: str, taken: Sequence[Taken], *, length: int | None, pad: float, otherwise: str, rename: str
) -> Tensors:
    """The kind of input that a network takes, for the first model of a zoo.

    Parameters
    ----------
    whose
        Network it is, for errors.
    length, pad
        How long an axis after that of the batch may be at most, where it is free, and what fills up to that.
    otherwise, rename
        What to do where another axis is free, and where a name is none for an array.

    Raises
    ------
    ModelError
        When an axis is free and no length is given, or what it takes makes no arrays.
    """
    arrays = []
    for one in taken:
        free = one.axes[:1] == (None,)
        if None in one.axes[free:] or (free and length is None):
            raise ModelError(
                f"{whose}: expected fixed sizes, but for the batch and the axis after it, got {one.shown}. "
                + ("Say how long that axis may be with --length." if free else otherwise)
            )
        sizes: Any = (length, *one.axes[1:]) if free else one.axes
        numbers: Any = _STAND_INS.get(one.numbers, one.numbers)
        try:
            arrays.append(Array(one.name, numbers, sizes, pad if free else None))
        except ValueError as error:
            raise ModelError(f"{whose}: {error}. {rename}") from error
    try:
        return Tensors(tuple(arrays))
    except ValueError as error:
        raise ModelError(f"{whose}: {error}.") from error
