"""Inputs that are no images, as a server takes them: the arrays of a kind, cut, filled and converted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ModelError
from zoo.inputs.kind import GraphInput, InputKind
from zoo.inputs.tensors import Taken, Tensors, tensors_for
from zoo.remote.descriptor import SentArray
from zoo.remote.protocol import DTYPES, Tensor, TensorMetadata

OTHER = "Only classifiers of images, signals and arrays of numbers can be asked."
WHITE_SPACE = b"\t\n\v\f\r "  # of ASCII


@dataclass(frozen=True)
class Ends:
    """What a network takes of a signal; zeros: all of it.

    Examples
    --------
    >>> from zoo.remote.arrays import Ends
    >>> Ends(first=512, last=512, pad=256).width
    1024
    """

    first: int = 0  # samples of the beginning
    last: int = 0  # samples of the end, after those
    pad: float = 0.0  # what fills one that is too short
    strip: int = 0  # of bytes: white space at the outer ends of so many of the first and last is left out

    @property
    def width(self) -> int:
        """Samples that it takes."""
        return self.first + self.last


WHOLE = Ends()


def array_tensors(arrays: Sequence[SentArray], feeds: Mapping[str, NDArray[Any]]) -> tuple[Tensor, ...]:
    """The inputs of a request for the arrays ``[N, …]`` of a batch, by name.

    Examples
    --------
    >>> import numpy as np
    >>> from zoo.remote.arrays import array_tensors
    >>> from zoo.remote.descriptor import SentArray
    >>> sent = SentArray(array="signal", name="x", datatype="INT32", shape=(4,), first=2, last=2, pad=-1)
    >>> array_tensors([sent], {"signal": np.array([[5, 6, 7]], np.uint8)})[0].values.tolist()
    [[5, 6, 6, 7]]
    """
    return tuple(Tensor(one.name, _sent(one, feeds[one.array])) for one in arrays)


def arrays_for(
    name: str, kind: InputKind, inputs: Sequence[TensorMetadata], ends: Ends
) -> tuple[SentArray, ...]:
    """How a batch of `kind` becomes the inputs of the model `name` on a server.

    An input takes the array of its name, or the only one there is. Its axes are those of the array, but for
    axes of one element; numbers are converted, whole ones also to real ones.

    Parameters
    ----------
    ends
        What is taken of an array whose first axis may be of any length.

    Raises
    ------
    ModelError
        When they do not fit; the message says why.
    """
    arrays = {one.name: one for one in kind.inputs}
    alone = len(inputs) == 1 and len(arrays) == 1
    found = [_array_for(name, kind, one, arrays, alone, ends) for one in inputs]
    names = [one.array for one in found]
    if len(set(names)) != len(names):
        raise ModelError(f"remote model {name!r}: expected inputs of distinct names, got {', '.join(names)}.")
    return tuple(found)


def tensors_there(
    name: str, inputs: Sequence[TensorMetadata], *, length: int | None = None, pad: float = 0.0
) -> Tensors:
    """What a model takes, as a kind of input: for the first model of a zoo.

    Parameters
    ----------
    length
        Where the axis after that of the batch is free: how long it may be at most. What is shorter is filled.
    pad
        With what.

    Raises
    ------
    ModelError
        When an axis is free and no length is given, or an input holds no numbers.

    Examples
    --------
    >>> from zoo.remote.arrays import tensors_there
    >>> from zoo.remote.protocol import TensorMetadata
    >>> tokens = TensorMetadata(name="tokens", datatype="INT32", shape=(-1, -1))
    >>> str(tensors_there("m", [tokens], length=128))
    'tensors (tokens int32 [1 to 128])'
    """
    whose, taken = f"remote model {name!r}", []
    for source in inputs:
        shown = f"an input {source.name!r} {source.datatype} {list(source.shape)}"
        if source.datatype not in DTYPES:
            raise ModelError(f"{whose}: expected numbers, got {shown}. {OTHER}")
        axes = tuple(None if size == -1 else size for size in source.shape[1:])
        taken.append(Taken(source.name, DTYPES[source.datatype].name, axes, shown))
    return tensors_for(
        whose, taken, length=length, pad=pad, otherwise=OTHER, rename="Rename the tensor there."
    )


def _array_for(
    name: str,
    kind: InputKind,
    source: TensorMetadata,
    arrays: Mapping[str, GraphInput],
    alone: bool,
    ends: Ends,
) -> SentArray:
    shape = source.shape[1:]
    got = f"an input {source.name!r} {source.datatype} {list(source.shape)}"
    array = arrays.get(source.name) or (next(iter(arrays.values())) if alone else None)
    if array is None:
        raise ModelError(
            f"remote model {name!r}: expected inputs among {'; '.join(map(str, arrays.values()))}, got "
            f"{got}. Give the tensors there these names, or add it to another zoo: --zoo FOLDER."
        )
    scale = _scale(name, array, source.datatype, got)
    mine = [size for size in array.axes[1:] if size != 1]
    there = [size for size in shape if size != 1]
    taken = ends if _is_free(array) else WHOLE
    if there and mine and len(mine) == len(there):
        first, fixed = mine[0], there[0]
        pad = kind.padding(array.name)
        if isinstance(first, int) and pad is not None and 0 < fixed < first:
            taken, mine = Ends(first=fixed, pad=pad), [fixed, *mine[1:]]
        elif not isinstance(first, int) and taken.width:
            mine = [taken.width, *mine[1:]]
    if taken.width and -1 in there[:1]:  # nothing is filled, and white space is the server's affair
        if taken.strip:
            raise ModelError(
                f"remote model {name!r}: expected a network of a fixed size for --strip, got {got}. "
                "Leave it out."
            )
        taken = Ends(taken.first, taken.last)
    fits = len(mine) == len(there) and all(
        have == -1 or have == want for have, want in zip(there, mine, strict=True)
    )
    if not fits:
        advice = (
            "Say what it takes of a signal with --first and --last."
            if _is_free(array)
            else "Add it to another zoo: --zoo FOLDER."
        )
        raise ModelError(f"remote model {name!r}: expected an input for {array}, got {got}. {advice}")
    dtype = DTYPES[source.datatype]
    if taken.width and not _holds(dtype, taken.pad):
        raise ModelError(
            f"remote model {name!r}: expected a padding that {source.datatype} holds, got {taken.pad:g}. "
            "Correct --pad."
        )
    return SentArray(
        array=array.name,
        name=source.name,
        datatype=source.datatype,
        shape=shape,
        first=taken.first,
        last=taken.last,
        pad=taken.pad,
        strip=taken.strip,
        scale=scale,
    )


def _scale(name: str, array: GraphInput, datatype: str, got: str) -> float:
    """What numbers are multiplied by; raises where they cannot be converted."""
    if datatype not in DTYPES or (array.type.startswith("float") and DTYPES[datatype].kind != "f"):
        wanted = "real numbers" if array.type.startswith("float") else "numbers"
        raise ModelError(f"remote model {name!r}: expected an input of {wanted} for {array}, got {got}.")
    # sound, which networks take from -1 to 1
    return 1 / 32768 if array.type == "int16" and _is_free(array) and DTYPES[datatype].kind == "f" else 1.0


def _is_free(array: GraphInput) -> bool:
    return len(array.axes) > 1 and not isinstance(array.axes[1], int)


def _holds(dtype: np.dtype[Any], pad: float) -> bool:
    if dtype.kind == "f":
        return True
    if dtype.kind == "b":
        return pad in (0, 1)
    span = np.iinfo(dtype)
    return pad == int(pad) and span.min <= pad <= span.max


def _sent(one: SentArray, values: NDArray[Any]) -> NDArray[Any]:
    dtype = DTYPES[one.datatype]
    if one.first or one.last:
        values = _ended(one, values, fixed=-1 not in one.shape)
    if one.scale != 1.0:
        values = values.astype(np.float32) * np.float32(one.scale)
    values = values.astype(dtype, copy=False)
    if one.shape.count(-1) < 2:  # with axes of one element, as the server has them
        values = values.reshape(len(values), *one.shape)
    return np.ascontiguousarray(values)


def _ended(one: SentArray, values: NDArray[Any], *, fixed: bool) -> NDArray[Any]:
    """The first and the last numbers of the first axis, padded where the server takes a fixed number."""
    length, width = values.shape[1], one.first + one.last
    if not fixed:
        return (
            values
            if length <= width
            else np.concatenate([values[:, : one.first], values[:, length - one.last :]], axis=1)
        )
    kind = np.float64 if values.dtype.kind == "f" else np.int64  # a padding may be no byte
    made = np.full((len(values), width, *values.shape[2:]), one.pad, kind)
    for row, found in zip(made, values, strict=True):
        begin, end = found[: one.strip or one.first], found[max(0, length - (one.strip or one.last)) :]
        if one.strip:
            begin = np.frombuffer(begin.tobytes().lstrip(WHITE_SPACE), np.uint8)
            end = np.frombuffer(end.tobytes().rstrip(WHITE_SPACE), np.uint8)
        if one.first:
            begin = begin[: one.first]
            row[: len(begin)] = begin
        if one.last:
            end = end[-one.last :]
            row[width - len(end) :] = end
    return made
