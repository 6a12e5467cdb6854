"""Claims about pools: scaling copes with few samples, thresholds are chosen together, rows are alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from selector.answering.runners import runner_of
from selector.policies.policy import Policy
from selector.policies.pool import MAX_WEIGHTS, PoolPolicy, PoolStage, Scaling, margins, stopping
from training.calibration import scaling as scaling_of
from training.calibration.scaling import fit_embedding, fit_linear, fit_matrix, fit_vector, has_head
from training.outcomes.outcomes import Outcomes
from training.policies.joint import joint_thresholds
from training.search.pools import Pools, ScalingMethod


def some_logits(
    samples: int, classes: int, *, seed: int, step: float = 0.0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits ``[n, C]`` and labels ``[n]``; with a step, logits are multiples of it."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    logits = rng.normal(size=(samples, classes)) + 2.0 * np.eye(classes)[labels]
    logits[:, 0] += 1.5  # a class that is named too often
    return (np.rint(logits / step) * step if step else logits).astype(np.float32), labels


def some_outcomes(samples: int, classes: int, *, step: float = 0.0) -> Outcomes:
    parts = [some_logits(samples, classes, seed=0, step=step)[0]]
    labels = some_logits(samples, classes, seed=0, step=step)[1]
    rng = np.random.default_rng(1)
    for noise in (1.0, 0.5):
        raw = 2 * np.eye(classes)[labels] + noise * rng.normal(size=(samples, classes))
        parts.append((np.rint(raw / step) * step if step else raw).astype(np.float32))
    blank = np.array([f"{i}" for i in range(samples)])
    return Outcomes(
        classes=tuple(f"c{i}" for i in range(classes)),
        models=("a", "b", "c"),
        ids=blank,
        labels=labels,
        environments=blank,
        groups=blank,
        splits=np.full(samples, "fit"),
        logits=np.stack(parts, axis=1),
        features=np.zeros((samples, 0), np.float32),
        feature_names=(),
    )


def accuracy(scaling: Scaling, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    return float((scaling(logits).argmax(axis=1) == labels).mean())


def test_scaling_undoes_what_a_model_names_too_often() -> None:
    logits, labels = some_logits(2000, 6, seed=3)
    fresh, truth = some_logits(2000, 6, seed=4)
    vector = fit_vector(logits, labels)
    matrix = fit_matrix(vector, logits, labels)
    raw = float((fresh.argmax(axis=1) == truth).mean())
    assert accuracy(vector, fresh, truth) > raw + 0.03
    assert accuracy(matrix, fresh, truth) > raw + 0.03
    assert vector.bias is not None
    assert vector.bias[0] - vector.bias[1:].mean() == pytest.approx(-3.0, abs=0.4)


@pytest.mark.parametrize("labels", [[0], [0, 0, 0, 0], [0, 1], [2, 2, 0]])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
def test_few_samples_and_missing_classes_leave_all_numbers_finite(labels: list[int], size: float) -> None:
    logits = (size * np.random.default_rng(0).normal(size=(len(labels), 4))).astype(np.float32)
    vector = fit_vector(logits, np.array(labels))
    embedding = (size * np.random.default_rng(1).normal(size=(len(labels), 600))).astype(np.float32)
    head = fit_embedding(vector, logits, embedding, np.array(labels))
    for scaling in (vector, fit_matrix(vector, logits, np.array(labels)), head):
        assert scaling.scale >= 0
        assert np.isfinite(scaling(logits, embedding if scaling.on_embedding else None)).all()
        assert scaling.bias is not None
        assert np.abs(scaling.bias).max() < 20


def test_of_many_classes_those_that_never_occur_are_named_no_more_where_that_pays() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 20, 800)
    raw = rng.normal(size=(800, 200)) + 3.0 * np.eye(200)[labels]
    logits = raw.astype(np.float32)
    known, held = slice(0, 600), slice(600, 800)
    vector = fit_vector(logits[known], labels[known])
    warm = fit_vector(logits[known], labels[known], biases=False)
    assert warm.bias is None
    assert vector.bias is not None
    assert np.isfinite(vector.bias).all()
    assert vector.bias[20:].max() < vector.bias[:20].min()
    assert accuracy(vector, logits[held], labels[held]) > accuracy(warm, logits[held], labels[held]) + 0.1
    outcomes = replace(
        some_outcomes(800, 200), labels=labels, logits=np.stack([logits] * 3, axis=1)
    )  # the same three times
    pools = Pools.of(outcomes, {"a": 1.0, "b": 2.0, "c": 3.0}, 0.0)
    assert pools.methods("a") == ("temperature", "vector")
    assert pools.scaled("a").method == "vector"


def test_biases_of_many_classes_are_fitted_to_some_of_many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 20, 3000)
    logits = (rng.normal(size=(3000, 200)) + 3.0 * np.eye(200)[labels]).astype(np.float32)
    monkeypatch.setattr(scaling_of, "MOST_LOGITS", 200 * 1000)
    some, known, held = fit_vector(logits[:2500], labels[:2500]), logits[:2500], slice(2500, 3000)
    assert some.bias is not None
    monkeypatch.undo()
    every = fit_vector(known, labels[:2500])
    assert every.bias is not None
    assert not np.array_equal(some.bias, every.bias)
    for one in (some, every):
        assert accuracy(one, logits[held], labels[held]) > 0.6


def test_both_ways_to_fit_biases_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = some_logits(1000, 12, seed=6)
    newton = fit_vector(logits, labels)
    monkeypatch.setattr(scaling_of, "MAX_CLASSES", 6)
    other = fit_vector(logits, labels)
    assert newton.bias is not None
    assert other.bias is not None
    assert other.scale == pytest.approx(newton.scale, abs=2e-3)
    assert other.bias == pytest.approx(newton.bias, abs=1e-2)


def test_inputs_wider_than_there_are_samples_are_fitted_as_in_the_space_that_they_span() -> None:
    rng = np.random.default_rng(0)
    few, labels, base = rng.normal(size=(40, 5)), rng.integers(0, 3, 40), np.zeros((40, 3))
    turn = np.linalg.qr(rng.normal(size=(300, 5)))[0].T
    narrow, wide = (fit_linear(inputs, base, labels, ridge=2.0) for inputs in (few, few @ turn))
    assert wide.weights.shape == (300, 3)
    np.testing.assert_allclose(wide(few @ turn), narrow(few), atol=1e-3)
    assert has_head(40, 1600, samples=800)
    assert not has_head(40, 1600, samples=799)
    assert not has_head(10, MAX_WEIGHTS, samples=10**6)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_a_row_is_scaled_and_judged_as_if_it_were_alone(classes: int) -> None:
    logits, labels = some_logits(400, classes, seed=0)
    turned = np.asfortranarray(logits)  # as the logits of a model with its classes in another order may lie
    scaling = fit_matrix(fit_vector(logits, labels), logits, labels)
    together = scaling(logits)
    assert (scaling(turned) == together).all()
    assert (np.concatenate([scaling(logits[i : i + 1]) for i in range(400)]) == together).all()
    assert [margins(together[i : i + 1], 3)[0] for i in range(400)] == margins(together, 3)


def test_joint_thresholds_are_the_best_there_are_and_lie_between_scores() -> None:
    rng = np.random.default_rng(0)
    scores = [rng.integers(0, 6, 60) / 4 for _ in range(3)]
    right = rng.random((60, 3)) < np.stack([scores[0] / 2, scores[1] / 2, np.full(60, 0.8)], axis=1)
    costs, prices = np.array([0.1, 0.4, 1.0]), np.array([0.0, 0.1, 0.5, 3.0])

    def worth(setting: tuple[float, ...], price: float) -> float:
        stop = stopping(scores, setting)
        return float((right[np.arange(60), stop] - price * costs[stop]).sum())

    levels = np.arange(-1, 7) / 4 + 0.125
    found = joint_thresholds(scores, right, costs, prices)
    for price, setting in zip(prices.tolist(), found.tolist(), strict=True):
        best = max(worth(pair, price) for pair in product(levels, levels))
        assert worth(tuple(setting), price) >= best - 1.0  # coordinate ascent may end one answer short
        assert not set(setting) & set(np.concatenate(scores).tolist())


class StoredLogits:
    """Sessions that answer with stored logits; the image holds which sample it is."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes

    def logits(self, name: str, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        samples = batch[:, 0, 0, 0].astype(int) + 256 * batch[:, 0, 0, 1].astype(int)
        return self._outcomes.logits[samples, self._outcomes.models.index(name)]


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("step", [0.0, 0.5])
def test_a_device_does_as_simulated_alone_and_in_a_batch(classes: int, step: float) -> None:
    outcomes = some_outcomes(400, classes, step=step)
    images = np.zeros((400, 1, 1, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(400) % 256, np.arange(400) // 256
    ways: tuple[ScalingMethod, ...] = ("vector", "matrix")
    for method in ways:
        pools = Pools.of(outcomes, {"a": 0.1, "b": 0.2, "c": 0.5}, 0.01)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pools, "methods", lambda _, method=method: (method,))
            fitted = pools.fit(("a", "b", "c"))
        stored: Policy = msgspec.json.decode(msgspec.json.encode(fitted.policy), type=Policy)
        assert stored == fitted.policy
        assert fitted.policy.prices[0] == 0
        sessions, runner = StoredLogits(outcomes), runner_of(stored, confident=True)
        paths = set()
        for price in fitted.policy.prices[:: max(1, len(fitted.policy.prices) // 5)]:
            simulated = fitted.simulate(outcomes, price)
            answers = fitted.answers(outcomes, price)
            together = runner.run(sessions, images, price, answer=True)  # type: ignore[arg-type]
            for i, one in enumerate(together):
                assert one.answer is not None
                assert len(one.path) - 1 == simulated.answered_by[i]
                assert one.answer.argmax() == answers[i]
                assert (answers[i] == outcomes.labels[i]) == simulated.right[i]
                paths.add(one.path)
            for i in range(0, 400, 37):
                (alone,) = runner.run(sessions, images[i : i + 1], price, answer=True)  # type: ignore[arg-type]
                assert alone.answer is not None
                assert together[i].answer is not None
                assert (alone.answer == together[i].answer).all()
                assert (alone.path, alone.probability) == (together[i].path, together[i].probability)
                assert alone.confidence == together[i].confidence
        assert len(paths) == 3


def test_a_price_takes_the_setting_below_it() -> None:
    stage = PoolStage(model="a", scale=1.0, slope=1.0, offset=0.0)
    policy = PoolPolicy(
        stages=(stage, PoolStage(model="b", scale=1.0, slope=1.0, offset=0.0)),
        prices=(0.5, 1.0),
        settings=((3.0,), (2.0,)),
    )
    assert [policy.setting(price) for price in (0.0, 0.5, 0.9, 1.0, 9.0)] == [(3.0,)] * 3 + [(2.0,)] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prices": (1.0, 0.5)}, "prices: expected distinct ones in ascending order"),
        ({"settings": ((1.0,),)}, "settings: expected 2, one a price, each of 1 margins"),
        ({"settings": ((1.0, 2.0), (1.0, 2.0))}, "settings: expected 2"),
    ],
)
def test_a_policy_that_fits_nothing_is_refused(changes: dict[str, object], message: str) -> None:
    stages = tuple(PoolStage(model=name, scale=1.0, slope=1.0, offset=0.0) for name in "ab")
    good = {"stages": stages, "prices": (0.5, 1.0), "settings": ((1.0,), (2.0,))}
    with pytest.raises(ValueError, match=message):
        PoolPolicy(**{**good, **changes})
    with pytest.raises(ValueError, match="weights: expected a square matrix"):
        PoolStage(model="a", scale=1.0, slope=1.0, offset=0.0, weights=((1.0, 2.0),))
    with pytest.raises(ValueError, match="bias: expected 1, one a column of weights, got 2"):
        PoolStage(model="a", scale=1.0, slope=1.0, offset=0.0, weights=((1.0,),), bias=(1.0, 2.0))
