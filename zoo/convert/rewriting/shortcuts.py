"""Shortcuts of residual networks that take every second pixel, as convolutions.

A residual network without parameters in its shortcuts (He et al. 2015, option A) takes every second pixel and
puts zero channels around them: some Slice operators and a Pad. ONNX Runtime keeps the planes of convolutions
in blocks of channels; Slice and Pad do not, so that from the first shortcut on every addition is done apart,
between two changes of the layout. A 1x1 convolution with a stride, whose weights are ones and zeros, gives
the same values and stays in blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

from zoo.convert.preprocessing_graph import PREFIX
from zoo.errors import ModelError
from zoo.models.session import open_session

SAME = 1e-5  # of the largest logit; a rewritten graph that differs by more is not used
SHORTCUT = "strided shortcut"  # in the names of what takes its place: nothing in it is learned
MOST_WEIGHTS = 2**20  # numbers of one convolution that takes the place of a shortcut


def rewritten(model: onnx.ModelProto, images: NDArray[np.uint8]) -> onnx.ModelProto:
    """A model under the model contract with faster operators, where its answers stay the same.

    Parameters
    ----------
    model
        ``image`` uint8 ``[N, H, W, 3]`` → ``logits``; it is not changed.
    images
        uint8 ``[N, H, W, 3]`` to compare the answers on.

    Returns
    -------
    ModelProto
        The rewritten model; `model` itself where there is nothing to rewrite, or where a logit differs by
        more than :data:`SAME` of the largest.

    Examples
    --------
    >>> import numpy as np, onnx
    >>> from zoo.convert.rewriting.shortcuts import rewritten
    >>> before = onnx.load_model_from_string(content)
    >>> rewritten(before, np.stack([image])) is before  # it has no shortcuts
    True
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    if strided_shortcuts(changed) and _same_answers(model, changed, images):
        return changed
    return model


def strided_shortcuts(model: onnx.ModelProto) -> int:
    """Put strided convolutions in place of Slice operators that end in a Pad with zero channels.

    Returns
    -------
    int
        How many shortcuts were replaced, in `model` itself.
    """
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    uses = _uses(graph)
    channels: Mapping[str, int] | None = None
    replaced = 0
    for pad in [node for node in graph.node if node.op_type == "Pad" and not node.name.startswith(PREFIX)]:
        around = _zero_channels(pad, tensors)
        if around is None:
            continue
        source, strides, sliced = _strides(pad.input[0], made_by, tensors, uses)
        if max(strides) == 1:
            continue
        channels = _channels(model) if channels is None else channels
        count = channels.get(source, 0)
        before, after = around
        if not count or count * (count + before + after) > MOST_WEIGHTS:
            continue
        weights = np.zeros((before + count + after, count, 1, 1), np.float32)
        weights[np.arange(before, before + count), np.arange(count)] = 1.0
        name = f"{pad.output[0]}/{SHORTCUT}"
        convolution = helper.make_node(
            "Conv", [source, name], [pad.output[0]], name=name, kernel_shape=[1, 1], strides=strides
        )
        graph.initializer.append(numpy_helper.from_array(weights, name))
        place = list(graph.node).index(pad)
        for node in (pad, *sliced):
            graph.node.remove(node)
        graph.node.insert(place - len(sliced), convolution)
        replaced += 1
    if replaced:
        _drop_unused(graph)
    return replaced


def _zero_channels(pad: onnx.NodeProto, tensors: Mapping[str, TensorProto]) -> tuple[int, int] | None:
    """How many zero channels a Pad of ``[N, C, H, W]`` puts before and after; None for any other Pad."""
    plain = {a.name: helper.get_attribute_value(a) for a in pad.attribute}
    if plain.get("mode", b"constant") != b"constant":
        return None
    pads = _stored(pad, 1, tensors)
    value, axes = _stored(pad, 2, tensors), _stored(pad, 3, tensors)
    if pads is None or (_has(pad, 2) and (value is None or value.any())):
        return None
    if _has(pad, 3):
        if axes is None or len(pads) != 2 * len(axes):
            return None
        every = np.zeros((2, 4), np.int64)
        every[:, axes % 4] = pads.reshape(2, -1)
    elif len(pads) == 8:
        every = pads.reshape(2, 4)
    else:
        return None
    if every[:, [0, 2, 3]].any() or every.min() < 0:
        return None
    return int(every[0, 1]), int(every[1, 1])


