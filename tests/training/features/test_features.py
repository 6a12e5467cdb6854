"""Claims about the input features: finite on any image, meaningful, and the same in torch and ONNX."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from training.features.components import stages_of
from training.features.costs import FeatureCosts, feature_stages, measure_costs
from training.features.features import (
    COMPONENTS,
    EARLIER,
    FEATURES,
    NAMES,
    POOL_VERSION,
    feature_graph,
    read_pixels,
)
from training.features.input_features import InputFeatures
from training.policies.estimators import CorrectnessEstimator
from training.search.selector_graph import selector_graph
from zoo.errors import DataError
from zoo.models.session import open_session

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


def test_the_pool_holds_at_least_sixty_features_of_known_components() -> None:
    assert len(NAMES) >= 60
    assert len(set(COMPONENTS)) == len(COMPONENTS)
    assert {component for weights in FEATURES.values() for component in weights} <= set(COMPONENTS)


@pytest.mark.parametrize("grid", [32, 64])
def test_a_feature_is_the_same_alone_and_among_all(grid: int) -> None:
    for name, image in IMAGES.items():
        whole = features(image, grid=grid)
        for feature in NAMES:
            alone = features(image, (feature,), grid=grid)[feature]
            assert alone == pytest.approx(whole[feature], abs=1e-5), (name, feature)


def test_chosen_features_come_in_the_order_asked_for() -> None:
    chosen = ("saturation", "log_area", "entropy", "saturation")
    for image in IMAGES.values():
        whole = features(image)
        with torch.inference_mode():
            row = InputFeatures(chosen)(torch.tensor(image[np.newaxis]))[0]
        np.testing.assert_allclose(row, [whole[name] for name in chosen], atol=1e-5)


def test_a_graph_computes_only_what_its_features_need() -> None:
    def operators(*names: str) -> int:
        return len(feature_graph(names, grid=32).graph.node)

    assert (
        operators("luma_mean") < operators("luma_std") < operators("luma_std", "entropy") < operators(*NAMES)
    )
    assert operators("luma_mean") < 16
    kinds = {node.op_type for node in feature_graph(("luma_mean",), grid=32).graph.node}
    assert not kinds & {"Log", "Abs", "Sqrt", "Concat"}
    assert stages_of(FEATURES["luma_mean"]) == {"mean"}


def test_features_depend_on_the_pixels_read_and_the_size_alone() -> None:
    names = tuple(name for name in NAMES if name not in ("log_area", "log_aspect"))
    for grid in (16, 32, 64):
        for image in IMAGES.values():
            pixels = read_pixels(image[np.newaxis], grid)[0]
            assert pixels.shape == (grid, grid, 3)
            np.testing.assert_allclose(
                list(features(pixels, names, grid).values()),
                list(features(image, names, grid).values()),
                atol=1e-6,
            )


def test_features_of_earlier_pools_are_still_there() -> None:
    for version, names in EARLIER.items():
        assert version < POOL_VERSION
        assert names == NAMES[: len(names)]


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
    assert noise["keypoint_density"] > 0.5 > features(upright)["keypoint_density"]
    assert noise["edge_length"] > features(upright)["edge_length"] > black["edge_length"]
    assert abs(features(upright)["left_brightness"]) > 0.3
    assert abs(features(upright)["top_brightness"]) < 1e-3
    turned = features(np.ascontiguousarray(upright.transpose(1, 0, 2)))
    assert turned["top_brightness"] == pytest.approx(features(upright)["left_brightness"], abs=1e-5)
    assert turned["edge_angle_fine"] == pytest.approx(-features(upright)["edge_angle_fine"], abs=1e-4)


def test_one_disc_has_more_area_for_its_outline_than_many_dots() -> None:
    y, x = np.indices((32, 32))
    disc = (((y - 15.5) ** 2 + (x - 15.5) ** 2 < 100) * 255).astype(np.uint8)[..., None].repeat(3, 2)
    dots = ((y % 8 < 4) & (x % 8 < 4)).astype(np.uint8)[..., None].repeat(3, 2) * 255
    assert features(disc)["area_by_perimeter"] > features(dots)["area_by_perimeter"] + 0.3
    assert features(disc)["outline_length"] < features(dots)["outline_length"]
    assert features(disc)["block_contrast"] > features(dots)["block_contrast"]
    assert features(disc)["bright_area"] == pytest.approx(np.pi * 100 / 1024, abs=0.05)


def test_the_cost_of_every_feature_is_measured() -> None:
    costs = measure_costs(32)
    assert costs is measure_costs(32)
    assert set(costs.alone_us) == set(NAMES)
    assert all(cost > 0 for cost in costs.alone_us.values())
    assert costs.of(()) == 0
    assert costs.of(("entropy", "luma_mean")) == costs.of(("luma_mean", "entropy")) > 0
    assert set(costs.stage_us) == {stage for name in NAMES for stage in feature_stages(name)}


def test_features_that_share_a_stage_share_its_cost() -> None:
    costs = FeatureCosts(32, {}, {"mean": 4.0, "shares": 6.0, "entropy": 1.0})
    assert costs.shares_us(["luma_mean"]) == pytest.approx([4.05])
    assert costs.shares_us(["luma_mean", "hue_red"]) == pytest.approx([2.05, 2.05])
    assert costs.shares_us(["luma_mean", "entropy", "dark_share"]) == pytest.approx([4.05, 4.05, 3.05])


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
