"""Reading a foreign ONNX file without trusting it."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto

from zoo.errors import ModelError
from zoo.files import open_file
from zoo.types import check_relative

MAX_BYTES = 2**31 - 1  # what one protobuf message can hold


def read_foreign(model: bytes | str | Path, *, name: str) -> onnx.ModelProto:
    """The ONNX model in a file or in bytes, checked, with all its weights inside.

    Parameters
    ----------
    model
        Path or content. External weights can be read for a path only, and only from the folder of that file.
    name
        Name of the model, for the messages.

    Raises
    ------
    ModelError
        When the file cannot be read, is not ONNX, or names weights outside its folder.
    """
    folder = None if isinstance(model, bytes) else Path(model).parent
    content = model if isinstance(model, bytes) else _read(Path(model), name)
    try:
        proto = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own classes, which are not onnx's to promise
        raise ModelError(_not_onnx(name, str(error))) from error
    if not proto.graph.node:
        raise ModelError(_not_onnx(name, "no operators in it"))
    for tensor in _tensors(proto.graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            _embed(tensor, folder, name)
    if proto.ByteSize() > MAX_BYTES:
        raise ModelError(f"model {name!r}: expected less than 2 GB with all weights, got more.")
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise ModelError(_not_onnx(name, str(error))) from error
    return proto


def _read(path: Path, name: str) -> bytes:
    try:
        with open_file(path) as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ModelError(
            f"model {name!r}: expected an ONNX file at {path}, got: {error.strerror}."
        ) from error
    if len(content) > MAX_BYTES:
        raise ModelError(f"model {name!r}: expected less than 2 GB of ONNX, got more at {path}.")
    return content


def _not_onnx(name: str, reason: str) -> str:
    lines = reason.strip().splitlines()
    return (
        f"model {name!r}: expected a valid ONNX file, got: {lines[0][:200] if lines else 'nothing'}. "
        "It is corrupt, truncated or something else; export or download it again."
    )


def _tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                found.append(attribute.t)
            found.extend(attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                found.extend(_tensors(inner))
    return found


def _embed(tensor: onnx.TensorProto, folder: Path | None, name: str) -> None:
    """Put the external content of `tensor` into it."""
    facts = {entry.key: entry.value for entry in tensor.external_data}
    location = facts.get("location", "")
    if folder is None:
        raise ModelError(
            f"model {name!r}: expected all weights inside the ONNX bytes, but {tensor.name!r} is in the file "
            f"{location!r}. Give the path of the ONNX file instead of its content."
        )
    path = folder / location
    try:
        check_relative(location)
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError("a link that leads out of the folder")
    except ValueError as error:
        raise ModelError(
            f"model {name!r}: expected its weights beside the ONNX file, but {tensor.name!r} points to "
            f"{location!r}, outside that folder. This file is refused; do not use it."
        ) from error
    try:
        offset, length = int(facts.get("offset", 0)), int(facts.get("length", -1))
        with open_file(path) as stream:
            stream.seek(offset)
            content = stream.read(length if length >= 0 else MAX_BYTES)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model {name!r}: expected the weights of {tensor.name!r} in {location!r} beside the ONNX file, "
            f"got: {error}. Copy that file too."
        ) from error
    if length >= 0 and len(content) != length:
        raise ModelError(
            f"model {name!r}: expected {length:,} bytes of {tensor.name!r} in {location!r}, "
            f"got {len(content):,}. The file is truncated; copy it again."
        )
    tensor.raw_data = content
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]
