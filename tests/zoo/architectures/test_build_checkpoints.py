"""Weights are found in the files that training scripts write; nothing else is read, and the message helps."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from zoo.architectures.checkpoints import load_state, read_state
from zoo.architectures.cifar_resnet import CifarResNet
from zoo.architectures.torchvision_models import torchvision_model
from zoo.errors import ModelError

State = dict[str, Tensor]


def before(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


WRAPPED: dict[str, Callable[[State], dict[str, Any]]] = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}},
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": 0.5},
    "model": lambda state: {"model": state, "args": None},
    "data parallel": lambda state: before(state, "module."),
    "compiled": lambda state: before(state, "_orig_mod."),
    "compiled inside": lambda state: {
        key.replace("layer1.", "layer1._orig_mod."): v for key, v in state.items()
    },
    "Lightning": lambda state: {"state_dict": before(state, "model."), "epoch": 1},
    "averaged": lambda state: {"n_averaged": torch.tensor(4), **before(state, "module.")},
    "all at once": lambda state: {"model": {"state_dict": before(state, "module._orig_mod.model.")}},
    "without counts": lambda state: {k: v for k, v in state.items() if "num_batches" not in k},
    "half": lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
}


@pytest.fixture(scope="module")
def network() -> CifarResNet:
    torch.manual_seed(0)
    network = CifarResNet(8, 3)
    for parameter in network.parameters():
        parameter.data = parameter.data.half().float()
    return network.eval()


@pytest.mark.parametrize("how", WRAPPED)
def test_finds_the_weights_in_what_wraps_them(how: str, network: CifarResNet, tmp_path: Path) -> None:
    torch.save(WRAPPED[how](network.state_dict()), tmp_path / "w.pt")
    loaded = CifarResNet(8, 3).eval()
    load_state(loaded, tmp_path / "w.pt", what="a network")
    pixels = torch.ones(1, 3, 32, 32)
    assert torch.equal(loaded(pixels), network(pixels))


def test_reads_safetensors_and_npz(network: CifarResNet, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="needs zooselect[timm]")
    safetensors.save_file(network.state_dict(), tmp_path / "w.safetensors")
    np.savez(tmp_path / "w.npz", **{key: value.numpy() for key, value in network.state_dict().items()})
    for file in ("w.safetensors", "w.npz"):
        state = read_state(tmp_path / file)
        assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ModelError, match=r"expected a \.safetensors file"):
        read_state(tmp_path / "w.safetensors")


def test_a_checkpoint_with_other_objects_is_sent_to_be_saved_alone(
    network: CifarResNet, tmp_path: Path
) -> None:
    torch.save({"model": network.state_dict(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "c.pth")
    with pytest.raises(
        ModelError, match=r"\(argparse\.Namespace\).*torch\.save\(checkpoint\['model'\], 'weights"
    ):
        read_state(tmp_path / "c.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_model_is_sent_to_be_saved_as_a_state_dict(
    zipped: bool, network: CifarResNet, tmp_path: Path
) -> None:
    torch.save(network, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"zoo\.architectures\.cifar_resnet\.CifarResNet.*weights\.pt"):
        read_state(tmp_path / "m.pt")
    if zipped:
        with pytest.raises(ModelError, match=r"a whole model.*\.state_dict\(\).*zoo\.convert\.add_module"):
            read_state(tmp_path / "m.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "got list"),
        ({}, "got an empty dict"),
        ({"epoch": 3, "model": {"a": 1.0}}, r"got a dict in \['model'\] with 'a' \(float\)"),
        ({"a": torch.zeros(2).to_sparse()}, r"'a' \(Tensor\)"),
        ({"a": torch.zeros(2, device="meta")}, r"'a' \(Tensor\)"),
    ],
)
def test_what_has_no_weights_is_described(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=message):
        read_state(tmp_path / "w.pt")


def test_a_file_that_is_missing_or_no_checkpoint_is_told(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"no archive")
    for name in ("w.pt", "none.pt"):
        with pytest.raises(ModelError, match=r"expected a state dict written by torch\.save"):
            read_state(tmp_path / name)


def test_weights_of_another_network_are_named(network: CifarResNet, tmp_path: Path) -> None:
    state = network.state_dict()
    for changed, message in (
        (
            {**state, "linear.bias": torch.zeros(4)},
            r"linear\.bias: expected float \[3\] .* got float32 \[4\]",
        ),
        ({**state, "linear.bias": torch.zeros(3, dtype=torch.int64)}, r"got int64 \[3\]"),
        ({**state, "linear.bias": torch.full((3,), torch.nan)}, "expected finite weights"),
        ({**state, "criterion.weight": torch.zeros(4)}, r"unknown: criterion\.weight"),
    ):
        torch.save(changed, tmp_path / "w.pt")
        with pytest.raises(ModelError, match=message):
            load_state(CifarResNet(8, 3), tmp_path / "w.pt", what="a CIFAR ResNet-8")


@pytest.mark.parametrize("auxiliary", [True, False])
def test_auxiliary_heads_are_left_out_whether_the_weights_have_them(auxiliary: bool, tmp_path: Path) -> None:
    theirs: nn.Module = torchvision.models.get_model(
        "googlenet", num_classes=3, aux_logits=auxiliary, init_weights=False
    )
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    ours, _, _ = torchvision_model("googlenet", weights=tmp_path / "w.pt", classes=3)
    pixels = torch.rand(1, 3, 32, 32)
    assert torch.equal(ours(pixels), theirs.eval()(pixels))
    assert not any("aux" in key for key in ours.state_dict())


def test_weights_that_take_too_much_unpacked_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.architectures.checkpoints.MAX_NPZ_BYTES", 10**6)
    np.savez_compressed(tmp_path / "bomb.npz", weight=np.zeros(10**6, np.float32))
    assert (tmp_path / "bomb.npz").stat().st_size < 10_000
    with pytest.raises(ModelError, match="got: more than 1,000,000 bytes unpacked"):
        read_state(tmp_path / "bomb.npz")
