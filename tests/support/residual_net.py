"""A small residual network under the model contract, with what exporters leave in graphs."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from zoo.architectures.preprocessing import Preprocessing
from zoo.convert.preprocessing_graph import OPSET, attach_front, front_model

CLASSES = ("cat", "dog", "emu")
SIDE = 8  # of what the network sees, in pixels


def residual_net(*, branch: bool = False, loud: float = 1.0) -> bytes:
    """ONNX bytes: resize, a convolution, a residual block, a pool, a product; the batch's size is read early.

    Parameters
    ----------
    branch
        Put an `If` between pool and product; its branches hold the tensors ``kept`` and ``turned``.
    loud
        The first channel behind the block is so many times as large; it favours no class.
    """
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(0, 0.3, (4, 3, 3, 3)),
        "w2": rng.normal(0, 0.2, (4, 4, 3, 3)),
        "w3": rng.normal(0, 0.2, (4, 4, 3, 3)),
        "volume": np.array([loud, 1, 1, 1]).reshape(1, 4, 1, 1),
        "head": np.vstack([np.full(3, 1 / loud), np.roll(5 * rng.normal(0, 1, (3, 3)), 1, axis=1)]),
    }
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Shape", ["small"], ["small shape"]),
        helper.make_node("Gather", ["small shape", "zeroth"], ["batch"]),
        helper.make_node("Conv", ["small", "w1"], ["c1"], **same),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], strides=[2, 2], **same),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3"], ["c3"], **same),
        helper.make_node("Add", ["c3", "r2"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["block"]),
        helper.make_node("Mul", ["block", "volume"], ["louder"]),
        helper.make_node("GlobalAveragePool", ["louder"], ["pooled"]),
        helper.make_node("Concat", ["batch", "four"], ["flat shape"], axis=0),
        helper.make_node("Reshape", ["pooled", "flat shape"], ["flat"]),
        *(_branch() if branch else []),
        helper.make_node("MatMul", ["chosen" if branch else "flat", "head"], ["logits"]),
    ]
    constants = [
        numpy_helper.from_array(np.asarray(value, np.float32), key) for key, value in weights.items()
    ]
    for key, sizes in {"zeroth": [0], "four": [4]}.items():
        constants.append(numpy_helper.from_array(np.array(sizes, np.int64), key))
    if branch:
        constants.append(numpy_helper.from_array(np.array(True), "always"))
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("small", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        constants,
    )
    sees = Preprocessing((SIDE, SIDE))
    core = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model = attach_front(core, name="residual", front=front_model(sees))
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _branch() -> list[onnx.NodeProto]:
    ways = [
        helper.make_graph(
            [helper.make_node(kind, ["flat"], [result])],
            result,
            [],
            [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)],
        )
        for kind, result in (("Identity", "kept"), ("Neg", "turned"))
    ]
    return [helper.make_node("If", ["always"], ["chosen"], then_branch=ways[0], else_branch=ways[1])]


def pixels(count: int, *, seed: int = 0, side: int = 12) -> list[np.ndarray]:
    """Images uint8 ``[H, W, 3]``, each of another colour."""
    rng = np.random.default_rng(seed)
    return [
        (rng.random((side, side + 1, 3)) * rng.integers(20, 256, 3)).astype(np.uint8) for _ in range(count)
    ]
