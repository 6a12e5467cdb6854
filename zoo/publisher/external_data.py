"""A model's graph without its weights, and the weights beside it: what a publisher offers.

The graph refers to weights by slots, never by what is in them. So the graph stays the same where only
weights change, and a device fetches those that differ and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import onnx
from onnx import TensorProto, helper, inliner, numpy_helper

from zoo.convert.foreign.import_file import read_foreign
from zoo.errors import ModelError
from zoo.releases.release import slot

SINGLE_BYTES = 4096  # tensors of at least as much are blobs of their own, all smaller ones are packed
ALIGNMENT = 64  # bytes, a cache line; tensors that are smaller begin at multiples of eight
INSIDE_BYTES = 128  # what is no float and smaller stays in the graph: axes, flags
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")  # of operators that every ONNX Runtime has

_FLOATS = {
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.DOUBLE,
    TensorProto.FLOAT8E4M3FN,
    TensorProto.FLOAT8E5M2,
}
_SHAPES = {TensorProto.INT32, TensorProto.INT64}  # may say how large something is, which a load has to know
_CODES = {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16}
# Of an element, where it is less than a byte.
_BITS: dict[int, int] = {TensorProto.INT4: 4, TensorProto.UINT4: 4}
# Operator → the first of its inputs that decide about shapes although they may be floats.
_DECIDES_SHAPE = {"OneHot": 1, "Range": 0, "Resize": 1, "Upsample": 1}
_QUANTISERS = ("DequantizeLinear", "QuantizeLinear")


class External(NamedTuple):
    """A graph with slots, and the content of each slot in order."""

    graph: bytes
    weights: list[bytes]


def externalise(model: bytes | str | Path, *, name: str = "model") -> External:
    """Take the weights out of an ONNX model.

    Tensors of at least 4 KiB become single blobs. Smaller ones share a blob: one for
    the kernels of convolutions, where these are 4 KiB together, and one for all others, which are what
    adaptation changes. What a session has to know while it loads stays in the graph. Equal architectures give
    equal graphs, whatever the model is called.

    Parameters
    ----------
    model
        Content or path of an ONNX file. Weights in other files are read for a path, from its folder only.
    name
        Name of the model, for the messages.

    Raises
    ------
    ModelError
        When it is not a valid ONNX model below 2 GiB, when it keeps weights elsewhere, or when it has
        operators, tensors or sizes that a device cannot be expected to open.
    """
    proto = read_foreign(model, name=name)
    for tensor in _all_tensors(proto, name):
        _check(tensor, name)
    if proto.functions:
        proto = inliner.inline_local_functions(proto)
    _check_operators(proto, name)
    graph = proto.graph
    graph.name = "model"
    del proto.training_info[:]
    if proto.ir_version >= 4:  # before, an initializer had to be an input of the graph
        _lift_constants(graph)
    for tensor in graph.initializer:
        tensor.ClearField("data_location")  # stated or not, it is in the file here
    single, packs = _sort(graph)
    weights = [_raw(tensor) for tensor in single]
    for i, tensor in enumerate(single):
        _refer(tensor, i, 0, len(weights[i]))
    for packed in packs:
        weights.append(_pack(packed, len(weights)))
    content: bytes = proto.SerializeToString(deterministic=True)
    prefix = slot(0).partition("0")[0]
    if content.count(prefix.encode()) != len(single) + sum(map(len, packs)):
        raise ModelError(
            f"model {name!r}: expected no names with {prefix!r} in it, got some; they stand for weights. "
            "Rename what is called so and export the model again."
        )
    return External(content, weights)


def _sort(graph: onnx.GraphProto) -> tuple[list[TensorProto], list[list[TensorProto]]]:
    """The initializers that go out: single ones, and those that are packed, together."""
    kept = {value.name for value in (*graph.input, *graph.output)} | set(_deciding(graph))
    scaled, kernels = _quantised(graph), _kernels(graph)
    single: list[TensorProto] = []
    packed: tuple[list[TensorProto], list[TensorProto]] = ([], [])  # kernels, all others
    for tensor in graph.initializer:
        size = _size(tensor)
        kind = tensor.data_type
        movable = (
            (kind in _FLOATS and size > 0)
            or (kind in _CODES | set(_BITS) and size >= INSIDE_BYTES)
            or (kind in _SHAPES and size >= SINGLE_BYTES)
            or (tensor.name in scaled and size > 0)
        )
        if movable and tensor.name not in kept:
            (single if size >= SINGLE_BYTES else packed[tensor.name not in kernels]).append(tensor)
    if sum(map(_size, packed[0])) >= SINGLE_BYTES:
        return single, [pack for pack in packed if pack]
    together = [
        tensor for tensor in graph.initializer if any(tensor is one for one in (*packed[0], *packed[1]))
    ]
    return single, [together] if together else []


def _quantised(graph: onnx.GraphProto) -> set[str]:
    """Values that only quantisers read: codes, biases and zero points, which decide about no shape."""
    read = {value for node in graph.node if node.op_type in _QUANTISERS for value in node.input}
    others = {
        value for node in _all_nodes(graph.node) if node.op_type not in _QUANTISERS for value in node.input
    }
    return read - others


def _kernels(graph: onnx.GraphProto) -> set[str]:
    """Weights of convolutions, and the codes that become such."""
    kernels = {node.input[1] for node in graph.node if node.op_type == "Conv" and len(node.input) > 1}
    codes = {
        node.input[0]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.output[0] in kernels
    }
    return kernels | codes


def _pack(tensors: list[TensorProto], index: int) -> bytes:
    content = bytearray()
    for tensor in tensors:
        raw = _raw(tensor)
        content += bytes(-len(content) % (ALIGNMENT if len(raw) >= ALIGNMENT else 8))
        _refer(tensor, index, len(content), len(raw))
        content += raw
    return bytes(content)


def _refer(tensor: TensorProto, index: int, offset: int, length: int) -> None:
    """Replace the content of `tensor` by a reference to a part of a slot."""
    bare = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    bare.data_location = TensorProto.EXTERNAL
    for key, value in (("location", slot(index)), ("offset", str(offset)), ("length", str(length))):
        bare.external_data.add(key=key, value=value)
    tensor.CopyFrom(bare)


def _lift_constants(graph: onnx.GraphProto) -> None:
    """Make initializers of large constants, as which some exporters write weights."""
    outputs = {value.name for value in graph.output}
    rest = []
    for node in graph.node:
        value = node.attribute[0].t if _is_constant(node) and node.attribute[0].HasField("t") else None
        if value is None or node.output[0] in outputs or _size(value) < INSIDE_BYTES:
            rest.append(node)
            continue
        lifted = graph.initializer.add()
        lifted.CopyFrom(value)
        lifted.name = node.output[0]
    if len(rest) < len(graph.node):
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in rest]
        del graph.node[:]
        graph.node.extend(copies)


def _is_constant(node: onnx.NodeProto) -> bool:
    return node.op_type == "Constant" and node.domain in DOMAINS[:2] and len(node.attribute) == 1


def _deciding(graph: onnx.GraphProto) -> Iterator[str]:
    """Names of values that decide about shapes, here and in the graphs inside."""
    for node in _all_nodes(graph.node):
        if node.op_type in _DECIDES_SHAPE:
            yield from node.input[_DECIDES_SHAPE[node.op_type] :]


def _inner(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _all_nodes(nodes: object) -> Iterator[onnx.NodeProto]:
    for node in nodes:  # type: ignore[attr-defined]
        yield node
        for inner in _inner(node):
            yield from _all_nodes(inner.node)


def _all_tensors(proto: onnx.ModelProto, name: str) -> Iterator[TensorProto]:
    """Every tensor anywhere in the model; sparse ones are refused."""
    graphs = [proto.graph]
    for node in [*_all_nodes(proto.graph.node), *(n for f in proto.functions for n in _all_nodes(f.node))]:
        graphs.extend(_inner(node))
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise _sparse(name)
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
    for graph in graphs:
        if graph.sparse_initializer:
            raise _sparse(name)
        yield from graph.initializer


def _sparse(name: str) -> ModelError:
    return ModelError(
        f"model {name!r}: expected dense tensors only, got a sparse one, which devices do not open. "
        "Export it with dense weights."
    )


def _check(tensor: TensorProto, name: str) -> None:
    """Refuse a tensor whose shape and content do not belong together, before anything is made of it."""
    if tensor.data_location == TensorProto.EXTERNAL:
        raise ModelError(
            f"model {name!r}: expected all weights inside the ONNX file, but {tensor.name!r} is elsewhere. "
            "Embed the weights, then publish it."
        )
    if tensor.HasField("segment") or any(axis < 0 for axis in tensor.dims):
        raise ModelError(
            f"model {name!r}: expected whole tensors, got a strange {tensor.name!r}. {_EXPORT_ADVICE}"
        )
    try:
        size = _size(tensor)
    except KeyError as error:
        raise ModelError(
            f"model {name!r}: expected elements of a known type in {tensor.name!r}, got type "
            f"{tensor.data_type}. {_EXPORT_ADVICE}"
        ) from error
    if tensor.data_type == TensorProto.STRING:
        expected, got = math.prod(tensor.dims), len(tensor.string_data)
    else:
        expected, got = size, len(_raw(tensor, name=name))
    if expected != got:
        raise ModelError(
            f"model {name!r}: expected {expected:,} bytes for {tensor.name!r} of shape {list(tensor.dims)}, "
            f"got {got:,}. {_EXPORT_ADVICE}"
        )


def _check_operators(proto: onnx.ModelProto, name: str) -> None:
    custom = {
        f"{node.domain}:{node.op_type}" for node in _all_nodes(proto.graph.node) if node.domain not in DOMAINS
    }
    if custom:
        raise ModelError(
            f"model {name!r}: expected operators that every ONNX Runtime has, got "
            f"{', '.join(sorted(custom))}. Export it without custom operators; devices load "
            "no libraries of others."
        )


def _size(tensor: TensorProto) -> int:
    """Bytes that a tensor of this type and shape takes; elements of four bits share bytes."""
    if tensor.data_type == TensorProto.STRING:
        return 0
    bits = _BITS.get(tensor.data_type)
    if bits is None:
        bits = 8 * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    return -(-int(math.prod(tensor.dims)) * bits // 8)


def _raw(tensor: TensorProto, *, name: str = "model") -> bytes:
    """The content of a tensor in the one form that ONNX Runtime reads from other files."""
    if tensor.HasField("raw_data"):
        return bytes(tensor.raw_data)
    try:
        return bytes(numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data)
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(
            f"model {name!r}: expected the content of {tensor.name!r} to fit its shape {list(tensor.dims)}, "
            f"got: {error}. {_EXPORT_ADVICE}"
        ) from error


_EXPORT_ADVICE = "The file is corrupt or made to mislead; export it again."
