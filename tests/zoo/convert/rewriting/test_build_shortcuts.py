"""Claims about shortcuts: what takes every second pixel becomes a convolution, and the answers stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.residual_net import CLASSES
from zoo.architectures.preprocessing import Preprocessing
from zoo.convert.foreign.import_onnx import wrap_foreign
from zoo.convert.rewriting.shortcuts import SHORTCUT, rewritten, strided_shortcuts
from zoo.models.session import open_session

SIDE = 9  # odd: the last pixel is taken, too
LAST = np.iinfo(np.int64).max


def shortcut_net(**changed: Any) -> onnx.ModelProto:
    """A convolution, a shortcut that takes every second pixel and four zero channels, a pool, a product."""
    rng = np.random.default_rng(0)
    values: dict[str, Any] = {
        "w": rng.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32),
        "head": rng.normal(0, 1, (8, 3)).astype(np.float32),
        "starts": np.array([0, 0]),
        "ends": np.array([LAST, LAST]),
        "axes": np.array([2, 3]),
        "steps": np.array([2, 2]),
        "pads": np.array([0, 2, 0, 0, 0, 2, 0, 0]),
        "zero": np.float32(0),
    } | changed
    nodes = [
        helper.make_node("Conv", ["pixels", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Slice", ["c", "starts", "ends", "axes", "steps"], ["s"]),
        helper.make_node("Pad", ["s", "pads", "zero"], ["p"]),
        helper.make_node("Relu", ["p"], ["r"]),
        helper.make_node("ReduceMean", ["r", "plane"], ["m"], keepdims=0),
        helper.make_node("MatMul", ["m", "head"], ["out"]),
    ]
    values["plane"] = np.array([2, 3])
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def answers(model: onnx.ModelProto, source: str, batch: np.ndarray) -> np.ndarray:
    found: np.ndarray = open_session(model.SerializeToString(), name="net").run(None, {source: batch})[0]
    return found


def test_a_shortcut_becomes_a_convolution_with_the_same_answers() -> None:
    before, after = shortcut_net(), shortcut_net()
    assert strided_shortcuts(after) == 1
    kinds = [node.op_type for node in after.graph.node]
    assert kinds == ["Conv", "Conv", "Relu", "ReduceMean", "MatMul"]
    assert {tensor.name for tensor in after.graph.initializer} == {"w", "head", "plane", f"p/{SHORTCUT}"}
    pixels = np.random.default_rng(1).normal(size=(5, 3, SIDE, SIDE)).astype(np.float32)
    np.testing.assert_allclose(answers(after, "pixels", pixels), answers(before, "pixels", pixels), atol=1e-6)


@pytest.mark.parametrize(
    "changed",
    [
        {"zero": np.float32(1)},  # other values around
        {"pads": np.array([0, 2, 1, 0, 0, 2, 0, 0])},  # rows around, too
        {"starts": np.array([1, 1])},
        {"ends": np.array([5, LAST])},
        {"steps": np.array([1, 1])},  # nothing is gained
        {"axes": np.array([0, 2])},  # every second image
    ],
)
def test_leaves_everything_else_as_it_is(changed: dict[str, Any]) -> None:
    model = shortcut_net(**changed)
    before = model.SerializeToString()
    assert strided_shortcuts(model) == 0
    assert model.SerializeToString() == before


def test_leaves_a_slice_that_something_else_reads() -> None:
    model = shortcut_net()
    model.graph.output.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, None))
    assert strided_shortcuts(model) == 0


def test_foreign_networks_are_rewritten_when_they_come_in() -> None:
    sees = Preprocessing((SIDE, SIDE))
    content = wrap_foreign(shortcut_net().SerializeToString(), sees, name="net", classes=CLASSES)
    model = onnx.load_model_from_string(content)
    assert any(SHORTCUT in node.name for node in model.graph.node)
    image = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)
    assert rewritten(model, image) is model  # nothing is left to do
