"""Requests and answers of the protocol, as what is asked of a model and what it says."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from selector.serving.batcher import BatchLimits
from selector.serving.served import Form, Rows, Served
from zoo.errors import ImageError, InputError, PrecisionError, ProtocolError
from zoo.inputs.image import decode_image
from zoo.remote import protocol
from zoo.remote.discover import CLASSES, ENCODINGS, INPUT

WRONG = (ProtocolError, InputError, PrecisionError)  # what a client is to blame for
TIMEOUT = "timeout"  # parameter of a request: microseconds, as Triton has it


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the server lets clients do."""

    body_bytes: int = 2**25  # of one request
    bodies_bytes: int = 2**28  # of all requests that are being read or answered
    images: int = 256  # of one request
    pixels: int = 2**25  # of all images of one request, decoded
    body_timeout_s: float = 15.0  # for a body to arrive
    deadline_s: float = 10.0  # for an answer, from when the request is read; a request may ask for less
    batch: BatchLimits = BatchLimits()


@dataclass(frozen=True)
class Question:
    """One request, checked: what runs, and what else it says."""

    request: protocol.InferRequest
    images: Sequence[NDArray[Any]]  # one row each
    asked: Hashable
    timeout_s: float | None


def question_of(body: bytes, header_length: str | None, served: Served, limits: Limits) -> Question:
    """What a body asks of a model.

    Raises
    ------
    ProtocolError, ImageError, PrecisionError
        Where it cannot be asked.
    """
    request = protocol.decode_infer_request(
        body, header_length, limits=protocol.MessageLimits(body_bytes=limits.body_bytes)
    )
    unknown = [name for name in request.outputs if name not in {one.name for one in served.outputs}]
    if unknown:
        known = ", ".join(one.name for one in served.outputs)
        raise ProtocolError(f"expected outputs among {known}, got {unknown[0][:100]!r}.")
    parameters = dict(request.parameters)
    timeout = parameters.pop(TIMEOUT, None)
    if not (timeout is None or (type(timeout) in (int, float) and timeout > 0 and math.isfinite(timeout))):
        raise ProtocolError(f"expected the parameter {TIMEOUT!r} in microseconds above 0, got {timeout!r}.")
    asked = served.question(parameters)
    images = _images(request.inputs, served, limits)
    return Question(request, images, asked, None if timeout is None else timeout / 1e6)


def answer_of(served: Served, request: protocol.InferRequest, rows: Rows) -> protocol.Message:
    """The message that answers a request, with the outputs that it wants."""
    wanted = request.outputs or [one.name for one in served.outputs]
    outputs = tuple(protocol.Tensor(name, rows[name]) for name in wanted)
    answer = protocol.InferResponse(served.name, outputs, served.version, request.id)
    return protocol.encode_infer_response(answer, request=request)


def metadata_of(served: Served) -> protocol.ModelMetadata:
    """What is told about a model: its tensors, and in the parameters its classes and its kind of input."""
    record = None if served.kind is None else served.kind.record
    return protocol.ModelMetadata(
        name=served.name,
        versions=(served.version,),
        platform=served.platform,
        inputs=_described(served.takes),
        outputs=_described(served.outputs),
        parameters={CLASSES: list(served.classes)}
        | ({ENCODINGS: ["tensor", "jpeg", "png"]} if served.takes[0].files else {})
        | ({} if record is None else {INPUT: msgspec.to_builtins(record)}),
    )


def _described(forms: Sequence[Form]) -> tuple[protocol.TensorMetadata, ...]:
    return tuple(
        protocol.TensorMetadata(name=one.name, datatype=one.datatype, shape=(-1, *one.shape)) for one in forms
    )


def _images(inputs: Sequence[protocol.Tensor], served: Served, limits: Limits) -> Sequence[NDArray[Any]]:
    given = {one.name: one for one in inputs}
    wanted = [one.name for one in served.takes]
    if len(inputs) != len(wanted) or set(given) != set(wanted):
        forms = ", ".join(f"{one.name!r} {_words(one)}" for one in served.takes)
        count = "one input" if len(wanted) == 1 else f"{len(wanted)} inputs"
        got = ", ".join(repr(one.name[:50]) for one in inputs) or "none"
        raise ProtocolError(f"expected {count} {forms}, got {got}.")
    first = served.takes[0]
    if first.files:
        values, shape = given[first.name].values, given[first.name].values.shape
        if given[first.name].datatype == protocol.BYTES and shape[1:] in ((), (1,)) and shape:
            _check_count(len(values), limits)
            return _decoded([bytes(item) for item in values.reshape(-1)], limits)
    rows = {one.name: _rows(given[one.name], one, limits) for one in served.takes}
    if first.files and math.prod(rows[first.name].shape[:3]) > limits.pixels:
        raise ImageError(
            f"expected at most {limits.pixels:,} pixels in a request, got "
            f"{math.prod(rows[first.name].shape[:3]):,}."
        )
    if served.kind is not None and not first.files:
        return served.kind.rows(served.kind.batch(rows if len(rows) > 1 else rows[first.name]))
    return list(np.ascontiguousarray(rows[first.name]))


def _words(takes: Form) -> str:
    form = f"{takes.datatype} [{', '.join(['N', *('any' if n < 0 else str(n) for n in takes.shape)])}]"
    return form + (", or BYTES [N] with a JPEG or PNG file each" if takes.files else "")


def _rows(one: protocol.Tensor, takes: Form, limits: Limits) -> NDArray[Any]:
    """The values of a tensor, one row an input."""
    shape = one.values.shape
    fits = len(shape) == 1 + len(takes.shape) and all(
        have == want or (want < 0 and have > 0) for have, want in zip(shape[1:], takes.shape, strict=True)
    )
    if one.datatype != takes.datatype or not fits:
        raise ProtocolError(f"expected {takes.name!r} {_words(takes)}, got {one.datatype} {list(shape)}.")
    _check_count(len(one.values), limits)
    return one.values


def _check_count(count: int, limits: Limits) -> None:
    if not 1 <= count <= limits.images:
        raise ProtocolError(f"expected 1 to {limits.images} images in a request, got {count}.")


def _decoded(files: Sequence[bytes], limits: Limits) -> list[NDArray[np.uint8]]:
    """The images in files; all together have no more pixels than a request may have."""
    images, left = list[NDArray[np.uint8]](), limits.pixels
    for i, content in enumerate(files):
        try:
            images.append(decode_image(content, max_pixels=left))
        except ImageError as error:
            raise ImageError(f"image {i}: {error}") from error
        left -= images[-1].shape[0] * images[-1].shape[1]
    return images
