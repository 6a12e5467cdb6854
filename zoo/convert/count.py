"""Facts about a graph: how many parameters it has and how many multiplications one image takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, shape_inference

from zoo.convert.preprocessing_graph import PREFIX
from zoo.convert.rewriting.import_graph import all_graphs, all_nodes, for_one_image
from zoo.convert.rewriting.shortcuts import SHORTCUT
from zoo.errors import ModelError
from zoo.inputs.kind import InputKind, Size
from zoo.inputs.kinds import IMAGE
from zoo.models.card import ModelCard
from zoo.models.session import open_session
from zoo.models.zoo import Zoo

# Operator → positions of the weights, or of the two factors, among its inputs.
_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "FusedConv": 1, "QLinearConv": 3}
_PRODUCTS = {
    "FusedGemm": (0, 1),
    "FusedMatMul": (0, 1),
    "Gemm": (0, 1),
    "QGemm": (0, 3),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
}
# Operator → positions of inputs that are learned; its others are scales, limits and statistics.
_LEARNED = {
    "BatchNormalization": (1, 2),
    "Clip": (),
    "ConvInteger": (0, 1),
    "DequantizeLinear": (0,),
    "MatMulInteger": (0, 1),
    "Pad": (),
    "QGemm": (0, 3, 6),
    "QLinearConv": (0, 3, 8),
    "QLinearMatMul": (0, 3),
    "QuantizeLinear": (0,),
    "Resize": (),
}
Feeds = Mapping[str, NDArray[Any]]

_INDICES = {onnx.TensorProto.INT64, onnx.TensorProto.BOOL, onnx.TensorProto.STRING}


@dataclass(frozen=True)
class Facts:
    """Size of a graph."""

    parameters: (
        int  # learned numbers: weights, biases, normalisation; neither statistics nor quantisation scales
    )
    macs: int  # multiply-accumulates of convolutions and matrix products for one image


def count_facts(content: bytes, resolution: Size, *, name: str, kind: InputKind = IMAGE) -> Facts:
    """Count the parameters and the multiply-accumulates of a graph under the model contract.

    Parameters
    ----------
    content
        The ONNX file.
    resolution
        Height and width of the one image that is counted, in pixels; of another kind the size of an input.
    kind
        The kind of input.

    Raises
    ------
    ModelError
        When the shapes inside the graph cannot be found out.
    """
    model = for_one_image(onnx.load_model_from_string(content))
    macs = sum(_macs(model, _feeds(resolution, kind), name).values())
    return Facts(parameters=_parameters(model.graph), macs=macs)


def count_macs(content: bytes, resolution: tuple[int, int], *, name: str) -> dict[str, int]:
    """Multiply-accumulates of every convolution and matrix product for one image, by its first output.

    Raises
    ------
    ModelError
        When the shapes inside the graph cannot be found out.
    """
    return _macs(for_one_image(onnx.load_model_from_string(content)), _feeds(resolution, IMAGE), name)


def _feeds(size: Size, kind: InputKind) -> Feeds:
    """One input of that size."""
    return kind.feeds(kind.one(kind.reference(size)))


def _parameters(graph: onnx.GraphProto) -> int:
    sizes = {
        tensor.name: (tensor.data_type, math.prod(tensor.dims), len(tensor.dims))
        for part in all_graphs(graph)
        for tensor in part.initializer
    }
    for node in all_nodes(graph):
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = node.attribute[0].t
            sizes[node.output[0]] = (tensor.data_type, math.prod(tensor.dims), len(tensor.dims))
    learned: set[str] = set()
    for node in all_nodes(graph):
        if _is_no_layer(node):
            continue
        positions = _LEARNED.get(node.op_type, range(len(node.input)))
        learned.update(node.input[i] for i in positions if i < len(node.input))
    return sum(
        size
        for tensor, (kind, size, axes) in sizes.items()
        if tensor in learned and kind not in _INDICES and axes > 0 and SHORTCUT not in tensor
    )


def _is_no_layer(node: onnx.NodeProto) -> bool:
    """Whether a node is part of the preprocessing, or takes every second pixel for a shortcut."""
    return node.name.startswith(PREFIX) or SHORTCUT in node.name


def _macs(model: onnx.ModelProto, feeds: Feeds, name: str) -> dict[str, int]:
    shapes = _shapes(model, feeds, name)
    found: dict[str, int] = {}
    for node in model.graph.node:
        if _is_no_layer(node):
            continue
        out = math.prod(shapes.get(node.output[0], ())) if node.output else 0
        if node.op_type in _CONVOLUTIONS:
            found[node.output[0]] = out * math.prod(shapes[node.input[_CONVOLUTIONS[node.op_type]]][1:])
        elif node.op_type == "ConvTranspose":
            found[node.output[0]] = math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in _PRODUCTS:
            left = shapes[node.input[_PRODUCTS[node.op_type][0]]]
            turned = any(item.name == "transA" and item.i for item in node.attribute)
            found[node.output[0]] = out * left[0 if turned else -1]
    return found


def _shapes(model: onnx.ModelProto, feeds: Feeds, name: str) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor that the count needs, for one image."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]  # recorded for a free batch; inferred anew for one image
    for value in fixed.graph.input:
        for axis, size in zip(value.type.tensor_type.shape.dim, feeds[value.name].shape, strict=True):
            axis.dim_value = size
    try:
        graph = shape_inference.infer_shapes(fixed, data_prop=True).graph
    except shape_inference.InferenceError as error:
        raise ModelError(
            f"model {name!r}: the shapes in the graph contradict each other: {error}."
        ) from error
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        axes = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(axis.HasField("dim_value") for axis in axes):
            shapes[value.name] = tuple(axis.dim_value for axis in axes)
    needed = {
        value
        for node in graph.node
        if node.op_type in (*_CONVOLUTIONS, *_PRODUCTS, "ConvTranspose")
        for value in (*node.input, node.output[0])
        if value
    }
    unknown = sorted(needed - shapes.keys())
    if unknown:  # shapes that depend on values: look at them in a run
        shapes.update(_observe(model, unknown, feeds, name))
    return shapes


def _observe(
    model: onnx.ModelProto, values: list[str], feeds: Feeds, name: str
) -> dict[str, tuple[int, ...]]:
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    for value in values:
        node = helper.make_node("Shape", [value], [f"shape of {value}"])
        probed.graph.node.append(node)
        probed.graph.output.append(
            helper.make_tensor_value_info(node.output[0], onnx.TensorProto.INT64, None)
        )
    session = open_session(probed.SerializeToString(), name=name)
    try:
        found = session.run([f"shape of {value}" for value in values], dict(feeds))
    except Exception as error:  # ONNX Runtime raises a family of unrelated classes
        raise ModelError(
            f"model {name!r}: expected it to answer "
            f"{', '.join(f'{key} {list(value.shape)}' for key, value in feeds.items())}, got: "
            f"{str(error).strip().splitlines()[0][:200]}. Check the resolution."
        ) from error
    return {value: tuple(int(size) for size in shape) for value, shape in zip(values, found, strict=True)}


def add_counted(
    zoo: Zoo,
    name: str,
    content: bytes,
    classes: Sequence[str],
    resolution: tuple[int, int],
    kind: InputKind = IMAGE,
    **facts: Any,
) -> ModelCard:
    """Count what a model costs, and add it to the zoo, which checks it."""
    counted = count_facts(content, resolution, name=name, kind=kind)
    return zoo.add(
        name,
        content,
        classes=tuple(classes),
        resolution=resolution,
        parameters=counted.parameters,
        macs=counted.macs,
        kind=kind,
        **facts,
    )
