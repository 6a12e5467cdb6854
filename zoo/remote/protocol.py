"""The Open Inference Protocol, version 2, over HTTP: messages as bytes and back, both directions, bounded.

A message is a JSON header, then the tensors that are sent in binary (little-endian, row-major), one after the
other. The HTTP header ``Inference-Header-Content-Length`` says where the JSON ends; without it all is JSON.
What comes from the other side is checked before an array is made of it: nothing here trusts a size, a shape
or a count. See https://github.com/kserve/open-inference-protocol and its extension for binary tensors.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from zoo.errors import ProtocolError

HEADER_LENGTH = "Inference-Header-Content-Length"  # bytes of JSON before the first binary tensor
BINARY_EXTENSION = "binary_tensor_data"  # what a server names that understands them
JSON_TYPE = "application/json"
BINARY_TYPE = "application/octet-stream"
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
T = TypeVar("T")


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


@dataclass(frozen=True)
class InferRequest:
    """What a client asks of a model.

    Attributes
    ----------
    outputs
        Names of the outputs that are wanted; empty: all.
    binary_outputs
        Whether outputs come in binary; `binary_of` says otherwise for single ones.
    parameters
        What else is asked, such as the ``precision`` of a bundle; values are numbers, texts or bools.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] = ()
    binary_outputs: bool = True
    binary_of: Mapping[str, bool] = field(default_factory=dict)
    id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def wants_binary(self, output: str) -> bool:
        """Whether `output` is to come in binary."""
        return self.binary_of.get(output, self.binary_outputs)


@dataclass(frozen=True)
class InferResponse:
    """What a server answers."""

    model_name: str
    outputs: tuple[Tensor, ...]
    model_version: str = ""
    id: str = ""


@dataclass(frozen=True)
class Message:
    """A body to send, and the bytes of JSON at its begin; None: there is nothing else."""

    body: bytes
    header_length: int | None

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers that belong to the body."""
        if self.header_length is None:
            return {"Content-Type": JSON_TYPE}
        return {"Content-Type": BINARY_TYPE, HEADER_LENGTH: str(self.header_length)}


class TensorMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """An input or an output of a model; -1 in `shape` stands for any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says about a model. In `parameters` ours names the ``classes``, in their order."""

    name: str
    versions: tuple[str, ...] | None = None
    platform: str = ""
    inputs: tuple[TensorMetadata, ...] | None = None
    outputs: tuple[TensorMetadata, ...] | None = None
    parameters: dict[str, Any] | None = None


class ServerMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says about itself."""

    name: str
    version: str = ""
    extensions: tuple[str, ...] = ()


class _Error(msgspec.Struct, frozen=True):
    error: str


class _Item(msgspec.Struct, kw_only=True, omit_defaults=True):
    name: str
    shape: tuple[int, ...]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: Any = None


class _Wanted(msgspec.Struct, kw_only=True, omit_defaults=True):
    name: str
    parameters: dict[str, Any] | None = None


class _Request(msgspec.Struct, kw_only=True, omit_defaults=True):
    inputs: tuple[_Item, ...]
    outputs: tuple[_Wanted, ...] | None = None
    parameters: dict[str, Any] | None = None
    id: str | None = None


class _Response(msgspec.Struct, kw_only=True, omit_defaults=True):
    model_name: str
    outputs: tuple[_Item, ...]
    model_version: str | None = None
    id: str | None = None


