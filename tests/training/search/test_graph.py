"""Claims about the selector graph: it computes what torch and scikit-learn compute, and chooses the same."""

from __future__ import annotations

import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from selector.policies.rules import choose
from tests.support.world import World
from training.data.environments import ENVIRONMENTS, under_environments
from training.data.folder import folder
from training.data.sources import digits
from training.features.features import NAMES, read_pixels
from training.features.image.scout_network import fit_scout
from training.features.input_features import InputFeatures
from training.policies.estimators import KINDS, CorrectnessEstimator
from training.search.selector_graph import (
    TOLERANCE,
    check_selector_graph,
    score_difference,
    selector_cost_ms,
    selector_graph,
    time_selector_us,
)
from zoo.errors import ParityError
from zoo.models.session import open_session


@cache
def thousand_digits() -> list[NDArray[np.uint8]]:
    data = under_environments(digits(), list(ENVIRONMENTS), seed=0)
    return [data.image(int(i)) for i in np.random.default_rng(0).choice(len(data), 1000, replace=False)]


def torch_features(images: list[NDArray[np.uint8]], names: tuple[str, ...] = NAMES) -> NDArray[np.float32]:
    module = InputFeatures(names).eval()
    with torch.inference_mode():
        rows = [module(torch.from_numpy(image[np.newaxis].copy())) for image in images]
    return torch.cat(rows).numpy()


def learnable_correctness(features: NDArray[np.float32], models: int = 4) -> NDArray[np.bool_]:
    """Correctness ``[n, M]`` that the features tell something about, and noise on top."""
    rng = np.random.default_rng(1)
    spread = features.std(axis=0)
    tidy = (features - features.mean(axis=0)) / np.where(spread > 1e-6, spread, 1)
    return np.asarray(
        tidy @ rng.normal(0, 0.3, (features.shape[1], models)) + rng.normal(1, 1, (len(features), models)) > 0
    )


@cache
def digit_features() -> NDArray[np.float32]:
    return torch_features(thousand_digits())


def assert_parity(kind: str, images: list[NDArray[np.uint8]], features: NDArray[np.float32]) -> None:
    estimator = CorrectnessEstimator(kind).fit(features[:600], learnable_correctness(features)[:600])
    estimator.calibrate(features[600:], learnable_correctness(features)[600:])
    content = selector_graph(NAMES, estimator.to_onnx(len(NAMES)), grid=32)
    graph = open_session(content, name="selector")
    got = np.concatenate([graph.run(["scores"], {"image": image[np.newaxis]})[0] for image in images])
    wanted = estimator.scores(features)
    off = np.abs(got - wanted).max(axis=1)
    if kind == "forest":  # a feature within float32 rounding of a split may end in the leaf beside it
        assert (off > 1e-4).sum() <= 1
        assert off.max() < 0.05
    elif kind.endswith("neighbours"):  # a direction may be rounded to the next step
        assert (off > 1e-4).sum() <= 10
        assert off.max() < 0.005
    else:
        assert off.max() <= 1e-4
    for threshold in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 2.0):
        np.testing.assert_array_equal(choose(got.astype(np.float64), threshold), choose(wanted, threshold))


@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_digits_get_the_scores_and_choices_of_torch_and_scikit_learn(kind: str) -> None:
    assert_parity(kind, thousand_digits(), digit_features())


@pytest.fixture(scope="module")
def photographs(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[NDArray[np.uint8]]:
    """A thousand of them."""
    unpacked = tmp_path_factory.mktemp("cifar10-test")
    with zipfile.ZipFile(real_data / "cifar10-test.zip") as archive:
        archive.extractall(unpacked, archive.namelist()[::5])
    found = folder(unpacked / "test", progress=False)
    chosen = np.random.default_rng(0).choice(len(found), min(1000, len(found)), replace=False)
    return [found.image(int(i)) for i in chosen]


@pytest.fixture(scope="module")
def photograph_features(photographs: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    return torch_features(photographs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_photographs_get_the_scores_and_choices_of_torch_and_scikit_learn(
    kind: str, photographs: list[NDArray[np.uint8]], photograph_features: NDArray[np.float32]
) -> None:
    assert_parity(kind, photographs, photograph_features)


def small_scores(names: tuple[str, ...] = ("luma_mean", "saturation")) -> onnx.ModelProto:
    features = torch_features(thousand_digits()[:200], names)
    right = learnable_correctness(features, 2)
    return CorrectnessEstimator("logistic").fit(features, right).to_onnx(len(names))


def test_a_scout_is_part_of_the_graph() -> None:
    images = np.stack([image for image in thousand_digits()[:300]])
    pixels = read_pixels(images, 32)
    right = np.stack([images.mean((1, 2, 3)) > limit for limit in (60, 120)], 1)
    scout = fit_scout(pixels, right, ("small", "large"))
    names = ("scout_large", "luma_mean", "log_area", "scout_small")
    with torch.inference_mode():
        features = InputFeatures(names, scout=scout)(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(features[:, [3, 0]], scout.log_odds(pixels), atol=1e-4)
    estimator = CorrectnessEstimator("logistic").fit(features, right)
    content = selector_graph(names, estimator.to_onnx(4), grid=32, scout=scout)
    got = open_session(content, name="selector").run(["features", "scores"], {"image": images})
    np.testing.assert_allclose(got[0], features, atol=1e-4)
    np.testing.assert_allclose(got[1], estimator.scores(features), atol=TOLERANCE)


def test_a_graph_that_computes_something_else_is_refused() -> None:
    names = ("luma_mean", "saturation")
    scores = small_scores()
    content = selector_graph(names, scores, grid=32)
    module = InputFeatures(names).eval()
    assert check_selector_graph(content, module, scores) <= TOLERANCE
    merged = onnx.load_from_string(content)
    offset = next(item for item in merged.graph.initializer if item.name == "scores/offset")
    offset.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(offset) + np.float32(0.01), offset.name))
    with pytest.raises(ParityError, match=r"expected scores within 0.0001 of torch and scikit-learn, got"):
        check_selector_graph(merged.SerializeToString(), module, scores)


def test_equal_inputs_give_equal_bytes_without_paths_of_this_machine() -> None:
    names = ("luma_mean", "saturation")
    first, second = (selector_graph(names, small_scores(), grid=32) for _ in range(2))
    assert first == second
    for path in (Path(torch.__file__).parent, Path.cwd()):
        assert str(path).encode() not in first


def test_score_difference_is_that_of_scikit_learn_and_onnx() -> None:
    features = torch_features(thousand_digits()[:200], NAMES[:5])
    estimator = CorrectnessEstimator("mlp").fit(features, learnable_correctness(features))
    content = estimator.to_onnx(5).SerializeToString()
    assert score_difference(estimator, content, features) <= TOLERANCE
    estimator.offset_ = estimator.offset_ + 1.0
    assert score_difference(estimator, content, features) > 0.01


def test_the_cost_of_the_graph_scales_with_the_device(world: World) -> None:
    graph = world.fits["input"].graph
    assert graph is not None
    times = [selector_cost_ms(graph, world.zoo, world.table, runs=60) for _ in range(3)]
    assert 0 < min(times) < 100 * 0.1


def test_times_single_calls_in_microseconds() -> None:
    content = selector_graph(("luma_mean", "saturation"), small_scores(), grid=32)
    micros = time_selector_us(content, (32, 32), runs=50)
    assert micros.shape == (50,)
    assert (micros > 1).all()
