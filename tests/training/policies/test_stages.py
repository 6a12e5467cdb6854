"""Claims about stages: their graphs compute what numpy does, and their scores tell right from wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from selector.policies.rules import softmax
from tests.support.colours import COSTS_MS
from tests.support.world import World
from training.policies.state_scores import (
    MAX_CLASSES,
    StageEstimator,
    answers,
    decision_costs_ms,
    fit_stage,
    statistics,
)
from zoo.models.session import open_session


def made_up(
    count: int, models: int, classes: int, *, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits of models that see the label through noise of their own and noise they share."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    shared = rng.normal(0, 1.5, (count, 1, classes))
    logits = 3 * np.eye(classes)[labels][:, None] + shared + rng.normal(0, 1, (count, models, classes))
    return logits.astype(np.float32), labels


def run(
    stage: StageEstimator, logits: NDArray[np.float32], features: NDArray[np.float32] | None = None
) -> list[NDArray[np.float32]]:
    feeds = {"logits": logits} | ({} if features is None else {"features": features})
    found: list[NDArray[np.float32]] = open_session(stage.to_onnx(), name="stage").run(
        ["answer", "scores"], feeds
    )
    return found


@pytest.mark.parametrize("committee", [False, True])
@pytest.mark.parametrize("models", [1, 2, 4])
@pytest.mark.parametrize("classes", [2, 3, 10, MAX_CLASSES, MAX_CLASSES + 1])
@pytest.mark.parametrize("width", [0, 3])
def test_graphs_equal_numpy(committee: bool, models: int, classes: int, width: int) -> None:
    logits, labels = made_up(400, models, classes, seed=models * classes)
    features = np.random.default_rng(1).normal(size=(400, width)).astype(np.float32) if width else None
    answer = answers(logits, committee=committee)
    right = answer.argmax(axis=1) == labels
    targets = np.stack([right, logits[:, 0].argmax(axis=1) == labels, ~right], axis=1)
    stage = fit_stage(logits, targets, committee=committee, features=features)
    for rows in (slice(None), slice(0, 1)):
        some = None if features is None else features[rows]
        got_answer, got_scores = run(stage, logits[rows], some)
        np.testing.assert_allclose(got_answer, answer[rows], atol=1e-5)
        np.testing.assert_allclose(got_scores, stage.scores(logits[rows], some), atol=1e-5)


@pytest.mark.parametrize("committee", [False, True])
def test_graphs_equal_numpy_on_logits_of_any_size(committee: bool) -> None:
    logits, labels = made_up(300, 3, 5)
    stage = fit_stage(logits, (logits[:, 2].argmax(axis=1) == labels)[:, None], committee=committee)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 10**6), st.floats(0.01, 30), st.integers(-20, 20))
    def check(seed: int, scale: float, shift: int) -> None:
        some = np.random.default_rng(seed).normal(0, scale, (8, 3, 5)) + shift
        some = some.astype(np.float32)
        answer, scores = run(stage, some)
        wanted = answers(some, committee=committee)
        np.testing.assert_allclose(answer, wanted, atol=1e-5)
        second, first = np.sort(wanted, axis=1)[:, -2:].T
        clear = first - second > 1e-5  # of nearly equal classes, rounding decides which is on top
        np.testing.assert_allclose(scores[clear], stage.scores(some)[clear], atol=1e-4)

    check()


def test_of_equal_classes_the_first_is_on_top_in_graph_and_numpy() -> None:
    logits = np.zeros((2, 2, 4), np.float32)
    logits[1, :, 2:] = 5.0
    learn, labels = made_up(200, 2, 4)
    targets = (learn[:, 1].argmax(axis=1) == labels)[:, None]
    for committee in (False, True):
        stage = fit_stage(learn, targets, committee=committee)
        answer, scores = run(stage, logits)
        np.testing.assert_allclose(scores, stage.scores(logits), atol=1e-5)
        assert answer.argmax(axis=1).tolist() == answers(logits, committee=committee).argmax(axis=1).tolist()


def test_a_committee_answers_with_the_mean_probability_and_else_the_last_model_does() -> None:
    logits, _ = made_up(50, 3, 4)
    mean = np.mean([softmax(logits[:, j]) for j in range(3)], axis=0)
    np.testing.assert_allclose(answers(logits, committee=True), mean)
    np.testing.assert_allclose(answers(logits, committee=False), softmax(logits[:, 2]))


def test_the_columns_of_the_statistics_are_those_that_are_described() -> None:
    logits, _ = made_up(40, 2, 3)
    known = statistics(logits, committee=True)
    answer = answers(logits, committee=True)
    top = answer.argmax(axis=1)
    best = answer[np.arange(40), top]
    assert known.shape == (40, 1 + 2 + 3 + 3)
    np.testing.assert_allclose(known[:, 0], np.log(best / (1 - best)), rtol=1e-6)
    each = softmax(logits[:, 1])[np.arange(40), top]
    np.testing.assert_allclose(known[:, 2], np.log(each + 1e-4))
    np.testing.assert_array_equal(known[:, 6:].argmax(axis=1), top)
    assert statistics(made_up(5, 1, MAX_CLASSES + 1)[0], committee=True).shape == (5, 1)


def test_scores_tell_right_from_wrong_on_new_samples() -> None:
    logits, labels = made_up(3000, 2, 5)
    right = answers(logits[:, :1], committee=True).argmax(axis=1) == labels
    later = answers(logits, committee=True).argmax(axis=1) == labels
    stage = fit_stage(logits[:1500, :1], np.stack([right, later], axis=1)[:1500], committee=True)
    scores = stage.scores(logits[1500:, :1])
    assert scores[right[1500:], 0].mean() > scores[~right[1500:], 0].mean() + 0.15
    np.testing.assert_allclose(scores.mean(axis=0), [right[1500:].mean(), later[1500:].mean()], atol=0.03)


def test_the_class_counts_where_some_answers_come_too_often() -> None:
    logits, labels = made_up(4000, 1, 4)
    logits[:, 0, 0] += 2.0  # a model that likes the first class too much
    right = logits[:, 0].argmax(axis=1) == labels
    stage = fit_stage(logits[:2000], right[:2000, None], committee=False)
    scores, named = stage.scores(logits[2000:])[:, 0], logits[2000:, 0].argmax(axis=1)
    for name in range(4):
        assert scores[named == name].mean() == pytest.approx(right[2000:][named == name].mean(), abs=0.06)


def test_deciding_costs_less_than_a_real_model(world: World) -> None:
    for cost in decision_costs_ms(world.zoo, world.table, 3, runs=50):
        assert 0 < cost < 20 * COSTS_MS["tiny"]
