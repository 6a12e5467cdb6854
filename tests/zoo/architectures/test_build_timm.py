"""timm classifiers answer as in timm, with its own preprocessing, whatever the file of weights."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from zoo.architectures.preprocessing import Preprocess
from zoo.architectures.timm_models import timm_model, timm_preprocessing
from zoo.errors import MissingExtraError, ModelError
from zoo.extras import install_command

timm = pytest.importorskip("timm", reason="needs zooselect[timm]")


def made(name: str, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = timm.create_model(name, num_classes=5, **arguments)
    return module.eval()


def theirs(module: nn.Module, image: np.ndarray, **how: Any) -> torch.Tensor:
    """What timm answers, with its own evaluation transform."""
    config = timm.data.resolve_model_data_config(module, args=how)
    with torch.inference_mode():
        answer: torch.Tensor = module(timm.data.create_transform(**config)(Image.fromarray(image))[None])
    return answer


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"])
def test_answers_as_in_timm(name: str, tmp_path: Path) -> None:
    module = made(name)
    torch.save({"state_dict": module.state_dict()}, tmp_path / "w.pth")
    got = timm_model(name, weights=tmp_path / "w.pth")
    assert (got.classes, got.names, got.notes) == (5, (), {})
    image = np.random.default_rng(0).integers(0, 256, (168, 200, 3), dtype=np.uint8)
    with torch.inference_mode():
        ours = nn.Sequential(Preprocess(got.preprocessing), got.module)(torch.from_numpy(image[None]))
    assert torch.allclose(ours, theirs(module, image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trained", [160, 96])
def test_a_transformer_is_made_for_the_size_that_is_asked_for(trained: int, tmp_path: Path) -> None:
    module = made("test_vit", img_size=trained)
    torch.save(module.state_dict(), tmp_path / "w.pth")
    got = timm_model("test_vit", weights=tmp_path / "w.pth", resolution=96)
    module.set_input_size(img_size=96)  # type: ignore[operator]
    pixels = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        assert torch.allclose(got.module(pixels), module(pixels), atol=1e-5)


def test_the_published_preprocessing_goes_with_the_tag() -> None:
    assert timm_model("resnet18.a1_in1k").preprocessing.crop == pytest.approx(224 / 235)
    assert timm_model("resnet18.tv_in1k").preprocessing.interpolation == "bilinear"


@pytest.mark.parametrize(
    ("facts", "field", "told"),
    [
        ({"crop_mode": "squash", "crop_pct": 1.0}, "crop", None),
        ({"crop_mode": "border"}, "crop", "crop mode 'border'"),
        ({"interpolation": "lanczos"}, "interpolation", "bicubic here; timm's way is lanczos"),
        ({"interpolation": "bilinear"}, "interpolation", None),
    ],
)
def test_what_is_done_otherwise_is_told(facts: dict[str, Any], field: str, told: str | None) -> None:
    usual = {"input_size": (1, 64, 64), "mean": (0.5,), "std": (0.25,)}
    preprocessing, notes = timm_preprocessing(usual | facts)
    assert (preprocessing.channels, preprocessing.std) == ("gray", (0.25,) * 3)
    assert notes.get(field) is None if told is None else told in notes[field]


def test_refuses_what_timm_does_not_have(tmp_path: Path) -> None:
    for name, message in (
        ("resnet19", "Among those known: resnet"),
        ("hf-hub:timm/resnet18", "the name of a timm classifier"),
        ("resnet18.none", r"got 'none'. Known: resnet18\."),
    ):
        with pytest.raises(ModelError, match=message):
            timm_model(name)
    with pytest.raises(ModelError, match="1000 classes, not 7"):
        timm_model("test_resnet", weights="DEFAULT", classes=7)
    torch.save(made("test_resnet").state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"fc\.(weight|bias): expected float \[7.*got float32 \[5"):
        timm_model("test_resnet", weights=tmp_path / "w.pth", classes=7)


def test_says_how_to_get_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=re.escape(install_command("timm"))):
        timm_model("resnet18")
