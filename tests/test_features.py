"""Claims about the input features: finite on any image, meaningful, and the same in torch and ONNX."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from training.estimators import CorrectnessEstimator
from training.features import COMPONENTS, FEATURES, NAMES, InputFeatures
from training.graph import selector_graph
from zoo.errors import DataError
from zoo.model import open_session

RNG = np.random.default_rng(0)
IMAGES = {
    "one pixel": np.full((1, 1, 3), 77, np.uint8),
    "one row": RNG.integers(0, 256, (1, 300, 3), dtype=np.uint8),
    "one column": RNG.integers(0, 256, (300, 1, 3), dtype=np.uint8),
    "black": np.zeros((32, 32, 3), np.uint8),
    "white": np.full((32, 32, 3), 255, np.uint8),
    "noise": RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8),
    "large": RNG.integers(0, 256, (700, 500, 3), dtype=np.uint8),
    "checkerboard": (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2),
}


def features(image: NDArray[np.uint8], names: tuple[str, ...] = NAMES, grid: int = 32) -> dict[str, float]:
    with torch.inference_mode():
        row = InputFeatures(names, grid=grid).eval()(torch.tensor(image[np.newaxis]))[0]
    return dict(zip(names, row.tolist(), strict=True))


@pytest.mark.parametrize("grid", [16, 32, 64])
@pytest.mark.parametrize("name", IMAGES)
def test_features_are_finite_on_every_image(name: str, grid: int) -> None:
    assert np.isfinite(list(features(IMAGES[name], grid=grid).values())).all()


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))))
def test_features_are_finite_and_bounded_on_random_images(image: NDArray[np.uint8]) -> None:
    values = np.array(list(features(image).values()))
    assert np.isfinite(values).all()
    assert np.abs(values).max() < 50


def test_the_pool_holds_at_least_thirty_features_of_known_components() -> None:
    assert len(NAMES) >= 30
    assert len(set(COMPONENTS)) == len(COMPONENTS)
    assert {component for weights in FEATURES.values() for component in weights} <= set(COMPONENTS)


def test_chosen_features_are_the_columns_of_all() -> None:
    chosen = ("saturation", "log_area", "entropy")
    for image in IMAGES.values():
        whole, part = features(image), features(image, chosen)
        np.testing.assert_allclose(
            [part[name] for name in chosen], [whole[name] for name in chosen], atol=1e-5
        )


def test_the_features_of_a_batch_are_those_of_its_images() -> None:
    batch = RNG.integers(0, 256, (5, 20, 30, 3), dtype=np.uint8)
    with torch.inference_mode():
        together = InputFeatures().eval()(torch.from_numpy(batch))
    for image, row in zip(batch, together.numpy(), strict=True):
        np.testing.assert_allclose(list(features(image).values()), row, atol=1e-5)


def test_features_measure_what_their_names_say() -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    upright = np.tile(ramp[None, :, None], (64, 1, 3))
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    black, white, noise = (features(IMAGES[name]) for name in ("black", "white", "noise"))
    assert (black["luma_mean"], white["luma_mean"]) == (pytest.approx(0), pytest.approx(1, abs=1e-4))
    assert white["bright_share"] == pytest.approx(1)
    assert abs(black["dark_share"]) < abs(white["dark_share"])
    assert features(red)["saturation"] > 0.3 > abs(white["saturation"])
    assert features(red)["hue_red"] > 0.3
    assert noise["fine_diagonal_energy"] > features(upright)["fine_diagonal_energy"]
    assert noise["edge_density"] > black["edge_density"]
    assert noise["entropy"] > white["entropy"]
    assert abs(features(upright)["left_brightness"]) > 0.3
    assert abs(features(upright)["top_brightness"]) < 1e-3
    turned = features(np.ascontiguousarray(upright.transpose(1, 0, 2)))
    assert turned["top_brightness"] == pytest.approx(features(upright)["left_brightness"], abs=1e-5)
    assert turned["edge_angle_fine"] == pytest.approx(-features(upright)["edge_angle_fine"], abs=1e-4)


def test_sizes_are_features() -> None:
    wide = features(np.zeros((10, 40, 3), np.uint8))
    assert wide["log_area"] == pytest.approx(np.log(400), abs=1e-4)
    assert wide["log_aspect"] == pytest.approx(np.log(4), abs=1e-4)


@pytest.mark.parametrize("grid", [32, 64])
def test_the_graph_computes_the_same_features(grid: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, len(NAMES))).astype(np.float32)
    scores = CorrectnessEstimator("logistic").fit(values, rng.random((60, 2)) < 0.5).to_onnx(len(NAMES))
    graph = open_session(selector_graph(NAMES, scores, grid=grid), name="selector")
    for image in IMAGES.values():
        got = graph.run(["features"], {"image": image[np.newaxis]})[0][0]
        np.testing.assert_allclose(got, list(features(image, grid=grid).values()), atol=2e-4)


@pytest.mark.parametrize("names", [("brilliance",), ("entropy", "x"), ()])
def test_an_unknown_feature_is_named(names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"expected features among luma_mean, .*; got (\[|none)"):
        InputFeatures(names)


@pytest.mark.parametrize("grid", [0, 8, 31, 40])
def test_an_unsuitable_grid_is_refused(grid: int) -> None:
    with pytest.raises(DataError, match=f"expected a grid that is a multiple of 16, got {grid}"):
        InputFeatures(grid=grid)
