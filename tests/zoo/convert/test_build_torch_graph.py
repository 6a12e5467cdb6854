"""Claims about running a stored graph in torch: it answers the same, learns what it may, and nothing else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.support.small_models import build_onnx
from zoo.architectures.cifar_resnet import CifarResNet
from zoo.architectures.preprocessing import Preprocessing
from zoo.convert.export import export_module
from zoo.convert.int8.compress import quantize_int8
from zoo.convert.torch_graph import TorchGraph, check_torch_graph
from zoo.errors import ModelError, ParityError

CLASSES = ("ant", "bee", "cat")


def unsettled(module: torch.nn.Module) -> torch.nn.Module:
    """The module with statistics and scales as after training, so that a wrong one shows."""
    torch.manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
    return module


@pytest.fixture(scope="module")
def resnet() -> bytes:
    torch.manual_seed(0)
    module = unsettled(CifarResNet(8, 3))
    return export_module(module, Preprocessing((32, 32), crop=0.9), name="net", classes=CLASSES)


class Mixed(torch.nn.Module):
    """What mobile networks are made of: depthwise, squeeze and excitation, shuffled channels, branches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, 2, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(8)
        self.deep = torch.nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.squeeze = torch.nn.Conv2d(8, 8, 1)
        self.head = torch.nn.Linear(8 * 4 * 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.hardswish(self.norm(self.stem(x)))
        weight = torch.nn.functional.hardsigmoid(self.squeeze(x.mean((2, 3), keepdim=True)))
        one, two = (self.deep(x) * weight).chunk(2, dim=1)
        x = torch.cat([torch.nn.functional.relu6(one), torch.sigmoid(two) * two], dim=1)
        x = x.view(-1, 2, 4, 8, 8).transpose(1, 2).reshape(-1, 8, 8, 8)
        return self.head(torch.nn.functional.max_pool2d(x, 3, 2, 1).flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("crop", [None, 0.875])
def test_answers_like_onnx_runtime(crop: float | None) -> None:
    torch.manual_seed(0)
    content = export_module(
        unsettled(Mixed()), Preprocessing((16, 16), crop=crop), name="mixed", classes=CLASSES
    )
    assert check_torch_graph(content, TorchGraph(content, name="mixed"), (16, 16), name="mixed") < 1e-4


def test_only_what_is_learned_is_a_parameter(resnet: bytes) -> None:
    graph = TorchGraph(resnet, name="net", learned=["bn1.weight", "linear.bias"])
    assert [tuple(p.shape) for p in graph.parameters()] == [(16,), (3,)]
    graph.train()(torch.zeros(2, 32, 32, 3, dtype=torch.uint8)).sum().backward()
    assert all(p.grad is not None for p in graph.parameters())


def test_statistics_follow_the_images_in_training_and_only_those_named(resnet: bytes) -> None:
    graph = TorchGraph(resnet, name="net", statistics=["bn1.running_mean", "bn1.running_var"])
    before = {key: graph.tensor(key) for key in ("bn1.running_mean", "layer1.0.bn1.running_mean")}
    graph.train()(torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8))
    assert not np.allclose(graph.tensor("bn1.running_mean"), before["bn1.running_mean"])
    assert np.array_equal(graph.tensor("layer1.0.bn1.running_mean"), before["layer1.0.bn1.running_mean"])


def test_scales_keep_their_sign_where_asked(resnet: bytes) -> None:
    graph = TorchGraph(resnet, name="net", learned=["bn1.weight"], signed=["bn1.weight"])
    before = graph.tensor("bn1.weight")
    for parameter in graph.parameters():
        parameter.data -= 10
    after = graph.tensor("bn1.weight")
    assert (np.sign(after) == np.sign(before)).all()
    assert np.allclose(after, 0.01 * before)


def test_weights_in_constant_nodes_are_found(resnet: bytes) -> None:
    model = onnx.load_model_from_string(resnet)
    moved = next(t for t in model.graph.initializer if t.name == "linear.weight")
    model.graph.node.insert(0, helper.make_node("Constant", [], [moved.name], value=moved))
    model.graph.initializer.remove(moved)
    graph = TorchGraph(model.SerializeToString(), name="net", learned=["linear.weight"])
    assert check_torch_graph(resnet, graph, (32, 32), name="net") < 1e-4
    assert sum(p.numel() for p in graph.parameters()) == 192


def test_an_8_bit_model_is_sent_to_its_float_parent(resnet: bytes) -> None:
    images = list(np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8))
    with pytest.raises(ModelError, match="got DequantizeLinear, QuantizeLinear"):
        TorchGraph(quantize_int8(resnet, images, name="q"), name="q")


def test_unknown_operators_are_named() -> None:
    model = onnx.load_model_from_string(build_onnx())
    model.graph.node[-1].op_type, model.graph.node[-1].domain = "Curious", "own"
    with pytest.raises(ModelError, match="got own:Curious"):
        TorchGraph(model.SerializeToString(), name="m")


def test_another_answer_than_onnx_runtimes_is_noticed(resnet: bytes) -> None:
    model = onnx.load_model_from_string(resnet)
    bias = next(t for t in model.graph.initializer if t.name == "linear.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1, bias.name))
    with pytest.raises(ParityError, match="expected torch to answer like ONNX Runtime"):
        check_torch_graph(model.SerializeToString(), TorchGraph(resnet, name="net"), (32, 32), name="net")


def test_half_precision_is_trained_in_single_and_compared_more_loosely(resnet: bytes) -> None:
    model = onnx.load_model_from_string(resnet)
    weight = next(t for t in model.graph.initializer if t.name == "linear.weight")
    head = next(n for n in model.graph.node if weight.name in n.input)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), "half"))
    model.graph.node.insert(0, helper.make_node("Cast", ["half"], ["linear.weight"], to=TensorProto.FLOAT))
    assert head.input[1] == "linear.weight"
    content = model.SerializeToString()
    graph = TorchGraph(content, name="net", learned=["half"])
    assert graph.half_precision
    assert check_torch_graph(content, graph, (32, 32), name="net") < 1e-2
    assert [p.dtype for p in graph.parameters()] == [torch.float32]
