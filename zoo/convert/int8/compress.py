"""Compression: a float model → the same model with 8-bit integer weights and activations."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from tqdm import tqdm

from zoo.convert.int8.ranges import Feeds, cut_ranges, least_error_ranges
from zoo.convert.preprocessing_graph import PREFIX
from zoo.convert.rewriting.import_graph import all_nodes, answers_alone
from zoo.convert.rewriting.shortcuts import rewritten
from zoo.errors import DataError, ModelError
from zoo.inputs.kind import InputKind, Item
from zoo.inputs.kinds import IMAGE
from zoo.quiet import quiet

MIN_IMAGES = 8
IMAGE_PLANES = (
    4  # that a first convolution reads at most which stays in float: 8-bit kernels take more at once
)
LIGHT_HEAD = 0.01  # share of all weights up to which a last layer stays in float
MAX_ROUNDED_SHARE = 0.01  # of a tensor's codes may differ, by one, and still count as the same


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Hands the calibration images to ONNX Runtime one at a time, so that their sizes may differ."""

    def __init__(self, batches: Iterable[Feeds]) -> None:
        self._batches: Iterator[Feeds] = iter(batches)

    def get_next(self) -> Feeds | None:
        return next(self._batches, None)


def quantize_int8(
    content: bytes,
    images: Sequence[Item],
    *,
    name: str,
    kind: InputKind = IMAGE,
    like: bytes | None = None,
    cut: float = 0.0,
    least_error: bool = False,
    float_ends: bool | None = None,
    rewrite: bool = True,
    progress: bool = False,
) -> bytes:
    """Quantise a zoo model to 8-bit integers, with ranges measured on real images.

    Static quantisation (Jacob et al. 2018, arXiv:1712.05877): one scale per output channel for the weights,
    one per tensor for the activations; BatchNormalization is folded into the convolutions first, and the
    preprocessing stays in float. So does a convolution of the image's own planes, and a last layer with at
    most :data:`LIGHT_HEAD` of the weights: both are faster so, and the answers are closer to those of the
    float model.

    Parameters
    ----------
    content
        ONNX file of a float model under the model contract.
    images
        Calibration images, uint8 ``[H, W, 3]`` each, at least 8; some hundred from the training data are
        enough. They must not be the images that the model is judged by. Or inputs of another kind.
    name
        Name of the new graph.
    kind
        The kind of input.
    like
        The quantised model of the one that this one was adapted from. Codes that differ from its codes by
        rounding alone are taken from it, so that both share them: a scale per output channel takes up all
        that normalisation does to a convolution, and what is left are codes that were nearly half-way between
        two steps. The same layers stay in float.
    cut
        Share of the values of an activation, in [0, 0.5), that may lie above its range, and below it. 0 takes
        ranges from the smallest to the largest value; 1e-5 is the percentile 99.999.
    least_error
        Instead: ranges that change the values least; see :func:`zoo.convert.int8.ranges.least_error_ranges`.
    float_ends
        Leave the first and the last layer in float, whatever they are, or neither of them; by default, as
        said above.
    rewrite
        Make convolutions of shortcuts that take every second pixel; without, for comparisons.
    progress
        Show a bar when it takes longer than two seconds.

    Returns
    -------
    bytes
        The ONNX file of the quantised model.

    Raises
    ------
    DataError
        When there are too few images.
    InputError
        When one of them is not uint8 ``[H, W, 3]``, or no input of the kind.
    ModelError
        When the model is quantised already or cannot be quantised.
    """
    if len(images) < MIN_IMAGES:
        raise DataError(
            f"expected at least {MIN_IMAGES} calibration {kind.noun}s, got {len(images)}. "
            f"Some hundred {kind.noun}s of the training data are enough."
        )
    checked = [kind.feeds(kind.one(image)) for image in images]
    batches = tqdm(
        checked,
        desc=f"calibrating {name}",
        unit=kind.noun,
        delay=2,
        disable=not progress or None,
        leave=False,
    )
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own classes, which are not onnx's to promise
        raise ModelError(f"model {name!r}: expected the bytes of an ONNX model, got: {error}.") from error
    quantisers = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
    if any(node.op_type in quantisers for node in all_nodes(model.graph)):
        raise ModelError(f"model {name!r}: expected a float model, got one that is quantised already.")
    if answers_alone(model):
        raise ModelError(
            f"model {name!r}: expected a model that answers a batch at once, got one that answers each image "
            "alone, in a loop that is not quantised. Export the network with a free (dynamic) batch axis and "
            "add it again."
        )
    try:
        with tempfile.TemporaryDirectory(prefix="zooselect-") as folder, quiet():
            source, fused, quantised = (Path(folder) / f"{step}.onnx" for step in ("float", "fused", "int8"))
            source.write_bytes(content)
            # Symbolic shape inference is left out: the front has declared the only shape that matters.
            quant_pre_process(source, fused, skip_symbolic_shape=True)
            prepared = onnx.load_model(fused)
            if rewrite and kind == IMAGE:
                prepared = rewritten(prepared, checked[0]["image"])
            _flatten_biases(prepared.graph)
            _name_nodes(model.graph)
            _name_nodes(prepared.graph)
            kept = _float_nodes(prepared.graph, float_ends, like)
            _unfold_first(prepared.graph, model.graph, kept)
            ranges = _ranges(prepared, batches, len(checked), cut, least_error, name)
            quantize_static(
                prepared,
                quantised,
                _Images(checked[:1] if ranges else batches),  # ranges that are given need no images
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,  # signed activations have no fast kernels on x86
                weight_type=QuantType.QInt8,
                nodes_to_exclude=kept,
                extra_options={"TensorQuantOverrides": ranges},
            )
            compressed = onnx.load_model(quantised)
    except Exception as error:  # the quantiser raises a family of unrelated classes
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"model {name!r}: expected a float model that ONNX Runtime can quantise, got: {reason}."
        ) from error
    if like is not None:
        _share_codes(compressed.graph, onnx.load_model_from_string(like).graph)
    compressed.graph.name = name
    compressed.producer_name, compressed.producer_version = "zooselect", ""
    del compressed.metadata_props[:]
    quantised_content: bytes = compressed.SerializeToString(deterministic=True)
    return quantised_content


