"""Claims about estimators of correctness: any pattern of right and wrong fits, and ONNX says the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from training.policies.estimators import SMALL, CorrectnessEstimator
from training.policies.platt import platt
from training.search.selector_graph import score_difference
from zoo.models.session import open_session

TRIED = (*SMALL, "40 neighbours")  # the others are larger or smaller ones of these
RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 5)).astype(np.float32)
EASY = X[:, 0] + RNG.normal(0, 0.5, 400) > -0.5
HARD = X[:, 1] + RNG.normal(0, 0.5, 400) > 0.3
ALWAYS, NEVER = np.ones(400, bool), np.zeros(400, bool)
PATTERNS = {
    "usual": (EASY, HARD),
    "always right": (EASY, ALWAYS),
    "always wrong": (NEVER, HARD),
    "twice the same": (EASY, HARD, EASY),
    "one model": (HARD,),
    "one model, always right": (ALWAYS,),
    "nothing varies": (ALWAYS, NEVER, ALWAYS),
    "everything at once": (ALWAYS, EASY, NEVER, EASY, HARD),
}


def columns(pattern: str) -> NDArray[np.bool_]:
    return np.stack(PATTERNS[pattern], axis=1)


@pytest.mark.parametrize("kind", TRIED)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_any_pattern_of_correctness_gives_scores_that_onnx_repeats(kind: str, pattern: str) -> None:
    right = columns(pattern)
    estimator = CorrectnessEstimator(kind).fit(X[:300], right[:300]).calibrate(X[300:], right[300:])
    scores = estimator.scores(X)
    assert scores.shape == right.shape
    assert ((scores > 0) & (scores < 1)).all()
    assert score_difference(estimator, estimator.to_onnx(5).SerializeToString(), X) <= 1e-4
    assert score_difference(estimator, estimator.to_onnx(5).SerializeToString(), X[:1]) <= 1e-4


def test_inputs_at_the_very_thresholds_of_a_forest_end_in_the_same_leaves() -> None:
    inputs = X * np.float32(3) + np.float32(100)
    estimator = CorrectnessEstimator("forest").fit(inputs, columns("usual"))
    content = estimator.to_onnx(5).SerializeToString()
    for feature in range(5):
        low, high = inputs.copy(), inputs.copy()
        high[:, feature] = inputs[::-1, feature]
        start = estimator.scores(low)
        changes = (estimator.scores(high) != start).any(axis=1)
        low, high, start = low[changes], high[changes], start[changes]
        for _ in range(40):  # until they are neighbours, on two sides of a threshold
            middle = low.copy()
            middle[:, feature] = (low[:, feature] + high[:, feature]) / 2
            same = (estimator.scores(middle) == start).all(axis=1)
            low[same], high[~same] = middle[same], middle[~same]
        assert len(low) > 50
        assert score_difference(estimator, content, low) <= 1e-5
        assert score_difference(estimator, content, high) <= 1e-5


@pytest.mark.parametrize("kind", TRIED)
def test_scores_tell_right_from_wrong(kind: str) -> None:
    estimator = CorrectnessEstimator(kind).fit(X[:300], columns("usual")[:300])
    scores = estimator.scores(X[300:])
    for j, right in enumerate((EASY[300:], HARD[300:])):
        assert scores[right, j].mean() > scores[~right, j].mean() + 0.15


@parametrize_with_checks([CorrectnessEstimator(kind) for kind in SMALL])  # type: ignore[untyped-decorator]
def test_is_an_estimator_like_those_of_scikit_learn(
    estimator: CorrectnessEstimator, check: Callable[[Any], None]
) -> None:
    check(estimator)


@pytest.mark.parametrize("kind", TRIED)
def test_a_target_of_two_classes_is_predicted_by_name(kind: str) -> None:
    names = np.where(EASY, "right", "wrong")
    estimator = clone(CorrectnessEstimator(kind, seed=3)).fit(X[:300], names[:300])
    assert estimator.get_params() == {"kind": kind, "seed": 3}
    assert estimator.classes_.tolist() == ["right", "wrong"]
    probabilities = estimator.calibrate(X[:300], names[:300]).predict_proba(X[300:])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(probabilities[:, [1]], estimator.scores(X[300:]))
    assert estimator.score(X[300:], names[300:]) > 0.75
    assert cross_val_score(CorrectnessEstimator(kind), X, EASY, cv=3).mean() > 0.75


@pytest.mark.parametrize("kind", TRIED)
def test_indicators_are_predicted_model_by_model(kind: str) -> None:
    right = columns("everything at once")
    estimator = CorrectnessEstimator(kind).fit(X[:300], right[:300])
    np.testing.assert_array_equal(estimator.predict_proba(X), estimator.scores(X))
    np.testing.assert_array_equal(estimator.predict(X), estimator.scores(X) >= 0.5)
    assert (estimator.predict(X[300:]) == right[300:]).mean() > 0.7


def test_targets_of_more_classes_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="expected two classes, got 3"):
        CorrectnessEstimator().fit(X, np.arange(400) % 3)
    with pytest.raises(ValueError, match=r"among logistic, .*, got 'oracle'"):
        CorrectnessEstimator("oracle").fit(X, EASY)


@pytest.mark.parametrize("count", [2, 5, 12, 39, 40, 60])
@pytest.mark.parametrize("kind", TRIED)
def test_one_wrong_answer_among_few_is_enough(kind: str, count: int) -> None:
    right = np.arange(count) > 0
    for target in (right[:, None], np.stack([right, ~right], axis=1)):
        estimator = CorrectnessEstimator(kind).fit(X[:count], target)
        assert np.isfinite(estimator.scores(X)).all()
        assert score_difference(estimator, estimator.to_onnx(5).SerializeToString(), X) <= 1e-4


def test_always_right_so_far_is_not_certainty() -> None:
    estimator = CorrectnessEstimator("logistic").fit(X[:98], columns("always right")[:98])
    np.testing.assert_allclose(estimator.scores(X)[:, 1], 99 / 100)
    never = CorrectnessEstimator("logistic").fit(X[:98], columns("always wrong")[:98])
    np.testing.assert_allclose(never.scores(X)[:, 0], 1 / 100)


@pytest.mark.parametrize("kind", TRIED)
def test_twenty_samples_are_enough_to_fit(kind: str) -> None:
    right = columns("usual")[:20]
    estimator = CorrectnessEstimator(kind).fit(X[:20], right)
    assert np.isfinite(estimator.scores(X)).all()
    assert score_difference(estimator, estimator.to_onnx(5).SerializeToString(), X) <= 1e-4


@pytest.mark.parametrize("kind", TRIED)
def test_constant_features_are_harmless(kind: str) -> None:
    flat = X.copy()
    flat[:, 2] = 7
    estimator = CorrectnessEstimator(kind).fit(flat, columns("usual"))
    assert score_difference(estimator, estimator.to_onnx(5).SerializeToString(), flat) <= 1e-4
    still = CorrectnessEstimator(kind).fit(np.zeros_like(X), columns("usual"))
    assert np.isfinite(still.scores(np.zeros_like(X))).all()


def test_equal_seeds_give_equal_scores() -> None:
    for kind in TRIED:
        first, second = (CorrectnessEstimator(kind, seed=3).fit(X, columns("usual")) for _ in range(2))
        np.testing.assert_array_equal(first.scores(X), second.scores(X))


def test_of_equal_examples_the_same_are_neighbours_in_every_batch() -> None:
    few = RNG.integers(0, 3, size=(900, 2)).astype(np.float32)
    right = RNG.random((900, 2)) < 0.3 + 0.2 * few[:, :1]
    estimator = CorrectnessEstimator("40 neighbours").fit(few, right)
    content = estimator.to_onnx(2).SerializeToString()
    assert score_difference(estimator, content, few) <= 1e-6
    for row in few[:20]:
        assert score_difference(estimator, content, row[np.newaxis]) <= 1e-6


def test_an_input_has_the_same_neighbours_alone_and_among_others() -> None:
    session = open_session(
        CorrectnessEstimator("40 neighbours").fit(X, columns("usual")).to_onnx(5).SerializeToString(),
        name="s",
    )
    (together,) = session.run(["scores"], {"features": X})
    alone = [session.run(["scores"], {"features": X[[i]]})[0][0] for i in range(60)]
    np.testing.assert_allclose(together[:60], alone, atol=2e-7)  # logarithms round in several ways


def test_neighbours_of_inputs_far_from_all_and_of_columns_that_do_not_vary_are_the_same_in_onnx() -> None:
    wide = np.concatenate([X * [1, 1e-6, 1e6, 1, 1], np.full((400, 1), 7.0)], axis=1).astype(np.float32)
    estimator = CorrectnessEstimator("40 neighbours").fit(wide, columns("usual"))
    content = estimator.to_onnx(6).SerializeToString()
    far = np.array([[1e30] * 6, [-1e30] * 6, [0] * 6, [1e-30] * 6], np.float32)
    assert score_difference(estimator, content, np.concatenate([wide, far])) <= 1e-6
    assert len(estimator.to_onnx(6).graph.node) <= 16


def test_a_logistic_regression_is_one_product_however_many_models() -> None:
    graphs = [CorrectnessEstimator().fit(X, np.stack([EASY, HARD] * n, axis=1)).to_onnx(5) for n in (1, 9)]
    few, many = ([node.op_type for node in graph.graph.node] for graph in graphs)
    assert few == many
    assert len(many) <= 6


def test_a_forest_does_not_split_between_values_that_differ_by_rounding() -> None:
    clean = np.repeat(RNG.normal(size=(8, 5)), 50, axis=0).astype(np.float32)
    disturbed = (clean * (1 + 3e-7 * RNG.choice([-1, 1], clean.shape))).astype(np.float32)
    right = RNG.random((400, 2)) < 0.5
    estimator = CorrectnessEstimator("forest").fit(disturbed, right)
    np.testing.assert_allclose(estimator.scores(disturbed), estimator.scores(clean), atol=1e-9)


def test_calibration_repairs_overconfidence() -> None:
    odds = RNG.normal(0, 2, 4000)
    right = RNG.random(4000) < 1 / (1 + np.exp(-(0.5 * odds + 0.3)))
    scale, offset = platt(odds, right)
    assert scale == pytest.approx(0.5, abs=0.08)
    assert offset == pytest.approx(0.3, abs=0.1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.booleans()), min_size=2, max_size=40))
def test_more_sureness_never_means_less_probability(pairs: list[tuple[float, bool]]) -> None:
    odds, right = np.array([odd for odd, _ in pairs]), np.array([flag for _, flag in pairs])
    scale, offset = platt(odds, right)
    assert scale >= 0
    assert np.isfinite([scale, offset]).all()


@pytest.mark.parametrize(("right", "share"), [(ALWAYS, 401 / 402), (NEVER, 1 / 402)])
def test_constant_correctness_calibrates_to_its_smoothed_share(
    right: NDArray[np.bool_], share: float
) -> None:
    scale, offset = platt(RNG.normal(size=400), right)
    assert scale == 0
    assert 1 / (1 + np.exp(-offset)) == pytest.approx(share)


def test_misleading_or_constant_sureness_counts_for_nothing() -> None:
    odds = np.linspace(-3, 3, 400)
    for values in (odds, np.full(400, 2.0)):
        scale, offset = platt(values, odds < 0)
        assert scale == 0
        assert 1 / (1 + np.exp(-offset)) == pytest.approx(0.5, abs=0.01)
