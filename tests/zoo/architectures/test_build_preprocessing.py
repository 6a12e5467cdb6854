"""Preprocessing as a torch module and as ONNX: one arithmetic, any image size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.architectures.preprocessing import Preprocess, Preprocessing
from zoo.convert.preprocessing_graph import front_model
from zoo.errors import ModelError
from zoo.models.session import open_session

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SETTINGS = [
    Preprocessing((16, 16)),
    Preprocessing((16, 12), crop=0.9, channels="bgr", **IMAGENET),
    Preprocessing((12, 16), mean=(0.5,) * 3, std=(0.25,) * 3, channels="gray"),
    Preprocessing((32, 24), crop=0.875, interpolation="bicubic", **IMAGENET),
    Preprocessing((20, 20), crop=1.0),
    Preprocessing((12, 28), crop=0.3, mean=(0.5, 0.5, 0.5)),
]


def noise(height: int, width: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def in_torch(preprocessing: Preprocessing, images: np.ndarray) -> np.ndarray:
    result: np.ndarray = Preprocess(preprocessing)(torch.from_numpy(images)).numpy()
    return result


@pytest.mark.parametrize("preprocessing", SETTINGS, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (16, 16), (33, 47), (20, 300), (64, 48)])
def test_torch_and_onnx_compute_the_same(preprocessing: Preprocessing, size: tuple[int, int]) -> None:
    session = open_session(front_model(preprocessing).SerializeToString(), name="front")
    got = session.run(None, {"image": noise(*size)})[0]
    assert got.shape == (2, preprocessing.planes, *preprocessing.resolution)
    np.testing.assert_allclose(got, in_torch(preprocessing, noise(*size)), atol=2e-5)


@pytest.mark.parametrize("options", [{}, {"crop": 1.0}, {"interpolation": "bicubic"}])
def test_an_image_of_the_right_size_is_only_normalised(options: dict[str, Any]) -> None:
    preprocessing = Preprocessing((24, 24), **options, **IMAGENET)
    images = noise(24, 24)
    expected = (images / 255 - np.array(IMAGENET["mean"])) / np.array(IMAGENET["std"])
    np.testing.assert_allclose(
        in_torch(preprocessing, images), expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6
    )


def test_the_crop_keeps_the_middle() -> None:
    images = np.zeros((1, 64, 100, 3), np.uint8)
    images[:, 16:48, 34:66] = 255
    assert in_torch(Preprocessing((32, 32), crop=0.5), images).min() == 1.0


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 60), st.integers(1, 60), st.floats(0.05, 1.0))
def test_the_box_lies_inside_every_image(height: int, width: int, h: int, w: int, crop: float) -> None:
    top, left, rows, columns = Preprocessing((h, w), crop=crop).box(height, width)
    assert rows >= 1
    assert columns >= 1
    assert 0 <= top <= height - rows
    assert 0 <= left <= width - columns


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"resolution": (0, 8)}, "resolution"),
        ({"std": (1.0, 0.0, 1.0)}, "above 0"),
        ({"mean": (float("nan"), 0.0, 0.0)}, "finite"),
        ({"mean": (123.7, 116.3, 103.5)}, "Divide them by 255"),
        ({"crop": 1.5}, "crop"),
        ({"interpolation": "nearest"}, "bilinear"),
    ],
)
def test_refuses_values_out_of_range(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Preprocessing(**({"resolution": (8, 8)} | wrong))
