"""The front of every stored graph: uint8 images of any size → the float input of one network."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, compose, helper, numpy_helper

from zoo.architectures.preprocessing import LUMA, Preprocessing
from zoo.errors import ModelError

PREFIX = "input/"
OPSET = 18  # the first with an antialiased Resize
IR_VERSION = 10  # read by every ONNX Runtime since 1.18

Layout = Literal["nchw", "nhwc"]

_MODES: dict[str, dict[str, Any]] = {
    "bilinear": {"mode": "linear"},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5},
}


class GraphBuilder:
    """Collects the nodes and constants of a small graph whose names all start with `prefix`."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: ArrayLike, dtype: type[np.generic]) -> str:
        """Add a constant tensor and return its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), self.prefix + name))
        return self.prefix + name

    def op(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return the name of that output."""
        name = self.prefix + name
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def model(
        self, source: onnx.ValueInfoProto, result: onnx.ValueInfoProto, *, opset: int
    ) -> onnx.ModelProto:
        """The collected graph from `source` to `result` as a model."""
        graph = helper.make_graph(self.nodes, self.prefix.rstrip("/"), [source], [result], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)


def front_model(
    preprocessing: Preprocessing,
    *,
    layout: Layout = "nchw",
    pixel_scale: float = 1.0,
    kind: int = TensorProto.FLOAT,
    opset: int = OPSET,
) -> onnx.ModelProto:
    """``image`` uint8 ``[N, H, W, 3]`` → the input of a network, as a model of its own.

    Parameters
    ----------
    layout
        Axes of the result: ``nchw`` is ``[N, 3, h, w]``, ``nhwc`` is ``[N, h, w, 3]``; 1 instead of 3
        in gray.
    pixel_scale
        The result is multiplied by this: 255 for a network that takes pixels 0..255.
    kind
        Type of the result, an ``onnx.TensorProto.DataType``. Whole numbers are rounded and kept in range.
    """
    height, width = preprocessing.resolution
    build = GraphBuilder(PREFIX)
    image = "image" if preprocessing.crop is None else _crop(build, preprocessing)
    last = build.op("Transpose", "planes", image, perm=[0, 3, 1, 2])
    last = build.op("Cast", "floats", last, to=TensorProto.FLOAT)
    last = build.op(
        "Resize",
        "resized",
        last,
        "",
        "",
        build.constant("resolution", [height, width], np.int64),
        axes=[2, 3],
        antialias=1,
        exclude_outside=1,  # as torch and Pillow do; without it the border differs from training
        coordinate_transformation_mode="half_pixel",
        **_MODES[preprocessing.interpolation],
    )
    # BatchNormalization is one pass over the pixels where Mul and Add are two.
    last = build.op(
        "BatchNormalization",
        "normalised",
        last,
        build.constant("scale", np.multiply(preprocessing.scale, pixel_scale), np.float32),
        build.constant("offset", np.multiply(preprocessing.offset, pixel_scale), np.float32),
        build.constant("zero", np.zeros(3), np.float32),
        build.constant("one", np.ones(3), np.float32),
        epsilon=0.0,
    )
    if preprocessing.channels == "bgr":
        last = build.op("Gather", "bgr", last, build.constant("reversed", [2, 1, 0], np.int64), axis=1)
    elif preprocessing.channels == "gray":
        luma = build.constant("luma", np.reshape(LUMA, (1, 3, 1, 1)), np.float32)
        last = build.op("Conv", "gray", last, luma)
    shape: list[str | int] = ["N", preprocessing.planes, height, width]
    if layout == "nhwc":
        last = build.op("Transpose", "channels_last", last, perm=[0, 2, 3, 1])
        shape = ["N", height, width, preprocessing.planes]
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    if dtype.kind in "ui":
        last = build.op("Round", "rounded", last)
    if dtype.kind in "ui" and dtype.itemsize < 4:  # pixels are far from the limits of larger types
        limits = np.iinfo(dtype)
        ends = build.constant("least", limits.min, np.float32), build.constant("most", limits.max, np.float32)
        last = build.op("Clip", "clipped", last, *ends)
    if kind != TensorProto.FLOAT:
        last = build.op("Cast", "cast", last, to=kind)
    return build.model(
        helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3]),
        helper.make_tensor_value_info(last, kind, shape),
        opset=opset,
    )


def uncropped_of(content: bytes) -> tuple[int, int] | None:
    """Height and width that a stored graph resizes the whole image to before its crop; None without one."""
    for tensor in onnx.load_model_from_string(content).graph.initializer:
        if tensor.name == f"{PREFIX}full":
            height, width = numpy_helper.to_array(tensor).tolist()
            return height, width
    return None


def attach_front(core: onnx.ModelProto, *, name: str, front: onnx.ModelProto) -> onnx.ModelProto:
    """Join a front with a network that has one input and one output, called ``logits``.

    Parameters
    ----------
    core
        A model of the front's opset; no name in it starts with ``input/``.
    name
        Name of the joined graph.

    Raises
    ------
    ModelError
        When the two cannot be joined.
    """
    core.ir_version = IR_VERSION
    pixels = front.graph.output[0]
    try:
        joined = compose.merge_models(
            front, core, io_map=[(pixels.name, core.graph.input[0].name)], name=name
        )
    except (ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"model {name!r}: the preprocessing cannot be put in front of the graph: {error}. "
            "Check its input and the opset it was exported with."
        ) from error
    joined.graph.value_info.append(pixels)  # so that shapes behind a crop stay known
    without_notes(joined)
    return joined


def without_notes(joined: onnx.ModelProto) -> None:
    """Take out what merges list twice, and what exporters note."""
    opsets = {imported.domain: imported.version for imported in joined.opset_import}
    del joined.opset_import[:]  # the merge lists the default domain twice
    joined.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in opsets.items())
    for value in (*joined.graph.input, *joined.graph.output, *joined.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]  # exporters leave notes about the machine that they ran on
    joined.graph.doc_string = ""
    del joined.graph.metadata_props[:]
    joined.producer_name, joined.producer_version, joined.doc_string = "zooselect", "", ""


def _crop(build: GraphBuilder, preprocessing: Preprocessing) -> str:
    """The centre crop in whole pixels; integer arithmetic, equal to :meth:`Preprocessing.box`."""
    out, full = np.array(preprocessing.resolution), np.array(preprocessing.uncropped)
    size = build.op("Shape", "size", "image", start=1, end=3)
    kept = build.op("Mul", "scaled", size, build.constant("kept", out[:, np.newaxis], np.int64))
    kept = build.op("Add", "half_up", kept, build.constant("half_full", full // 2, np.int64))
    kept = build.op("Div", "candidates", kept, build.constant("full", full, np.int64))
    kept = build.op("ReduceMin", "smallest", kept, build.constant("last_axis", [1], np.int64), keepdims=0)
    kept = build.op("Max", "box", kept, build.constant("one_pixel", [1, 1], np.int64))
    start = build.op("Sub", "left_over", size, kept)
    start = build.op("Div", "start", start, build.constant("two", [2, 2], np.int64))
    end = build.op("Add", "end", start, kept)
    return build.op("Slice", "cropped", "image", start, end, build.constant("rows_columns", [1, 2], np.int64))
