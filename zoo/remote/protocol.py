"""The Open Inference Protocol, version 2, over HTTP: messages as bytes and back, both directions, bounded.

A message is a JSON header, then the tensors that are sent in binary (little-endian, row-major), one after the
other. The HTTP header ``Inference-Header-Content-Length`` says where the JSON ends; without it all is JSON.
What comes from the other side is checked before an array is made of it: nothing here trusts a size, a shape
or a count. See https://github.com/kserve/open-inference-protocol and its extension for binary tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from zoo.remote.tensors import (
    BYTES,
    DTYPES,
    LIMITS,
    Item,
    MessageLimits,
    Tensor,
    bytes_tensor,
    plain,
    raw,
    tensors_of,
    wrong,
)

__all__ = [
    "BINARY_EXTENSION",
    "BYTES",
    "DTYPES",
    "HEADER_LENGTH",
    "LIMITS",
    "InferRequest",
    "InferResponse",
    "Message",
    "MessageLimits",
    "ModelMetadata",
    "ServerMetadata",
    "Tensor",
    "TensorMetadata",
    "bytes_tensor",
    "decode_error",
    "decode_infer_request",
    "decode_infer_response",
    "decode_metadata",
    "encode_error",
    "encode_infer_request",
    "encode_infer_response",
    "encode_metadata",
]

HEADER_LENGTH = "Inference-Header-Content-Length"  # bytes of JSON before the first binary tensor
BINARY_EXTENSION = "binary_tensor_data"  # what a server names that understands them
JSON_TYPE = "application/json"
BINARY_TYPE = "application/octet-stream"
T = TypeVar("T")


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


class _Wanted(msgspec.Struct, kw_only=True, omit_defaults=True):
    name: str
    parameters: dict[str, Any] | None = None


class _Request(msgspec.Struct, kw_only=True, omit_defaults=True):
    inputs: tuple[Item, ...]
    outputs: tuple[_Wanted, ...] | None = None
    parameters: dict[str, Any] | None = None
    id: str | None = None


class _Response(msgspec.Struct, kw_only=True, omit_defaults=True):
    model_name: str
    outputs: tuple[Item, ...]
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
        raise wrong(f"at most {limits.tensors} outputs", f"{len(asked)}")
    parameters = header.parameters or {}
    binary_of = {}
    for one in asked:
        flag = (one.parameters or {}).get("binary_data")
        if isinstance(flag, bool):
            binary_of[one.name] = flag
    return InferRequest(
        inputs=tensors_of(header.inputs, rest, limits),
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
    outputs = tensors_of(header.outputs, rest, limits)
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
        raise wrong(f"at most {most_bytes:,} bytes of metadata", f"{len(body):,}")
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


def _items(tensors: Sequence[Tensor], binary: Any) -> tuple[tuple[Item, ...], list[bytes]]:
    items, blobs = [], []
    for tensor in tensors:
        item = Item(name=tensor.name, shape=tensor.values.shape, datatype=tensor.datatype)
        if binary(tensor.name):
            blob = raw(tensor)
            item.parameters = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            item.data = plain(tensor)
        items.append(item)
    return tuple(items), blobs


def _message(header: _Request | _Response, blobs: list[bytes]) -> Message:
    text = msgspec.json.encode(header)
    return Message(b"".join([text, *blobs]), len(text) if blobs else None)


def _header(
    body: bytes, header_length: int | str | None, kind: type[T], limits: MessageLimits
) -> tuple[T, memoryview]:
    """The JSON of a message, and the bytes after it."""
    if len(body) > limits.body_bytes:
        raise wrong(f"at most {limits.body_bytes:,} bytes", f"{len(body):,}")
    size = len(body)
    if header_length is not None:
        text = str(header_length).strip()
        if not (text.isascii() and text.isdecimal() and len(text) < 12 and 0 < int(text) <= len(body)):
            raise wrong(f"{HEADER_LENGTH} from 1 to the {len(body):,} bytes of its body", repr(text[:40]))
        size = int(text)
    if size > limits.header_bytes:
        raise wrong(f"at most {limits.header_bytes:,} bytes of JSON", f"{size:,}")
    view = memoryview(body)
    return _decode(view[:size], kind), view[size:]


def _decode(content: bytes | memoryview, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise wrong("valid JSON", f"{error} in {bytes(content[:60])!r}") from error
