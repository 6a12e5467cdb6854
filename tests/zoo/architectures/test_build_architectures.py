"""Architectures: shapes, sizes, weights from files, and errors that say what is wrong with them."""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.architectures import CONVNETS, CifarResNet, convnet, efficientnet_lite, load_npz, torchvision_model
from zoo.convert.count import count_facts
from zoo.convert.export import export_module
from zoo.errors import MissingExtraError, ModelError
from zoo.extras import install_command


def save_npz(path: Path, network: CifarResNet, **changes: np.ndarray | None) -> Path:
    arrays = {key: value.numpy() for key, value in network.state_dict().items()} | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_every_convnet_costs_several_times_more_than_the_one_before() -> None:
    macs = []
    for name in CONVNETS:
        network, preprocessing = convnet(name, 10)
        content = export_module(network, preprocessing, name=name, classes=tuple("abcdefghij"))
        macs.append(count_facts(content, preprocessing.resolution, name=name).macs)
    assert all(5 < large / small < 30 for small, large in pairwise(macs))


def test_refuses_unknown_sizes_and_depths() -> None:
    with pytest.raises(ModelError, match="tiny, small, medium, full"):
        convnet("huge", 10)
    with pytest.raises(ModelError, match="6 n"):
        CifarResNet(21)


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269_722), (56, 853_018)])
def test_cifar_resnets_have_the_published_size(depth: int, parameters: int) -> None:
    assert sum(weights.numel() for weights in CifarResNet(depth).parameters()) == parameters


def test_weights_survive_the_way_through_a_file(tmp_path: Path) -> None:
    network = CifarResNet(8).eval()
    loaded = load_npz(save_npz(tmp_path / "w.npz", network), 8)
    pixels = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded(pixels), network(pixels))


def test_refuses_weights_of_another_depth_or_class_count(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "w.npz", CifarResNet(8))
    with pytest.raises(ModelError, match=r"ResNet-14 with 10 classes; missing: layer1\.1"):
        load_npz(path, 14)
    with pytest.raises(ModelError, match=r"linear\.(weight|bias): expected float \[7"):
        load_npz(path, 8, classes=7)


def test_refuses_arrays_that_are_missing_unknown_or_not_finite(tmp_path: Path) -> None:
    path, network = tmp_path / "w.npz", CifarResNet(8)
    with pytest.raises(ModelError, match=r"missing: conv1\.weight; unknown: extra"):
        load_npz(save_npz(path, network, **{"conv1.weight": None, "extra": np.zeros(3)}), 8)
    with pytest.raises(ModelError, match=r"linear\.bias: expected finite"):
        load_npz(save_npz(path, network, **{"linear.bias": np.full(10, np.nan, np.float32)}), 8)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 broken"])
def test_refuses_files_that_are_no_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.npz").write_bytes(content)
    with pytest.raises(ModelError, match=r"w\.npz: expected an \.npz file"):
        load_npz(tmp_path / "w.npz", 8)


def test_never_unpickles_an_npz(tmp_path: Path) -> None:
    bias = np.array([print], dtype=object)
    path = save_npz(tmp_path / "w.npz", CifarResNet(8), **{"linear.bias": bias})
    with pytest.raises(ModelError, match="expected an"):
        load_npz(path, 8)


def test_torchvision_models_bring_their_own_preprocessing() -> None:
    network, preprocessing, names = torchvision_model("efficientnet_b1", classes=5)
    assert preprocessing.resolution == (240, 240)
    assert preprocessing.crop == pytest.approx(240 / 255)
    assert network(torch.zeros(1, 3, 240, 240)).shape == (1, 5)
    assert names == ()


def test_torchvision_weights_come_from_a_state_dict(tmp_path: Path) -> None:
    network, _, _ = torchvision_model("squeezenet1_1", classes=4)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, tmp_path / "checkpoint.pt")
    for file in ("w.pt", "checkpoint.pt"):
        loaded, _, _ = torchvision_model("squeezenet1_1", weights=tmp_path / file, classes=4)
        assert torch.equal(loaded(torch.ones(1, 3, 64, 64)), network(torch.ones(1, 3, 64, 64)))
    with pytest.raises(ModelError, match="squeezenet1_1 with 3 classes"):
        torchvision_model("squeezenet1_1", weights=tmp_path / "w.pt", classes=3)


def test_never_unpickles_a_state_dict(tmp_path: Path) -> None:
    torch.save({"a": print}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="expected a state dict"):
        torchvision_model("squeezenet1_1", weights=tmp_path / "w.pt")


def test_suggests_torchvision_names() -> None:
    with pytest.raises(ModelError, match="resnet18"):
        torchvision_model("resnet19")
    with pytest.raises(ModelError, match="1000 classes, not 7"):
        torchvision_model("resnet18", weights="DEFAULT", classes=7)


def test_efficientnet_lite_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(MissingExtraError, match=re.escape(install_command("efficientnet-lite"))):
        efficientnet_lite(0)
    with pytest.raises(ModelError, match="0, 1 or 2"):
        efficientnet_lite(7)