def _ranges(
    model: onnx.ModelProto,
    batches: Iterable[Feeds],
    count: int,
    cut: float,
    least_error: bool,
    name: str,
) -> dict[str, list[dict[str, NDArray[np.float32]]]]:
    """Ranges as the quantiser takes them; none where it measures the smallest and the largest values."""
    if not (cut or least_error):
        return {}
    found = (
        least_error_ranges(model, batches, count, name)
        if least_error
        else cut_ranges(model, batches, count, cut, name)
    )
    return {value: [{"rmin": low, "rmax": high}] for value, (low, high) in found.items()}


def _float_nodes(graph: onnx.GraphProto, ends: bool | None, like: bytes | None) -> list[str]:
    """Names of the nodes that stay in float: the preprocessing, and the ends of the network where it pays."""
    front = [node.name for node in graph.node if node.name.startswith(PREFIX)]
    layers = _layers(graph)
    if not layers:
        return front
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    weights = [shapes.get(node.input[1], ()) for node in layers]
    first = last = bool(ends)
    if ends is None:
        first = layers[0].op_type == "Conv" and 0 < math.prod(weights[0][1:2]) <= IMAGE_PLANES
        last = math.prod(weights[-1]) <= LIGHT_HEAD * sum(map(math.prod, weights))
    if like is not None:
        first, last = float_ends_of(like)
    kept = [layers[0].name] * first + [layers[-1].name] * last
    return front + list(dict.fromkeys(kept))


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give names to nodes that have none: the quantiser leaves nodes out by their names."""
    taken = {node.name for node in graph.node}
    for index, node in enumerate(graph.node):
        if not node.name:
            node.name = next(one for i in itertools.count() if (one := f"node{index}.{i}") not in taken)
            taken.add(node.name)


def _unfold_first(graph: onnx.GraphProto, source: onnx.GraphProto, kept: list[str]) -> None:
    """Put the first convolution, where it is among those that are `kept`, and its normalisation back.

    ONNX Runtime folds them while it loads. A model that was adapted in its normalisation then shares the
    weights of the convolution with its parent.
    """
    layers, originals = _layers(graph)[:1], _layers(source)[:1]
    if not (layers and originals and layers[0].name in kept and layers[0].op_type == "Conv"):
        return
    folded, convolution = layers[0], originals[0]
    after = [node for node in source.node if convolution.output[0] in node.input]
    if len(after) != 1 or after[0].op_type != "BatchNormalization":
        return
    if (folded.input[0], folded.output[0]) != (convolution.input[0], after[0].output[0]):
        return
    place = list(graph.node).index(folded)
    graph.node.remove(folded)
    for node in (after[0], convolution):
        graph.node.insert(place, node)
        kept.append(node.name)
    held = {tensor.name for tensor in graph.initializer}
    needed = {*convolution.input, *after[0].input} - held
    graph.initializer.extend(tensor for tensor in source.initializer if tensor.name in needed)
    used = {value for node in graph.node for value in node.input}
    for tensor in [one for one in graph.initializer if one.name in folded.input and one.name not in used]:
        graph.initializer.remove(tensor)


def _layers(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that have weights, first to last."""
    return [
        node
        for node in graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul") and not node.name.startswith(PREFIX)
    ]


def float_ends_of(content: bytes) -> tuple[bool, bool]:
    """Whether the first, and the last, layer of a quantised model has weights in float."""
    graph = onnx.load_model_from_string(content).graph
    constants = {tensor.name for tensor in graph.initializer}
    layers = _layers(graph)
    return (layers[0].input[1] in constants, layers[-1].input[1] in constants) if layers else (False, False)


def _share_codes(graph: onnx.GraphProto, other: onnx.GraphProto) -> None:
    """Take codes from `other` where at most one in a hundred differs, and by one step."""
    theirs = {tensor.name: tensor for tensor in other.initializer}
    for tensor in graph.initializer:
        same = theirs.get(tensor.name)
        if (
            same is None
            or tensor.data_type != onnx.TensorProto.INT8
            or (same.data_type, same.dims) != (tensor.data_type, tensor.dims)
        ):
            continue
        codes, shared = (numpy_helper.to_array(one).astype(np.int16) for one in (tensor, same))
        apart = np.abs(codes - shared)
        if apart.size and apart.max() <= 1 and apart.mean() <= MAX_ROUNDED_SHARE:
            tensor.CopyFrom(same)


def _flatten_biases(graph: onnx.GraphProto) -> None:
    """Biases ``[1, C]`` of matrix products → ``[C]``, which alone can be quantised per channel."""
    biases = {node.input[2] for node in graph.node if node.op_type == "Gemm" and len(node.input) == 3}
    others = {
        value
        for node in graph.node
        for position, value in enumerate(node.input)
        if node.op_type != "Gemm" or position != 2
    }
    for tensor in graph.initializer:
        if tensor.name in biases - others and len(tensor.dims) == 2 and tensor.dims[0] == 1:
            del tensor.dims[0]