def encode_infer_request(request: InferRequest, *, binary: bool = True) -> Message:
    """The message for `request`; without `binary`, for a server that knows JSON alone.

    Raises
    ------
    ProtocolError
        When a tensor has no form in the protocol.

    Examples
    --------
    >>> import numpy as np
    >>> from zoo.remote.protocol import InferRequest, Tensor, decode_infer_request, encode_infer_request
    >>> message = encode_infer_request(InferRequest((Tensor("x", np.float32([[1, 2]])),)))
    >>> decode_infer_request(message.body, message.header_length).inputs[0].values.tolist()
    [[1.0, 2.0]]
    """
    items, blobs = _items(request.inputs, lambda _: binary)
    wanted = tuple(
        _Wanted(name=name, parameters={"binary_data": request.wants_binary(name)}) for name in request.outputs
    )
    header = _Request(inputs=items, outputs=wanted or None, id=request.id or None)
    parameters = dict(request.parameters)
    if not wanted and request.binary_outputs:
        parameters["binary_data_output"] = True
    header.parameters = parameters or None
    return _message(header, blobs)


def decode_infer_request(
    body: bytes, header_length: int | str | None = None, *, limits: MessageLimits = LIMITS
) -> InferRequest:
    """The request in a body, and the value of its HTTP header ``Inference-Header-Content-Length``.

    Raises
    ------
    ProtocolError
        When it is none, or takes more than `limits`.
    """
    header, rest = _header(body, header_length, _Request, limits)
    asked = header.outputs or ()
    if len(asked) > limits.tensors:
        raise _wrong(f"at most {limits.tensors} outputs", f"{len(asked)}")
    parameters = header.parameters or {}
    binary_of = {}
    for one in asked:
        flag = (one.parameters or {}).get("binary_data")
        if isinstance(flag, bool):
            binary_of[one.name] = flag
    return InferRequest(
        inputs=_tensors(header.inputs, rest, limits),
        outputs=tuple(one.name for one in asked),
        binary_outputs=parameters.get("binary_data_output") is True,
        binary_of=binary_of,
        id=header.id or "",
        parameters={name: value for name, value in parameters.items() if name != "binary_data_output"},
    )


def encode_infer_response(response: InferResponse, *, request: InferRequest | None = None) -> Message:
    """The message for `response`, each output in the form that `request` wants; without one in binary.

    Raises
    ------
    ProtocolError
        When a tensor has no form in the protocol, such as NaN in JSON.

    Examples
    --------
    >>> import numpy as np
    >>> from zoo.remote.protocol import InferResponse, Tensor, decode_infer_response, encode_infer_response
    >>> made = encode_infer_response(InferResponse("tiny", (Tensor("logits", np.float32([[0.5]])),)))
    >>> decode_infer_response(made.body, made.header_length).outputs[0].values.tolist()
    [[0.5]]
    """
    items, blobs = _items(response.outputs, lambda name: request is None or request.wants_binary(name))
    header = _Response(
        model_name=response.model_name,
        outputs=items,
        model_version=response.model_version or None,
        id=response.id or None,
    )
    return _message(header, blobs)


def decode_infer_response(
    body: bytes, header_length: int | str | None = None, *, limits: MessageLimits = LIMITS
) -> InferResponse:
    """The answer in a body, and the value of its HTTP header ``Inference-Header-Content-Length``.

    Values may be NaN or infinite: whoever asked judges that.

    Raises
    ------
    ProtocolError
        When it is none, or takes more than `limits`.
    """
    header, rest = _header(body, header_length, _Response, limits)
    outputs = _tensors(header.outputs, rest, limits)
    return InferResponse(header.model_name, outputs, header.model_version or "", header.id or "")


def decode_metadata(body: bytes, kind: type[T], *, most_bytes: int = 4 * 1024 * 1024) -> T:
    """The :class:`ServerMetadata` or :class:`ModelMetadata` in a body; raises :class:`ProtocolError`.

    Examples
    --------
    >>> from zoo.remote.protocol import ServerMetadata, decode_metadata
    >>> decode_metadata(b'{"name": "triton", "extensions": ["binary_tensor_data"]}', ServerMetadata).name
    'triton'
    """
    if len(body) > most_bytes:
        raise _wrong(f"at most {most_bytes:,} bytes of metadata", f"{len(body):,}")
    return _decode(body, kind)


def encode_metadata(record: ServerMetadata | ModelMetadata) -> bytes:
    """The body that describes a server or a model."""
    return msgspec.json.encode(record)


