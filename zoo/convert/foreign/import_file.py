"""Reading a foreign ONNX file without trusting it."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from zoo.convert.rewriting.import_graph import all_nodes, reads, subgraphs
from zoo.errors import ModelError
from zoo.files import open_file
from zoo.types import check_relative

MICROSOFT = "com.microsoft"  # the domain of operators that come with ONNX Runtime
MAX_LINKS = 40  # as Linux follows
MAX_BYTES = 2**31 - 1  # what one protobuf message can hold


def read_foreign(model: bytes | str | Path, *, name: str) -> onnx.ModelProto:
    """The ONNX model in a file or in bytes, checked, with all its weights inside and its nodes in order.

    Parameters
    ----------
    model
        Path or content. External weights can be read for a path only, and only from the folder of that file,
        or of a file that it is a symbolic link to.
    name
        Name of the model, for the messages.

    Raises
    ------
    ModelError
        When the file cannot be read, is not ONNX, or names weights outside its folder.
    """
    folders = [] if isinstance(model, bytes) else _folders(Path(model))
    content = model if isinstance(model, bytes) else _read(Path(model), name)
    try:
        proto = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own classes, which are not onnx's to promise
        raise ModelError(_not_onnx(name, str(error))) from error
    if not proto.graph.node:
        raise ModelError(_not_onnx(name, "no operators in it"))
    left = MAX_BYTES - len(content)
    for tensor in _tensors(proto):
        if tensor.data_location == TensorProto.EXTERNAL:
            left -= _embed(tensor, folders, left, name)
    if proto.ByteSize() > MAX_BYTES:
        raise ModelError(_too_large(name))
    _sort(proto.graph)
    _check(proto, name)
    return proto


def _check(proto: onnx.ModelProto, name: str) -> None:
    """Let onnx check the model; outputs need no shape, as ONNX Runtime finds out what it is."""
    imported = {item.domain for item in proto.opset_import}
    if any(node.domain == MICROSOFT for node in all_nodes(proto.graph)) and MICROSOFT not in imported:
        proto.opset_import.append(helper.make_opsetid(MICROSOFT, 1))  # as ONNX Runtime does
        imported.add(MICROSOFT)
    for node in all_nodes(proto.graph):
        if node.domain not in imported | {"", "ai.onnx"}:
            raise ModelError(
                f"model {name!r}: expected standard operators, got {node.op_type!r} of the domain "
                f"{node.domain!r}, which the file does not import. Use standard operators instead."
            )
    opset = max((item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")), default=0)
    if opset > onnx.defs.onnx_opset_version() or proto.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"model {name!r}: expected opset {onnx.defs.onnx_opset_version()} and IR version "
            f"{onnx.IR_VERSION} at most, which onnx {onnx.__version__} knows, got opset {opset} and IR "
            f"version {proto.ir_version}. Export the network with an older opset, or update onnx."
        )
    shapeless = [
        value.type.tensor_type
        for value in proto.graph.output
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")
    ]
    for kind in shapeless:
        kind.shape.SetInParent()
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise ModelError(_not_onnx(name, str(error))) from error
    for kind in shapeless:
        kind.ClearField("shape")


def _sort(graph: onnx.GraphProto) -> None:
    """Put nodes behind those that they read from, where they are not; a circle is left as it is."""
    for node in graph.node:
        for inner in subgraphs(node):
            _sort(inner)
    makers = {value: index for index, node in enumerate(graph.node) for value in node.output if value}
    before = {
        index: {makers[value] for value in reads(node) if value in makers} - {index}
        for index, node in enumerate(graph.node)
    }
    if all(first < index for index, needed in before.items() for first in needed):
        return
    try:
        order = list(TopologicalSorter(before).static_order())
    except CycleError:
        return
    nodes = [graph.node[index] for index in order]
    del graph.node[:]
    graph.node.extend(nodes)


def _folders(path: Path) -> list[Path]:
    """Where weights may lie: beside the file, and beside what it is a symbolic link to."""
    folders = [path.parent]
    while path.is_symlink() and len(folders) < MAX_LINKS:
        path = path.parent / path.readlink()
        folders.append(path.parent)
    return folders


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


def _too_large(name: str) -> str:
    return f"model {name!r}: expected less than 2 GB with all weights, got more."


def _tensors(part: onnx.ModelProto | onnx.GraphProto | onnx.FunctionProto) -> list[onnx.TensorProto]:
    if isinstance(part, onnx.ModelProto):
        return [tensor for inner in (part.graph, *part.functions) for tensor in _tensors(inner)]
    found = []
    if isinstance(part, onnx.GraphProto):
        found += part.initializer
        found += [tensor for item in part.sparse_initializer for tensor in (item.values, item.indices)]
    for node in part.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                found.append(attribute.t)
            found.extend(attribute.tensors)
        for inner in subgraphs(node):
            found.extend(_tensors(inner))
    return found


def _embed(tensor: onnx.TensorProto, folders: list[Path], most_bytes: int, name: str) -> int:
    """Put the external content of `tensor` into it; returns its size in bytes."""
    facts = {entry.key: entry.value for entry in tensor.external_data}
    location = facts.get("location", "")
    if not folders:
        raise ModelError(
            f"model {name!r}: expected all weights inside the ONNX bytes, but {tensor.name!r} is in the file "
            f"{location!r}. Give the path of the ONNX file instead of its content."
        )
    try:
        check_relative(location)
        path = next(
            (path for folder in folders if (path := folder / location).exists()), folders[0] / location
        )
        if not any(path.resolve().is_relative_to(folder.resolve()) for folder in folders):
            raise ValueError("a link that leads out of the folder")
    except ValueError as error:
        raise ModelError(
            f"model {name!r}: expected its weights beside the ONNX file, but {tensor.name!r} points to "
            f"{location!r}, outside that folder. This file is refused; do not use it."
        ) from error
    try:
        offset, length = int(facts.get("offset", 0)), int(facts.get("length", -1))
        if path.exists() and not path.is_file():
            raise ValueError("no file")
        with open_file(path) as stream:
            stream.seek(offset)
            content = stream.read(min(length if length >= 0 else MAX_BYTES, most_bytes + 1))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model {name!r}: expected the weights of {tensor.name!r} in {location!r} beside the ONNX file, "
            f"got: {error}. Copy that file too."
        ) from error
    if len(content) > most_bytes:
        raise ModelError(_too_large(name))
    if length >= 0 and len(content) != length:
        raise ModelError(
            f"model {name!r}: expected {length:,} bytes of {tensor.name!r} in {location!r}, "
            f"got {len(content):,}. The file is truncated; copy it again."
        )
    tensor.raw_data = content
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]
    return len(content)
