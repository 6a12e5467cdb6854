"""Counting parameters and multiply-accumulates in graphs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.utils.flop_counter import FlopCounterMode

from zoo.architectures.cifar_resnet import CIFAR10_CLASSES, CIFAR_RESNET_PREPROCESSING, CifarResNet
from zoo.convert.count import count_facts
from zoo.convert.export import export_module
from zoo.convert.int8.compress import quantize_int8
from zoo.errors import ModelError


@pytest.fixture(scope="module")
def resnet() -> bytes:
    return export_module(CifarResNet(8), CIFAR_RESNET_PREPROCESSING, name="net", classes=CIFAR10_CLASSES)


def test_counts_what_torch_counts(resnet: bytes) -> None:
    net = CifarResNet(8).eval()
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 3, 32, 32))
    facts = count_facts(resnet, (32, 32), name="net")
    assert facts.parameters == sum(weights.numel() for weights in net.parameters())
    assert facts.macs == counter.get_total_flops() // 2


def test_counts_a_quantised_graph_like_its_parent(resnet: bytes) -> None:
    images = [np.full((32, 32, 3), value, np.uint8) for value in range(0, 250, 25)]
    facts = count_facts(resnet, (32, 32), name="net")
    quantised = count_facts(quantize_int8(resnet, images, name="q"), (32, 32), name="q")
    assert quantised.macs == facts.macs
    assert abs(quantised.parameters - facts.parameters) < 0.02 * facts.parameters  # normalisation was folded


def by_hand(*nodes: onnx.NodeProto, **weights: np.ndarray) -> bytes:
    """A graph whose nodes get the image as float planes, called ``planes``."""
    before = [
        helper.make_node("Transpose", ["image"], ["channels first"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["channels first"], ["planes"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        [*before, *nodes],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def test_counts_grouped_and_transposed_convolutions() -> None:
    grouped = np.zeros((6, 1, 3, 3), np.float32)
    turned = np.zeros((6, 2, 2, 2), np.float32)
    content = by_hand(
        helper.make_node("Conv", ["planes", "grouped"], ["c"], group=3, pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["c", "turned"], ["logits"], strides=[2, 2]),
        grouped=grouped,
        turned=turned,
    )
    facts = count_facts(content, (4, 5), name="g")
    assert facts.macs == 6 * 20 * 9 + 6 * 20 * 2 * 4
    assert facts.parameters == grouped.size + turned.size


def test_counts_products_whose_shape_only_a_run_shows() -> None:
    content = by_hand(
        helper.make_node("NonZero", ["planes"], ["where"]),
        helper.make_node("Cast", ["where"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "one"], ["four"], keepdims=0),
        helper.make_node("Shape", ["where"], ["shape"], end=1),
        helper.make_node("Reshape", ["four", "shape"], ["row"]),
        helper.make_node("MatMul", ["row", "matrix"], ["logits"]),
        one=np.array([1], np.int64),
        matrix=np.zeros((4, 7), np.float32),
    )
    assert count_facts(content, (4, 5), name="g").macs == 4 * 7


def test_refuses_shapes_that_contradict_each_other() -> None:
    content = by_hand(
        helper.make_node("MatMul", ["planes", "matrix"], ["logits"]), matrix=np.zeros((5, 7), np.float32)
    )
    with pytest.raises(ModelError, match="'g'"):
        count_facts(content, (8, 8), name="g")