def encode_error(text: str) -> bytes:
    """The body of an answer that says what went wrong."""
    return msgspec.json.encode(_Error(text))


def decode_error(body: bytes) -> str:
    """What a server says went wrong, 300 characters at most; empty: it does not say so."""
    try:
        return msgspec.json.decode(body[:65536], type=_Error).error[:300]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _wrong(expected: str, got: str) -> ProtocolError:
    return ProtocolError(
        f"expected a message of the Open Inference Protocol with {expected}, got {got[:300]}. "
        "Check the address, and that both sides speak version 2 of the protocol."
    )


def _items(tensors: Sequence[Tensor], binary: Any) -> tuple[tuple[_Item, ...], list[bytes]]:
    items, blobs = [], []
    for tensor in tensors:
        item = _Item(name=tensor.name, shape=tensor.values.shape, datatype=tensor.datatype)
        if binary(tensor.name):
            blob = _raw(tensor)
            item.parameters = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            item.data = _plain(tensor)
        items.append(item)
    return tuple(items), blobs


def _message(header: _Request | _Response, blobs: list[bytes]) -> Message:
    text = msgspec.json.encode(header)
    return Message(b"".join([text, *blobs]), len(text) if blobs else None)


def _raw(tensor: Tensor) -> bytes:
    if tensor.datatype != BYTES:
        return tensor.values.astype(DTYPES[tensor.datatype], copy=False).tobytes()
    return b"".join(struct.pack("<I", len(item)) + item for item in tensor.values.flat)


def _plain(tensor: Tensor) -> list[Any]:
    if tensor.datatype == BYTES:
        try:
            return [item.decode() for item in tensor.values.flat]
        except UnicodeDecodeError as error:
            raise _wrong("text where BYTES are sent as JSON", f"other bytes in {tensor.name!r}") from error
    if tensor.values.dtype.kind == "f" and not np.isfinite(tensor.values).all():
        raise _wrong("finite numbers where a tensor is sent as JSON", f"others in {tensor.name!r}")
    values: list[Any] = tensor.values.ravel().tolist()
    return values


def _header(
    body: bytes, header_length: int | str | None, kind: type[T], limits: MessageLimits
) -> tuple[T, memoryview]:
    """The JSON of a message, and the bytes after it."""
    if len(body) > limits.body_bytes:
        raise _wrong(f"at most {limits.body_bytes:,} bytes", f"{len(body):,}")
    size = len(body)
    if header_length is not None:
        text = str(header_length).strip()
        if not (text.isascii() and text.isdecimal() and len(text) < 12 and 0 < int(text) <= len(body)):
            raise _wrong(f"{HEADER_LENGTH} from 1 to the {len(body):,} bytes of its body", repr(text[:40]))
        size = int(text)
    if size > limits.header_bytes:
        raise _wrong(f"at most {limits.header_bytes:,} bytes of JSON", f"{size:,}")
    view = memoryview(body)
    return _decode(view[:size], kind), view[size:]


