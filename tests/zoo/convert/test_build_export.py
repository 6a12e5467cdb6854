"""Export of torch networks under the model contract."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from zoo.architectures.convnet import ConvNet
from zoo.architectures.preprocessing import Preprocess, Preprocessing
from zoo.convert.export import check_parity, export_module
from zoo.errors import ClassMismatchError, ModelError, ParityError
from zoo.models.session import open_session

CLASSES = ("cat", "dog", "emu", "fox")
PREPROCESSING = Preprocessing((16, 20), crop=0.9, mean=(0.4, 0.5, 0.6))


def network() -> ConvNet:
    torch.manual_seed(0)
    net = ConvNet((8, 16), (0, 1), len(CLASSES))
    net.train()
    with torch.no_grad():
        net(torch.randn(8, 3, 16, 20))  # moves the statistics of the normalisation
    return net


@pytest.fixture(scope="module")
def exported() -> bytes:
    return export_module(network(), PREPROCESSING, name="net", classes=CLASSES)


@pytest.mark.parametrize("shape", [(1, 16, 20), (5, 16, 20), (2, 61, 33), (3, 1, 1)])
def test_answers_like_torch_for_any_batch_and_size(exported: bytes, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    module = nn.Sequential(Preprocess(PREPROCESSING), network()).eval()
    with torch.inference_mode():
        expected = module(torch.from_numpy(images)).numpy()
    got = open_session(exported, name="net").run(["logits"], {"image": images})[0]
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_keeps_normalisation_unfused_and_the_names_of_the_weights(exported: bytes) -> None:
    graph = onnx.load_model_from_string(exported).graph
    operators = Counter(node.op_type for node in graph.node if not node.name.startswith("input/"))
    assert operators["BatchNormalization"] == operators["Conv"] == 4
    names = {tensor.name for tensor in graph.initializer}
    assert {name for name, _ in network().named_parameters()} <= names
    assert not any("bias" in name for name in names if ".0.bias" in name)


def test_equal_weights_give_equal_bytes(exported: bytes) -> None:
    assert export_module(network(), PREPROCESSING, name="net", classes=CLASSES) == exported


def test_leaves_no_traces_of_this_machine(exported: bytes) -> None:
    model = onnx.load_model_from_string(exported)
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    for trace in (b"site-packages", b".py", b"/home", b"/tmp", b"pkg.torch", b"Traceback"):
        assert trace not in exported


def test_is_silent_and_leaves_the_network_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    net = network()
    export_module(net, PREPROCESSING, name="net", classes=CLASSES)
    assert net.training
    assert capfd.readouterr() == ("", "")


def test_refuses_the_wrong_number_of_classes() -> None:
    with pytest.raises(ClassMismatchError, match=r"3 classes\), got 4 logits"):
        export_module(network(), PREPROCESSING, name="net", classes=CLASSES[:3])


class Fixed(nn.Module):
    """Returns two answers whatever the batch."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.reshape(2, -1)[:, :4]


class Branching(nn.Module):
    """Takes another way for bright images."""

    def forward(self, pixels: Tensor) -> Tensor:
        means = pixels.mean(dim=(2, 3)).repeat(1, 2)[:, :4]
        return means if means.sum() > 1 else -means


class Random(nn.Module):
    """Never answers the same twice."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.mean(dim=(2, 3)).repeat(1, 2)[:, :4] + torch.rand(4)


def test_refuses_what_cannot_be_exported() -> None:
    with pytest.raises(ModelError, match=r"got \[2, 4\] for N = 3"):
        export_module(Fixed(), PREPROCESSING, name="net", classes=CLASSES)
    with pytest.raises(ModelError, match="free batch"):
        export_module(Branching(), PREPROCESSING, name="net", classes=CLASSES)
    with pytest.raises(ModelError, match=r"takes float32 \[N, 3, 16, 20\]"):
        export_module(nn.Linear(7, 4), PREPROCESSING, name="net", classes=CLASSES)
    with pytest.raises(ModelError, match=r"logits \[N, C\], got \[3, 3, 16, 20\]"):
        export_module(nn.ReLU(), PREPROCESSING, name="net", classes=CLASSES)


def test_refuses_a_graph_that_disagrees_with_torch(exported: bytes) -> None:
    other = network()
    with torch.no_grad():
        other.head.bias[0] += 0.5
    with pytest.raises(ParityError, match="agree with torch"):
        check_parity(
            exported, nn.Sequential(Preprocess(PREPROCESSING), other).eval(), PREPROCESSING, name="n"
        )
    with pytest.raises(ParityError, match="randomness"):
        export_module(Random(), PREPROCESSING, name="net", classes=CLASSES)
