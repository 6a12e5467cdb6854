"""The last layer of a model: where it is, what goes into it, and the model with another one.

A head is a product with stored weights and one output a class, whose result is the logits. In an 8-bit model
its input is taken before it is rounded, and the new head works in float behind the 8-bit body.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from zoo.convert.exchange import Difference, exchange
from zoo.convert.torch_graph import stored_tensors
from zoo.errors import ModelError
from zoo.files import sha256_bytes
from zoo.models.card import ModelCard
from zoo.models.model import EMBEDDING, read_graph
from zoo.models.zoo import Zoo, add_again


class Head(NamedTuple):
    """The last layer: ``logits = embedding @ weights + bias``."""

    embedding: str  # tensor of the graph, float32 [N, D]
    weights: NDArray[np.float32]  # [D, C]
    bias: NDArray[np.float32]  # [C]
    stored: tuple[str, ...]  # tensors that hold weights and bias in float; () where they hold codes


def find_head(content: bytes, *, classes: int, name: str) -> Head:
    """Find the last layer of a model.

    Raises
    ------
    ModelError
        When the logits do not come from a product with stored weights and one output a class.
    """
    return _find(onnx.load_model_from_string(content).graph, classes, name)


def with_embedding(content: bytes, *, classes: int, name: str) -> bytes:
    """The model with a second output ``embedding`` float32 ``[N, D]``: what goes into its last layer.

    Examples
    --------
    >>> session = open_session(with_embedding(content, classes=10, name="small"), name="small")
    >>> [output.name for output in session.get_outputs()]
    ['logits', 'embedding']
    """
    model = onnx.load_model_from_string(content)
    head = _find(model.graph, classes, name)
    if any(output.name == EMBEDDING for output in model.graph.output):
        return content
    width = head.weights.shape[0]
    model.graph.node.append(helper.make_node("Identity", [head.embedding], [EMBEDDING]))
    model.graph.output.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["N", width]))
    extended: bytes = model.SerializeToString(deterministic=True)
    return extended


def without_embedding(content: bytes) -> bytes:
    """The model with logits as its only output, as it was before :func:`with_embedding`."""
    model = onnx.load_model_from_string(content)
    for output in [output for output in model.graph.output if output.name == EMBEDDING]:
        model.graph.output.remove(output)
        _prune(model.graph)
    plain: bytes = model.SerializeToString(deterministic=True)
    return plain


def has_embedding(content: bytes) -> bool:
    """Whether the model gives the input of its last layer as a second output."""
    return any(output.name == EMBEDDING for output in onnx.load_model_from_string(content).graph.output)


def replace_head(
    content: bytes, weights: NDArray[np.floating], bias: NDArray[np.floating], *, name: str
) -> bytes:
    """The model with another last layer in float; all other tensors stay as they are, bit by bit.

    Parameters
    ----------
    weights, bias
        ``[D, C]`` and ``[C]`` of the new layer.

    Raises
    ------
    ModelError
        When the model has no such layer, or the numbers are not finite.
    """
    model = onnx.load_model_from_string(content)
    graph = model.graph
    head = _find(graph, len(bias), name)
    if weights.shape != head.weights.shape or not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        raise ModelError(
            f"model {name!r}: expected a finite head {list(head.weights.shape)}, got {list(weights.shape)}."
        )
    logits = graph.output[0].name
    made_by = {output: node for node in graph.node for output in node.output}
    old = _product(made_by, logits)
    assert old is not None
    turned = old.op_type == "Gemm" and any(a.name == "transB" and a.i for a in old.attribute)
    new_weights = np.ascontiguousarray(weights.T if turned else weights, np.float32)
    tensors = stored_tensors(graph)
    if len(head.stored) == 2:  # the graph stays the same, byte by byte
        shape = tuple(tensors[head.stored[1]].dims)
        new_bias = bias.astype(np.float32).reshape(shape)
        return exchange(content, {head.stored[0]: new_weights, head.stored[1]: new_bias})
    names = _free_names({*tensors, *made_by})
    for key, value in zip(names, (new_weights, bias.astype(np.float32)), strict=True):
        graph.initializer.append(numpy_helper.from_array(value, key))
    for node in [node for node in graph.node if logits in node.output]:
        graph.node.remove(node)
    made = helper.make_node("Gemm", [head.embedding, *names], [logits], name="head", transB=int(turned))
    graph.node.append(made)
    _prune(graph)
    replaced: bytes = model.SerializeToString(deterministic=True)
    return replaced


def add_embedding(zoo: Zoo, name: str) -> ModelCard:
    """Give a model of `zoo` the input of its last layer as a second output, in place of the one without.

    Raises
    ------
    ModelError
        When its last layer is not a product with stored weights.

    Examples
    --------
    >>> from zoo.convert.head import add_embedding
    >>> add_embedding(zoo, "small").name
    'small'
    """
    card = zoo.card(name)
    content = read_graph(card, zoo.folder)
    if has_embedding(content):
        return card
    extended = with_embedding(content, classes=len(card.classes), name=name)
    facts = {"sha256": sha256_bytes(extended), "size_bytes": len(extended)}
    return add_again(zoo, msgspec.structs.replace(card, **facts), extended, force=True)


def bring_with_embedding(zoo: Zoo, name: str, target: Zoo, *, force: bool) -> ModelCard:
    """Add a model of `zoo` to `target` with the input of its last layer as a second output.

    Raises
    ------
    CardError
        When `target` holds a different model of that name, such as the one without, and not `force`.
    ModelError
        When its last layer is not a product with stored weights.
    """
    return add_again(target, add_embedding(zoo, name), read_graph(zoo.card(name), zoo.folder), force=force)


def _free_names(taken: set[str]) -> tuple[str, str]:
    """Names for the tensors of a head that no other tensor has."""
    number = next(i for i in itertools.count() if not {f"head{i}.weight", f"head{i}.bias"} & taken)
    return f"head{number}.weight", f"head{number}.bias"


def head_difference(parent: bytes, child: bytes) -> Difference:
    """Bytes of the tensors of `child` that its parent does not hold, of those of all its tensors."""
    one, two = (stored_tensors(onnx.load_model_from_string(content).graph) for content in (parent, child))
    held = {numpy_helper.to_array(tensor).tobytes() for tensor in one.values()}
    values = [numpy_helper.to_array(tensor) for tensor in two.values()]
    changed = sum(value.nbytes for value in values if value.tobytes() not in held)
    return Difference(changed, sum(value.nbytes for value in values))


def _find(graph: onnx.GraphProto, classes: int, name: str) -> Head:
    made_by = {output: node for node in graph.node for output in node.output}
    tensors = stored_tensors(graph)
    product = _product(made_by, graph.output[0].name)
    if product is None:
        raise ModelError(_none(name, classes))
    values = [_value(made_by, tensors, key) for key in product.input[1:3]]
    weights = values[0]
    plain = {a.name: helper.get_attribute_value(a) for a in product.attribute}
    if weights is None or weights.ndim != 2 or plain.get("transA") or plain.get("alpha", 1.0) != 1.0:
        raise ModelError(_none(name, classes))
    stored = [product.input[1]] if product.input[1] in tensors else []
    bias = values[1] if len(values) > 1 else None
    bias_key = product.input[2] if len(product.input) > 2 else None
    if product.op_type == "MatMul":
        bias_key, bias = _added(graph, made_by, tensors, product.output[0])
    if plain.get("transB"):
        weights = weights.T
    if weights.shape[1] != classes or (bias is not None and bias.size != classes):
        raise ModelError(_none(name, classes))
    if stored and bias_key in tensors:
        stored.append(str(bias_key))
    source = product.input[0]
    node = made_by.get(source)
    if node is not None and node.op_type == "DequantizeLinear":  # what was rounded, before it was
        rounded = made_by.get(node.input[0])
        source = rounded.input[0] if rounded is not None and rounded.op_type == "QuantizeLinear" else source
    found = np.zeros(classes, np.float32) if bias is None else bias.reshape(-1).astype(np.float32)
    return Head(source, weights.astype(np.float32), found, tuple(stored))


def _product(made_by: dict[str, onnx.NodeProto], value: str) -> onnx.NodeProto | None:
    """The product that logits come from, through rounding, an addition and flattening at most."""
    flattened = False
    for _ in range(5):
        node = made_by.get(value)
        if node is None:
            return None
        if node.op_type in ("Gemm", "MatMul"):  # of a Gemm it is known that flattening changes nothing
            return None if flattened and node.op_type == "MatMul" else node
        if node.op_type not in ("Identity", "QuantizeLinear", "DequantizeLinear", "Add", "Flatten"):
            return None
        flattened |= node.op_type == "Flatten"
        value = next((key for key in node.input if key in made_by and not _is_codes(made_by[key])), "")
    return None


def _is_codes(node: onnx.NodeProto) -> bool:
    return node.op_type == "Constant"


def _value(
    made_by: dict[str, onnx.NodeProto], tensors: dict[str, TensorProto], key: str
) -> NDArray[np.float32] | None:
    """A stored tensor, or what its codes stand for."""
    if key in tensors:
        value = numpy_helper.to_array(tensors[key])
        return value.astype(np.float32) if value.dtype.kind == "f" else None
    node = made_by.get(key)
    if node is None or node.op_type != "DequantizeLinear" or any(k not in tensors for k in node.input):
        return None
    codes, scale, *rest = (numpy_helper.to_array(tensors[k]) for k in node.input)
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1) % max(codes.ndim, 1)
    shape = [1] * codes.ndim
    if scale.size > 1:
        shape[axis] = -1
    zero = rest[0].astype(np.float32).reshape(shape) if rest else np.float32(0)
    value = (codes.astype(np.float32) - zero) * scale.astype(np.float32).reshape(shape)
    return np.asarray(value, np.float32)


def _added(
    graph: onnx.GraphProto, made_by: dict[str, onnx.NodeProto], tensors: dict[str, TensorProto], value: str
) -> tuple[str | None, NDArray[np.float32] | None]:
    for node in graph.node:
        if node.op_type == "Add" and value in node.input:
            key = node.input[1] if node.input[0] == value else node.input[0]
            return key, _value(made_by, tensors, key)
    return None, None


def _prune(graph: onnx.GraphProto) -> None:
    """Remove nodes and tensors that nothing needs any more."""
    while True:
        needed = {key for node in graph.node for key in node.input} | {out.name for out in graph.output}
        idle = [node for node in graph.node if not set(node.output) & needed]
        if not idle:
            break
        for node in idle:
            graph.node.remove(node)
    for tensor in [one for one in graph.initializer if one.name not in needed]:
        graph.initializer.remove(tensor)
    shown = {output for node in graph.node for output in node.output}
    for value in [one for one in graph.value_info if one.name not in shown]:
        graph.value_info.remove(value)


def _none(name: str, classes: int) -> str:
    return (
        f"model {name!r}: expected logits from a last product with stored weights and {classes} outputs, "
        "one a class, got a graph without one. Export it with its last layer as nn.Linear, or adapt "
        "another model."
    )
