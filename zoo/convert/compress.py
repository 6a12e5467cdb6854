"""Compression: a float model → the same model with 8-bit integer weights and activations."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from tqdm import tqdm

from zoo.convert.foreign.import_graph import all_nodes, answers_alone
from zoo.convert.preprocessing_graph import PREFIX
from zoo.convert.ranges import cut_ranges, least_error_ranges
from zoo.errors import DataError, ModelError
from zoo.models.image import check_image
from zoo.quiet import quiet

MIN_IMAGES = 8
MAX_ROUNDED_SHARE = 0.01  # of a tensor's codes may differ, by one, and still count as the same


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Hands the calibration images to ONNX Runtime one at a time, so that their sizes may differ."""

    def __init__(self, batches: Iterable[NDArray[np.uint8]]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


def quantize_int8(
    content: bytes,
    images: Sequence[NDArray[np.uint8]],
    *,
    name: str,
    like: bytes | None = None,
    cut: float = 0.0,
    least_error: bool = False,
    float_ends: bool = False,
    progress: bool = False,
) -> bytes:
    """Quantise a zoo model to 8-bit integers, with ranges measured on real images.

    Static quantisation (Jacob et al. 2018, arXiv:1712.05877): one scale per output channel for the weights,
    one per tensor for the activations; BatchNormalization is folded into the convolutions first, and the
    preprocessing stays in float.

    Parameters
    ----------
    content
        ONNX file of a float model under the model contract.
    images
        Calibration images, uint8 ``[H, W, 3]`` each, at least 8; some hundred from the training data are
        enough. They must not be the images that the model is judged by.
    name
        Name of the new graph.
    like
        The quantised model of the one that this one was adapted from. Codes that differ from its codes by
        rounding alone are taken from it, so that both share them: a scale per output channel takes up all
        that normalisation does to a convolution, and what is left are codes that were nearly half-way between
        two steps.
    cut
        Share of the values of an activation, in [0, 0.5), that may lie above its range, and below it. 0 takes
        ranges from the smallest to the largest value; 1e-5 is the percentile 99.999.
    least_error
        Instead: ranges that change the values least; see :func:`zoo.convert.ranges.least_error_ranges`.
    float_ends
        Leave the first and the last layer in float.
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
    ImageError
        When one of them is not uint8 ``[H, W, 3]``.
    ModelError
        When the model is quantised already or cannot be quantised.
    """
    if len(images) < MIN_IMAGES:
        raise DataError(
            f"expected at least {MIN_IMAGES} calibration images, got {len(images)}. "
            "Some hundred images of the training data are enough."
        )
    checked = [check_image(image) for image in images]
    batches = tqdm(
        checked,
        desc=f"calibrating {name}",
        unit="image",
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
            _flatten_biases(prepared.graph)
            ranges = _ranges(prepared, batches, len(checked), cut, least_error, name)
            quantize_static(
                prepared,
                quantised,
                _Images(checked[:1] if ranges else batches),  # ranges that are given need no images
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,  # signed activations have no fast kernels on x86
                weight_type=QuantType.QInt8,
                nodes_to_exclude=_float_nodes(prepared.graph, float_ends),
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
    batches: Iterable[NDArray[np.uint8]],
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


def _float_nodes(graph: onnx.GraphProto, ends: bool) -> list[str]:
    """Names of the nodes that stay in float: the preprocessing, and on request the first and last layer."""
    front = [node.name for node in graph.node if node.name.startswith(PREFIX)]
    layers = _layers(graph)
    return front + (list(dict.fromkeys([*layers[:1], *layers[-1:]])) if ends else [])


def _layers(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that have weights, first to last."""
    return [
        node.name
        for node in graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul") and not node.name.startswith(PREFIX)
    ]


def has_float_ends(content: bytes) -> bool:
    """Whether a quantised model was made with `float_ends`: the first layer has weights in float."""
    graph = onnx.load_model_from_string(content).graph
    constants = {tensor.name for tensor in graph.initializer}
    layers = [node for node in graph.node if node.name in _layers(graph)]
    return bool(layers) and layers[0].input[1] in constants


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
