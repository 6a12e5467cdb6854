"""Foreign ONNX models, made with plain ONNX operators."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from zoo.architectures.preprocessing import Preprocessing

CLASSES = ("cat", "dog", "emu")


PLAIN = Preprocessing((8, 10), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))


def foreign(
    *,
    batch: int | str = "batch",
    layout: str = "nchw",
    opset: int = 18,
    half: bool = False,
    softmax: bool = False,
    built_in_batch: bool = False,
    second_input: bool = False,
    pixel: float = 1.0,
) -> onnx.ModelProto:
    """A small convolutional classifier with two outputs (the logits and the pooled features)."""
    rng = np.random.default_rng(3)
    real = np.float16 if half else np.float32
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    weights = {
        "kernel": (rng.normal(0, 0.5, (6, 3, 3, 3)) / pixel).astype(real),
        "matrix": rng.normal(0, 1, (6, 3)).astype(real),
        "flat": np.array([batch if built_in_batch else 0, 6], np.int64),
        "bias": rng.normal(0, 1, (1, 3)).astype(real),
        "bias shape": np.array([1, 3], np.int64),
    }
    start = "x"
    zeros = {"allowzero": 1} if built_in_batch else {}  # as torch's exporter writes it
    nodes = []
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", ["x"], ["planes"], perm=[0, 3, 1, 2]))
        start = "planes"
    nodes += [
        helper.make_node("Conv", [start, "kernel"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "flat"], ["features"], **zeros),
        helper.make_node("MatMul", ["features", "matrix"], ["product"]),
        helper.make_node("Reshape", ["bias", "bias shape"], ["offset"]),
        helper.make_node("Add", ["product", "gain" if second_input else "offset"], ["y"]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["y"], ["p"], axis=1))
    shape = [batch, 3, 8, 10] if layout == "nchw" else [batch, 8, 10, 3]
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    if second_input:
        inputs.append(helper.make_tensor_value_info("gain", kind, [1, 3]))
    graph = helper.make_graph(
        nodes,
        "theirs",
        inputs,
        [
            helper.make_tensor_value_info("p" if softmax else "y", kind, [batch, 3]),
            helper.make_tensor_value_info("features", kind, [batch, 6]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def foreign_means(size: tuple[int, int], *, weights: np.ndarray | None = None) -> bytes:
    """The mean of every channel, or sums of these with weights: float ``[N, 3, H, W]`` to ``[N, C]``."""
    matrix = np.eye(3, dtype=np.float32) if weights is None else weights.astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["data", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "matrix"], ["scores"]),
    ]
    constants = {"axes": np.array([2, 3], np.int64), "matrix": matrix}
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, *size])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", matrix.shape[1]])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content