def _strides(
    value: str,
    made_by: Mapping[str, onnx.NodeProto],
    tensors: Mapping[str, TensorProto],
    uses: Mapping[str, int],
) -> tuple[str, list[int], list[onnx.NodeProto]]:
    """Where a value comes from, through Slice operators that nothing else uses, and every how many pixels."""
    strides, sliced = np.ones(4, np.int64), list[onnx.NodeProto]()
    while (node := made_by.get(value)) is not None and node.op_type == "Slice" and uses.get(value) == 1:
        steps = _steps(node, tensors)
        if steps is None or (steps[:2] != 1).any():
            break
        strides *= steps
        sliced.append(node)
        value = node.input[0]
    return value, strides[2:].tolist(), sliced


def _steps(node: onnx.NodeProto, tensors: Mapping[str, TensorProto]) -> NDArray[np.int64] | None:
    """Steps along the four axes of a Slice that takes every so many, from the first to the last."""
    starts, ends = _stored(node, 1, tensors), _stored(node, 2, tensors)
    if starts is None or ends is None or starts.any() or (ends < np.iinfo(np.int32).max).any():
        return None
    axes = _stored(node, 3, tensors) if _has(node, 3) else np.arange(len(starts))
    steps = _stored(node, 4, tensors) if _has(node, 4) else np.ones(len(starts), np.int64)
    if axes is None or steps is None or (steps < 1).any() or (axes % 4 != axes).any():
        return None
    every = np.ones(4, np.int64)
    every[axes] = steps
    return every


def _channels(model: onnx.ModelProto) -> dict[str, int]:
    """Channels of every value ``[N, C, H, W]`` of float32 whose channels are known."""
    graph = shape_inference.infer_shapes(model).graph
    found: dict[str, int] = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        kind = value.type.tensor_type
        if kind.elem_type == TensorProto.FLOAT and len(kind.shape.dim) == 4:
            found[value.name] = kind.shape.dim[1].dim_value
    return found


def _uses(graph: onnx.GraphProto) -> dict[str, int]:
    """How often each value is read; what a branch or a loop reads counts as often as can be."""
    found: dict[str, int] = {output.name: 2 for output in graph.output}
    for node in graph.node:
        for value in node.input:
            found[value] = found.get(value, 0) + 1
        branches = [part for item in node.attribute for part in (item.g, *item.graphs)]
        for inner in branches:
            for value in _uses(inner):
                found[value] = found.get(value, 0) + 2
    return found


def _has(node: onnx.NodeProto, place: int) -> bool:
    return len(node.input) > place and bool(node.input[place])


def _stored(node: onnx.NodeProto, place: int, tensors: Mapping[str, TensorProto]) -> NDArray[Any] | None:
    """A stored input of a node."""
    if not _has(node, place) or node.input[place] not in tensors:
        return None
    return numpy_helper.to_array(tensors[node.input[place]])


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove tensors and recorded shapes that nothing needs any more."""
    read, shown = _uses(graph), {output for node in graph.node for output in node.output}
    for tensor in [one for one in graph.initializer if one.name not in read]:
        graph.initializer.remove(tensor)
    for value in [one for one in graph.value_info if one.name not in shown]:
        graph.value_info.remove(value)


def _same_answers(before: onnx.ModelProto, after: onnx.ModelProto, images: NDArray[np.uint8]) -> bool:
    """Whether two models give the same logits, but for :data:`SAME` of the largest."""
    try:
        expected, got = (
            open_session(model.SerializeToString(), name=model.graph.name).run(["logits"], {"image": images})[
                0
            ]
            for model in (before, after)
        )
    except (ModelError, RuntimeError, ValueError):
        return False
    scale = max(float(np.abs(expected).max()), 1e-6)
    return bool(expected.shape == got.shape and np.abs(got - expected).max() <= SAME * scale)