def _decode(content: bytes | memoryview, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong("valid JSON", f"{error} in {bytes(content[:60])!r}") from error


def _tensors(items: Sequence[_Item], rest: memoryview, limits: MessageLimits) -> tuple[Tensor, ...]:
    if len(items) > limits.tensors:
        raise _wrong(f"at most {limits.tensors} tensors", f"{len(items)}")
    if len({item.name for item in items}) != len(items):
        raise _wrong("tensors of different names", "one name twice")
    found = []
    for item in items:
        count = _count(item, limits)
        size = (item.parameters or {}).get("binary_data_size")
        if size is None:
            values = _from_json(item, count)
        elif type(size) is not int or not 0 <= size <= len(rest) or item.data is not None:
            raise _wrong(f"{item.name!r} within the {len(rest):,} bytes that are left", f"size {size!r}")
        else:
            values = _from_binary(item, count, rest[:size])
            rest = rest[size:]
        found.append(Tensor(item.name, values.reshape(item.shape)))
    if len(rest):
        raise _wrong("nothing after its last tensor", f"{len(rest):,} bytes more")
    return tuple(found)


def _count(item: _Item, limits: MessageLimits) -> int:
    """Elements of a tensor, when its shape and datatype are allowed."""
    if item.datatype != BYTES and item.datatype not in DTYPES:
        raise _wrong(f"one of the datatypes {', '.join([*DTYPES, BYTES])}", repr(item.datatype[:40]))
    if len(item.shape) > limits.axes or not all(0 <= size <= _LARGEST_AXIS for size in item.shape):
        raise _wrong(f"a shape of at most {limits.axes} axes for {item.name!r}", f"{list(item.shape)}")
    count = math.prod(item.shape)
    each = 4 if item.datatype == BYTES else DTYPES[item.datatype].itemsize
    if count * each > limits.body_bytes:
        raise _wrong(f"{item.name!r} of at most {limits.body_bytes:,} bytes", f"shape {list(item.shape)}")
    return count


def _from_binary(item: _Item, count: int, blob: memoryview) -> NDArray[Any]:
    if item.datatype == BYTES:
        if 4 * count > len(blob):
            raise _wrong(f"{count:,} elements in {item.name!r} BYTES", "an end before")
        values = np.empty(count, object)
        values[:] = list(_split(item, count, blob))
        return values
    dtype = DTYPES[item.datatype]
    if len(blob) != count * dtype.itemsize:
        raise _wrong(
            f"{count * dtype.itemsize:,} bytes for {item.name!r} {item.datatype} {list(item.shape)}",
            f"{len(blob):,}",
        )
    if dtype.kind == "b" and len(blob) and max(blob) > 1:
        raise _wrong(f"0 and 1 in {item.name!r} BOOL", f"{max(blob)}")
    return np.frombuffer(blob, dtype)


def _split(item: _Item, count: int, blob: memoryview) -> Iterator[bytes]:
    at = 0
    for _ in range(count):
        size = int.from_bytes(blob[at : at + 4], "little") if at + 4 <= len(blob) else len(blob)
        if at + 4 + size > len(blob):
            raise _wrong(f"{count:,} elements in {item.name!r} BYTES", "an end before")
        yield bytes(blob[at + 4 : at + 4 + size])
        at += 4 + size
    if at != len(blob):
        raise _wrong(f"{count:,} elements in {item.name!r} BYTES", f"{len(blob) - at:,} bytes more")


def _from_json(item: _Item, count: int) -> NDArray[Any]:
    """Numbers that were sent as JSON, flat or nested; each is of its datatype and in its range."""
    flat = list(_flat(item.data, count, item))
    if len(flat) != count:
        raise _wrong(f"{count:,} values for {item.name!r} {list(item.shape)}", f"{len(flat):,}")
    if item.datatype == BYTES:
        values = np.empty(count, object)
        values[:] = [one.encode() if isinstance(one, str) else one for one in flat]
        kinds: tuple[type, ...] = (str,)
    else:
        dtype = DTYPES[item.datatype]
        kinds = {"b": (bool,), "f": (int, float)}.get(dtype.kind, (int,))
    if not all(type(one) in kinds for one in flat):
        raise _wrong(f"values of {item.datatype} in {item.name!r}", "others")
    if item.datatype == BYTES:
        return values
    try:
        with np.errstate(over="ignore"):  # then infinite, which whoever asked judges
            return np.array(flat, dtype)
    except OverflowError as error:
        raise _wrong(f"values of {item.datatype} in {item.name!r}", str(error)) from error


def _flat(data: Any, most: int, item: _Item) -> Iterator[Any]:
    """The values of nested lists, in order, one more than `most` at most."""
    if not isinstance(data, list):
        raise _wrong(f"a list of data or binary_data_size for {item.name!r}", "neither")
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
