"""Tensors of the Open Inference Protocol: arrays as bytes or JSON and back, each size checked before use."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from zoo.errors import ProtocolError

BYTES = "BYTES"  # each element: its length as 4 bytes, then itself
DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_DATATYPES = {dtype: name for name, dtype in DTYPES.items()}
_LARGEST_AXIS = 2**31 - 1


@dataclass(frozen=True)
class MessageLimits:
    """What a message of the other side may take.

    Examples
    --------
    >>> from zoo.remote.protocol import MessageLimits
    >>> MessageLimits(body_bytes=1000).tensors
    16
    """

    body_bytes: int = 64 * 1024 * 1024  # of the whole message, and of each array made of it
    header_bytes: int = 16 * 1024 * 1024  # of its JSON
    tensors: int = 16
    axes: int = 8  # of one tensor


LIMITS = MessageLimits()


@dataclass(frozen=True)
class Tensor:
    """A named array; elements of the datatype ``BYTES`` are ``bytes`` in an array of objects.

    Examples
    --------
    >>> import numpy as np
    >>> from zoo.remote.protocol import Tensor
    >>> Tensor("image", np.zeros((1, 2, 2, 3), np.uint8)).datatype
    'UINT8'
    """

    name: str
    values: NDArray[Any]

    @property
    def datatype(self) -> str:
        """Name of the datatype in the protocol; raises :class:`ProtocolError` where there is none."""
        if self.values.dtype == np.dtype(object):
            return BYTES
        found = _DATATYPES.get(self.values.dtype.newbyteorder("<"))
        if found is None:
            raise ProtocolError(
                f"tensor {self.name!r}: expected a datatype of the protocol, got {self.values.dtype}. "
                f"Convert it to one of {', '.join(DTYPES)}."
            )
        return found


def bytes_tensor(name: str, items: Sequence[bytes], shape: tuple[int, ...] | None = None) -> Tensor:
    """A tensor of the datatype ``BYTES``, ``[len(items)]`` unless `shape` says otherwise.

    Examples
    --------
    >>> from zoo.remote.protocol import bytes_tensor
    >>> bytes_tensor("image", [b"one", b"two"]).values.shape
    (2,)
    """
    values = np.empty(len(items), object)
    values[:] = list(items)
    return Tensor(name, values if shape is None else values.reshape(shape))


class Item(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A tensor in the JSON of a message."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: Any = None


def wrong(expected: str, got: str) -> ProtocolError:
    """An error that says what a message should have held."""
    return ProtocolError(
        f"expected a message of the Open Inference Protocol with {expected}, got {got[:300]}. "
        "Check the address, and that both sides speak version 2 of the protocol."
    )


def raw(tensor: Tensor) -> bytes:
    """The elements of a tensor, as they are sent in binary."""
    if tensor.datatype != BYTES:
        return tensor.values.astype(DTYPES[tensor.datatype], copy=False).tobytes()
    return b"".join(struct.pack("<I", len(item)) + item for item in tensor.values.flat)


def plain(tensor: Tensor) -> list[Any]:
    """The elements of a tensor, as they are sent in JSON; raises :class:`ProtocolError`."""
    if tensor.datatype == BYTES:
        try:
            return [item.decode() for item in tensor.values.flat]
        except UnicodeDecodeError as error:
            raise wrong("text where BYTES are sent as JSON", f"other bytes in {tensor.name!r}") from error
    if tensor.values.dtype.kind == "f" and not np.isfinite(tensor.values).all():
        raise wrong("finite numbers where a tensor is sent as JSON", f"others in {tensor.name!r}")
    values: list[Any] = tensor.values.ravel().tolist()
    return values


def tensors_of(items: Sequence[Item], rest: memoryview, limits: MessageLimits) -> tuple[Tensor, ...]:
    """The tensors that a header announces, out of it and the bytes after it."""
    if len(items) > limits.tensors:
        raise wrong(f"at most {limits.tensors} tensors", f"{len(items)}")
    if len({item.name for item in items}) != len(items):
        raise wrong("tensors of different names", "one name twice")
    found = []
    for item in items:
        count = _count(item, limits)
        size = (item.parameters or {}).get("binary_data_size")
        if size is None:
            values = _from_json(item, count)
        elif type(size) is not int or not 0 <= size <= len(rest) or item.data is not None:
            raise wrong(f"{item.name!r} within the {len(rest):,} bytes that are left", f"size {size!r}")
        else:
            values = _from_binary(item, count, rest[:size])
            rest = rest[size:]
        found.append(Tensor(item.name, values.reshape(item.shape)))
    if len(rest):
        raise wrong("nothing after its last tensor", f"{len(rest):,} bytes more")
    return tuple(found)


def _count(item: Item, limits: MessageLimits) -> int:
    """Elements of a tensor, when its shape and datatype are allowed."""
    if item.datatype != BYTES and item.datatype not in DTYPES:
        raise wrong(f"one of the datatypes {', '.join([*DTYPES, BYTES])}", repr(item.datatype[:40]))
    if len(item.shape) > limits.axes or not all(0 <= size <= _LARGEST_AXIS for size in item.shape):
        raise wrong(f"a shape of at most {limits.axes} axes for {item.name!r}", f"{list(item.shape)}")
    count = math.prod(item.shape)
    each = 4 if item.datatype == BYTES else DTYPES[item.datatype].itemsize
    if count * each > limits.body_bytes:
        raise wrong(f"{item.name!r} of at most {limits.body_bytes:,} bytes", f"shape {list(item.shape)}")
    return count


def _from_binary(item: Item, count: int, blob: memoryview) -> NDArray[Any]:
    if item.datatype == BYTES:
        if 4 * count > len(blob):
            raise wrong(f"{count:,} elements in {item.name!r} BYTES", "an end before")
        values = np.empty(count, object)
        values[:] = list(_split(item, count, blob))
        return values
    dtype = DTYPES[item.datatype]
    if len(blob) != count * dtype.itemsize:
        raise wrong(
            f"{count * dtype.itemsize:,} bytes for {item.name!r} {item.datatype} {list(item.shape)}",
            f"{len(blob):,}",
        )
    if dtype.kind == "b" and len(blob) and max(blob) > 1:
        raise wrong(f"0 and 1 in {item.name!r} BOOL", f"{max(blob)}")
    return np.frombuffer(blob, dtype)


def _split(item: Item, count: int, blob: memoryview) -> Iterator[bytes]:
    at = 0
    for _ in range(count):
        size = int.from_bytes(blob[at : at + 4], "little") if at + 4 <= len(blob) else len(blob)
        if at + 4 + size > len(blob):
            raise wrong(f"{count:,} elements in {item.name!r} BYTES", "an end before")
        yield bytes(blob[at + 4 : at + 4 + size])
        at += 4 + size
    if at != len(blob):
        raise wrong(f"{count:,} elements in {item.name!r} BYTES", f"{len(blob) - at:,} bytes more")


def _from_json(item: Item, count: int) -> NDArray[Any]:
    """Numbers that were sent as JSON, flat or nested; each is of its datatype and in its range."""
    flat = list(_flat(item.data, count, item))
    if len(flat) != count:
        raise wrong(f"{count:,} values for {item.name!r} {list(item.shape)}", f"{len(flat):,}")
    if item.datatype == BYTES:
        values = np.empty(count, object)
        values[:] = [one.encode() if isinstance(one, str) else one for one in flat]
        kinds: tuple[type, ...] = (str,)
    else:
        dtype = DTYPES[item.datatype]
        kinds = {"b": (bool,), "f": (int, float)}.get(dtype.kind, (int,))
    if not all(type(one) in kinds for one in flat):
        raise wrong(f"values of {item.datatype} in {item.name!r}", "others")
    if item.datatype == BYTES:
        return values
    try:
        with np.errstate(over="ignore"):  # then infinite, which whoever asked judges
            return np.array(flat, dtype)
    except OverflowError as error:
        raise wrong(f"values of {item.datatype} in {item.name!r}", str(error)) from error


def _flat(data: Any, most: int, item: Item) -> Iterator[Any]:
    """The values of nested lists, in order, one more than `most` at most."""
    if not isinstance(data, list):
        raise wrong(f"a list of data or binary_data_size for {item.name!r}", "neither")
    waiting, there = [iter(data)], 0
    while waiting:
        for one in waiting[-1]:
            if isinstance(one, list):
                waiting.append(iter(one))
                break
            yield one
            there += 1
            if there > most:
                return
        else:
            waiting.pop()
