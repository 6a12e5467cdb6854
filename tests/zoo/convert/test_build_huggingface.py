"""Snapshots of the Hugging Face hub become models of a zoo, with their own preprocessing and labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tests.support.foreign_models import CLASSES, PLAIN, foreign
from zoo import Zoo
from zoo.convert import add_foreign, add_huggingface
from zoo.errors import ClassMismatchError, ModelError

CONFIG = {"id2label": {str(i): name for i, name in enumerate(CLASSES)}}
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 8, "width": 10},
    "image_mean": list(PLAIN.mean),
    "image_std": list(PLAIN.std),
    "resample": 2,
}


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo.create(tmp_path / "zoo")


def snapshot(
    folder: Path, file: str = "model.onnx", *, config: Any = CONFIG, processor: Any = PROCESSOR
) -> Path:
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(foreign().SerializeToString())
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return folder


def answers(zoo: Zoo, name: str) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3), dtype=np.uint8)
    return zoo.model(name).logits(images)


@pytest.mark.parametrize("file", ["model.onnx", "onnx/model.onnx"])
def test_an_export_sees_and_answers_what_its_files_say(file: str, zoo: Zoo, tmp_path: Path) -> None:
    card = add_huggingface(zoo, snapshot(tmp_path / "Tiny Net", file), output="y")
    assert (card.name, card.classes, card.resolution) == ("tiny-net", CLASSES, (8, 10))
    assert card.source == "Hugging Face snapshot tiny-net, model.onnx"
    add_foreign(zoo, "same", foreign().SerializeToString(), PLAIN, CLASSES, output="y")
    np.testing.assert_allclose(answers(zoo, "tiny-net"), answers(zoo, "same"), rtol=1e-5, atol=1e-5)


def test_what_the_caller_says_wins(zoo: Zoo, tmp_path: Path) -> None:
    folder, told = snapshot(tmp_path / "net", processor={**PROCESSOR, "resample": 1}), []
    add_huggingface(zoo, folder, output="y", say=told.append)
    assert told == ["Images are resized bicubic here; the snapshot says lanczos."]
    names = ("ant", "bee", "cow")
    card = add_huggingface(
        *(zoo, folder),
        **{"classes": names, "name": "other", "output": "y", "interpolation": "bilinear", "mean": (0.0,) * 3},
        say=told.append,
    )
    assert card.classes == names
    assert len(told) == 1
    assert not np.allclose(answers(zoo, "other"), answers(zoo, "net"))


def test_several_exports_are_listed_and_one_may_be_named(zoo: Zoo, tmp_path: Path) -> None:
    folder = snapshot(tmp_path / "net", "onnx/model.onnx")
    snapshot(folder, "onnx/model_fp16.onnx")
    with pytest.raises(ModelError, match=r"got 2: onnx/model\.onnx, onnx/model_fp16\.onnx.*the path of the"):
        add_huggingface(zoo, folder)
    assert add_huggingface(zoo, folder / "onnx" / "model_fp16.onnx", output="y").name == "net"


def in_cache(home: Path) -> Path:
    """A snapshot whose files are links into blobs, with the weights beside the ONNX file."""
    plain = snapshot(home / "plain")
    model = onnx.load(plain / "model.onnx")
    onnx.save(
        model, plain / "model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=0
    )
    folder = home / "models--someone--Tiny_Net" / "snapshots" / "0a1b"
    blobs = folder.parent.parent / "blobs"
    folder.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(plain.iterdir())):
        path.rename(blobs / str(number))
        (folder / path.name).symlink_to(Path("..") / ".." / "blobs" / str(number))
    return folder


def test_links_into_the_cache_are_followed_and_others_are_not(zoo: Zoo, tmp_path: Path) -> None:
    folder = in_cache(tmp_path)
    assert add_huggingface(zoo, folder, output="y").name == "tiny_net"
    secret = tmp_path / "secret"
    secret.write_bytes((folder / "model.onnx_data").read_bytes())
    (folder / "model.onnx_data").unlink()
    (folder / "model.onnx_data").symlink_to(secret)
    with pytest.raises(ModelError, match="a link that leads out of it"):
        add_huggingface(zoo, folder, output="y", name="other")


@pytest.mark.parametrize(
    ("config", "processor", "message"),
    [
        ({}, PROCESSOR, "no id2label"),
        ({"id2label": {"0": "a", "7": "b", "x": "c"}}, PROCESSOR, "the indices 0 to 2"),
        ([1], PROCESSOR, r"config\.json: expected a JSON object"),
        (CONFIG, {"size": {"width": 3}}, "facts of an image processor, got KeyError: 'height'"),
        (CONFIG, {"size": "huge"}, "facts of an image processor"),
        (CONFIG, {**PROCESSOR, "rescale_factor": 0}, "facts of an image processor"),
        (CONFIG, {**PROCESSOR, "image_mean": None}, "facts of an image processor"),
        (CONFIG, {**PROCESSOR, "resample": 99}, "facts of an image processor"),
    ],
)
def test_facts_that_cannot_be_used_are_told(
    config: Any, processor: Any, message: str, zoo: Zoo, tmp_path: Path
) -> None:
    with pytest.raises((ModelError, ClassMismatchError), match=message):
        add_huggingface(zoo, snapshot(tmp_path / "net", config=config, processor=processor), output="y")


def test_weights_alone_say_how_to_export_them(zoo: Zoo, tmp_path: Path) -> None:
    folder = snapshot(tmp_path / "net")
    (folder / "model.onnx").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"which is a pickle\. .*optimum-cli export onnx"):
        add_huggingface(zoo, folder)
    with pytest.raises(ModelError, match="the folder of a snapshot"):
        add_huggingface(zoo, tmp_path / "nowhere")


def test_a_snapshot_of_timm_is_made_by_timm(zoo: Zoo, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="needs zooselect[timm]")
    safetensors = pytest.importorskip("safetensors.torch")
    torch.manual_seed(0)
    module = timm.create_model("test_byobnet", num_classes=3).eval()
    folder = tmp_path / "net"
    folder.mkdir()
    safetensors.save_file(module.state_dict(), folder / "model.safetensors")
    facts = {
        "input_size": [3, 32, 32],
        "mean": [0.4] * 3,
        "std": [0.3] * 3,
        "crop_pct": 1.0,
        "num_classes": 3,
    }
    config = {
        "architecture": "test_byobnet",
        "num_classes": 3,
        "label_names": CLASSES,
        "pretrained_cfg": facts,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    card = add_huggingface(zoo, folder)
    assert (card.name, card.classes, card.resolution) == ("net", CLASSES, (32, 32))
    assert card.source == "timm test_byobnet, model.safetensors"
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    pixels = torch.from_numpy((image.transpose(0, 3, 1, 2) / 255 - 0.4) / 0.3).float()
    with torch.inference_mode():
        expected = module(pixels).numpy()
    np.testing.assert_allclose(zoo.model("net").logits(image), expected, rtol=1e-3, atol=1e-4)


def test_a_classifier_of_transformers_answers_as_there(zoo: Zoo, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs zooselect[huggingface]")
    torch.manual_seed(0)
    sizes = {"image_size": 16, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 1}
    config = transformers.ViTConfig(
        **sizes, num_attention_heads=2, intermediate_size=16, id2label=dict(enumerate(CLASSES))
    )
    module = transformers.ViTForImageClassification(config).eval()
    module.save_pretrained(tmp_path / "net")
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "net")
    card = add_huggingface(zoo, tmp_path / "net")
    assert (card.classes, card.resolution) == (CLASSES, (16, 16))
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    with torch.inference_mode():
        pixels = torch.from_numpy((image.transpose(0, 3, 1, 2) / 255 - 0.5) / 0.5).float()
        expected = module(pixel_values=pixels).logits.numpy()
    np.testing.assert_allclose(zoo.model("net").logits(image), expected, rtol=1e-3, atol=1e-4)
