"""Surgery at a place: the two parts of a model, the codes between them, and the whole with these codes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from zoo.convert.cut.cuttable import IMAGE, LOGITS, is_batch
from zoo.convert.cut.places import Place
from zoo.convert.rewriting.import_graph import extract, reads, subgraphs
from zoo.errors import ModelError

CODES = "codes"  # the tensor between two parts: what leaves the first and goes into the second
TENSOR = "tensor"  # the same where it stays in float
_VALUES, _COPY, _SCALE, _ZERO = "cut/values", "cut/codes", "cut/scale", "cut/zero"
_PER_CHANNEL_OPSET = 13
_TYPES = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "int8": TensorProto.INT8}


class Steps(NamedTuple):
    """How real numbers become 8-bit codes: ``codes = round(values / scale) + zero``, held within 0..255."""

    scale: NDArray[np.float32]  # [] for the whole tensor, or [C] for each channel of the first axis
    zero: NDArray[np.uint8]  # of the same shape


def split(content: bytes, place: Place, *, steps: Steps | None = None, name: str) -> tuple[bytes, bytes]:
    """The two parts of a model: ``image`` → tensor, and tensor → ``logits``.

    Parameters
    ----------
    content
        What :func:`zoo.convert.cut.cuttable.prepare` made of a model.
    place
        From :func:`zoo.convert.cut.places.find_places`.
    steps
        How the tensor becomes codes. The parts then meet in ``codes`` uint8 ``[N, …]``; a tensor of codes
        needs none. Without, they meet in ``tensor`` float32 ``[N, …]``.

    Raises
    ------
    ModelError
        When the file cannot be cut there.
    """
    model = onnx.load_model_from_string(content)
    _check(model, place, steps, name)
    kind = _TYPES[place.kind]
    shape: list[str | int] = ["N", *place.shape]
    crossing = helper.make_tensor_value_info(place.tensor, kind, shape)
    first, second = (_copy(model) for _ in range(2))
    first.graph.output.append(crossing)
    head = extract(first, IMAGE, place.tensor, name=f"{name}-head")
    for node in [node for node in second.graph.node if place.tensor in node.output]:
        second.graph.node.remove(node)
    for node in filter(is_batch, second.graph.node):
        node.input[0] = place.tensor
    second.graph.input.append(crossing)
    tail = extract(second, place.tensor, LOGITS, name=f"{name}-tail")
    coded = steps is not None or place.kind != "float32"
    meet = CODES if coded else TENSOR
    sent = helper.make_tensor_value_info(meet, _TYPES["uint8" if steps else place.kind], shape)
    ends = ("Identity", "Identity") if steps is None else ("QuantizeLinear", "DequantizeLinear")
    inputs: list[str] = []
    axis: dict[str, Any] = {}
    if steps is not None:
        inputs, axis = [_SCALE, _ZERO], _axis(steps)
        for part in (head, tail):
            part.graph.initializer.extend(_tensors(steps))
    head.graph.node.append(helper.make_node(ends[0], [place.tensor, *inputs], [meet], **axis))
    tail.graph.node.insert(0, helper.make_node(ends[1], [meet, *inputs], [place.tensor], **axis))
    head.graph.output[0].CopyFrom(sent)
    tail.graph.input[0].CopyFrom(sent)
    return _bytes(head), _bytes(tail)


def with_codes(content: bytes, place: Place, steps: Steps | None, *, name: str) -> bytes:
    """The whole model that answers as its two parts do: the tensor becomes codes and is read back from them.

    A tensor of codes stays as it is.
    """
    model = onnx.load_model_from_string(content)
    _check(model, place, steps, name)
    model.graph.name = name
    if steps is None:
        return _bytes(model)
    graph = model.graph
    index, maker = next((i, node) for i, node in enumerate(graph.node) if place.tensor in node.output)
    maker.output[:] = [_VALUES if value == place.tensor else value for value in maker.output]
    axis = _axis(steps)
    there = helper.make_node("QuantizeLinear", [_VALUES, _SCALE, _ZERO], [_COPY], **axis)
    back = helper.make_node("DequantizeLinear", [_COPY, _SCALE, _ZERO], [place.tensor], **axis)
    graph.node.insert(index + 1, there)
    graph.node.insert(index + 2, back)
    graph.initializer.extend(_tensors(steps))
    return _bytes(model)


def can_have_channels(content: bytes) -> bool:
    """Whether codes may have a scale for each channel: since operators of version 13."""
    opsets = {one.domain: one.version for one in onnx.load_model_from_string(content).opset_import}
    return bool(opsets.get("", opsets.get("ai.onnx", 0)) >= _PER_CHANNEL_OPSET)


def _check(model: onnx.ModelProto, place: Place, steps: Steps | None, name: str) -> None:
    taken = {value for node in model.graph.node for value in node.output}
    taken |= {tensor.name for tensor in model.graph.initializer}
    inner = {
        value
        for node in model.graph.node
        for part in subgraphs(node)
        for n in part.node
        for value in reads(n)
    }
    if place.tensor not in taken:
        raise ModelError(
            f"model {name!r}: expected a tensor {place.tensor!r} to cut at, got a graph without it."
        )
    held = sorted((taken | inner) & {_VALUES, _COPY, _SCALE, _ZERO, CODES, TENSOR} - {place.tensor})
    if held:
        raise ModelError(
            f"model {name!r}: expected a model that was not cut before, got one with a tensor {held[0]!r}. "
            "Cut the model that it was made from."
        )
    if steps is not None and place.kind != "float32":
        raise ModelError(f"model {name!r}: expected no steps for {place.tensor!r}, whose values are codes.")


def _axis(steps: Steps) -> dict[str, Any]:
    return {"axis": 1} if np.ndim(steps.scale) else {}


def _tensors(steps: Steps) -> list[onnx.TensorProto]:
    return [
        numpy_helper.from_array(np.asarray(steps.scale, np.float32), _SCALE),
        numpy_helper.from_array(np.asarray(steps.zero, np.uint8), _ZERO),
    ]


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    other = onnx.ModelProto()
    other.CopyFrom(model)
    return other


def _bytes(model: onnx.ModelProto) -> bytes:
    model.producer_name, model.producer_version = "zooselect", ""
    content: bytes = model.SerializeToString(deterministic=True)
    return content
