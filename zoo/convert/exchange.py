"""Adapted models: the parent's file with some small tensors exchanged, and every other byte as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from zoo.convert.torch_graph import is_front, stored_tensors
from zoo.errors import ModelError
from zoo.models.card import Changed

NORMALISATION = ("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization")
PRODUCTS = ("Gemm", "MatMul")
CHANGEABLE_PARTS: tuple[Changed, ...] = ("normalisation", "biases", "head")
MAX_HEAD_SHARE = 0.02  # of the weights' bytes; a larger head would make adapted models large to send
MAX_HEAD_BYTES = 16384  # or so many bytes, which are little anywhere


class Changeable(NamedTuple):
    """Names of the tensors of a graph that adaptation may change."""

    normalisation: tuple[str, ...]  # scales and offsets
    scales: tuple[str, ...]  # those of the scales that are folded into the convolutions of 8-bit models
    statistics: tuple[str, ...]  # means and variances of batch normalisation
    biases: tuple[str, ...]  # of convolutions and inner products
    head: tuple[str, ...]  # weights and bias of the last product
    head_bytes: int
    total_bytes: int  # of all tensors


class Difference(NamedTuple):
    """How far two models of one graph are apart."""

    changed_bytes: int  # of the tensors that differ
    total_bytes: int  # of all tensors

    @property
    def share(self) -> float:
        """The changed share of the bytes of all tensors."""
        return self.changed_bytes / max(1, self.total_bytes)


def changeable(content: bytes, *, classes: int, name: str) -> Changeable:
    """Find what adaptation may change in a float model.

    The head is the last product or convolution with stored weights, if it has one output a class.
    """
    graph = onnx.load_model_from_string(content).graph
    tensors = stored_tensors(graph)
    floats = {key: value for key, value in tensors.items() if numpy_helper.to_array(value).dtype.kind == "f"}
    nodes = [node for node in graph.node if not is_front(node)]
    normalisation, statistics = _normalisation(nodes, floats)
    scales = [node.input[1] for node in nodes if node.op_type == NORMALISATION[0]]
    products = [
        node
        for node in nodes
        if node.op_type in (*PRODUCTS, "Conv") and any(key in floats for key in node.input[1:2])
    ]
    head: tuple[str, ...] = ()
    if products and classes in floats[products[-1].input[1]].dims:
        head = _with_bias(products.pop(), nodes, floats)
    biases = [key for node in products for key in _with_bias(node, nodes, floats)[1:]]
    total = sum(_bytes(value) for value in tensors.values())
    return Changeable(
        tuple(dict.fromkeys(normalisation)),
        tuple(key for key in dict.fromkeys(scales) if key in floats),
        tuple(statistics),
        tuple(key for key in dict.fromkeys(biases) if key not in head),
        head,
        sum(_bytes(tensors[key]) for key in head),
        total,
    )


def choose_what(found: Changeable, what: Sequence[Changed] | None, *, name: str) -> tuple[Changed, ...]:
    """What to change: `what`, or by default the normalisation, and the head where it is small.

    A graph whose normalisation was folded into its convolutions has only their biases left; they take its
    place (Cai et al., "TinyTL", 2020, arXiv:2007.11622).

    Raises
    ------
    ModelError
        When `what` is not to be found in the model, or nothing is.
    """
    there = {
        "normalisation": bool(found.normalisation),
        "biases": bool(found.biases),
        "head": bool(found.head),
    }
    held = ", ".join(key for key, is_there in there.items() if is_there) or "nothing of that"
    unknown = [key for key in what or () if not there.get(key)]
    if unknown or what == ():
        raise ModelError(
            f"model {name!r}: expected to change some of {', '.join(CHANGEABLE_PARTS)}, got "
            f"{', '.join(unknown) or 'none'}; it has {held}. Choose among what it has."
        )
    if what is not None:
        return tuple(key for key in CHANGEABLE_PARTS if key in what)
    chosen: list[Changed] = ["normalisation"] if found.normalisation else ["biases"] if found.biases else []
    small = found.head_bytes <= max(MAX_HEAD_BYTES, MAX_HEAD_SHARE * found.total_bytes)
    if found.head and (small or not chosen):
        chosen.append("head")
    if not chosen:
        raise ModelError(
            f"model {name!r}: expected normalisation, biases or a last linear layer with one output a class, "
            "got a graph without them. Export it with its normalisation (not folded), or adapt another model."
        )
    return tuple(chosen)


def exchange(content: bytes, values: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The model with other content in some of its tensors; names, types, shapes and all else stay.

    Raises
    ------
    ModelError
        When a tensor does not exist, has another shape, or is not finite.
    """
    model = onnx.load_model_from_string(content)
    tensors = stored_tensors(model.graph)
    for key, value in values.items():
        held = numpy_helper.to_array(tensors[key]) if key in tensors else None
        if held is None or held.shape != value.shape or not np.isfinite(value).all():
            got = "none of that name" if held is None else f"{list(value.shape)} for {list(held.shape)}"
            raise ModelError(f"tensor {key!r}: expected finite values of its own shape, got {got}.")
        new = numpy_helper.from_array(value.astype(held.dtype), tensors[key].name)
        if tensors[key].HasField("raw_data"):
            tensors[key].raw_data = new.raw_data
        else:
            tensors[key].CopyFrom(new)
    exchanged: bytes = model.SerializeToString(deterministic=True)
    return exchanged


def difference(parent: bytes, child: bytes) -> Difference:
    """Compare the tensors of two models of one graph by name.

    Raises
    ------
    ModelError
        When their tensors have other names, types or shapes.
    """
    one, two = (stored_tensors(onnx.load_model_from_string(content).graph) for content in (parent, child))
    changed = total = 0
    for key in one.keys() | two.keys():
        if key not in one or key not in two or _kind(one[key]) != _kind(two[key]):
            raise ModelError(f"expected two models of one graph, got two that differ in tensor {key!r}.")
        total += _bytes(one[key])
        same = numpy_helper.to_array(one[key]).tobytes() == numpy_helper.to_array(two[key]).tobytes()
        changed += 0 if same else _bytes(one[key])
    return Difference(changed, total)


def _normalisation(
    nodes: Sequence[onnx.NodeProto], floats: Mapping[str, onnx.TensorProto]
) -> tuple[list[str], list[str]]:
    scales, statistics = [], []
    for node in nodes:
        if node.op_type in NORMALISATION:
            scales += [key for key in node.input[1:3] if key in floats]
            if node.op_type == "BatchNormalization" and all(key in floats for key in node.input[3:5]):
                statistics += list(node.input[3:5])
    # Two layers that share their statistics would overwrite each other's.
    return scales, [key for key in statistics if statistics.count(key) == 1]


def _with_bias(
    node: onnx.NodeProto, nodes: Sequence[onnx.NodeProto], floats: Mapping[str, onnx.TensorProto]
) -> tuple[str, ...]:
    """A product's stored weights, and the bias that it adds itself or that a sum adds right after it."""
    keys = [key for key in node.input[1:3] if key in floats]
    for other in nodes:
        if len(keys) == 1 and other.op_type == "Add" and node.output[0] in other.input:
            keys += [key for key in other.input if key in floats and len(floats[key].dims) <= 2]
    return tuple(keys)


def _kind(tensor: onnx.TensorProto) -> tuple[int, tuple[int, ...]]:
    return tensor.data_type, tuple(tensor.dims)


def _bytes(tensor: onnx.TensorProto) -> int:
    return int(numpy_helper.to_array(tensor).nbytes)
