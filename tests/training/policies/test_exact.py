"""Claims about rounding: a device does what was simulated, also where many samples are alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from selector.answering.runners import Outcome, runner_of
from selector.policies.input import InputPolicy
from selector.policies.pool import PoolPolicy, PoolStage
from selector.policies.rules import Rule, softmax
from selector.policies.staged import State
from training.outcomes.outcomes import Outcomes
from training.policies.base import FittedPolicy
from training.policies.cascade import CascadePolicy, FittedCascade, fit_platt
from training.policies.estimators import CorrectnessEstimator
from training.policies.frontier import DOUBLE, halfway, price_grid, threshold_grid
from training.policies.input import FittedInputPolicy
from training.policies.lookahead import FittedLookahead, Lookahead
from training.policies.pool import FittedPool
from training.policies.staged import FittedStaged
from training.search.plans import RULES, StagedPlan, fit_plan
from zoo.models.session import open_session

MODELS = ("tiny", "small", "full")
COSTS = {"tiny": 1.0, "small": 3.0, "full": 9.0}


def quantised(seed: int, classes: int, step: float, *, count: int = 60) -> Outcomes:
    """Outcomes of three models, the dearer the better, whose logits are multiples of `step`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    truth = np.eye(classes)[labels][:, np.newaxis] * np.array([1.5, 2.5, 4.0])[:, np.newaxis]
    logits = np.rint((truth + rng.normal(0, 1.5, (count, 3, classes))) / step) * step
    return Outcomes(
        classes=tuple(f"c{i}" for i in range(classes)),
        models=MODELS,
        ids=np.array([str(i) for i in range(count)]),
        labels=labels.astype(np.int64),
        environments=np.full(count, "plain"),
        groups=np.array([str(i) for i in range(count)]),
        splits=np.full(count, "fit"),
        logits=logits.astype(np.float32),
        features=np.rint(rng.normal(labels[:, np.newaxis], 1.0, (count, 2)) / step).astype(np.float32),
        feature_names=("one", "two"),
    )


class Stored:
    """What a runner runs: graphs as a device runs them, logits and features as they were stored.

    Images are the places of samples.
    """

    def __init__(self, outcomes: Outcomes, policy: FittedPolicy) -> None:
        self._outcomes = outcomes
        files: Mapping[str, bytes] = policy.graphs if isinstance(policy, FittedStaged) else {}
        self._graphs = {file: open_session(content, name="stage") for file, content in files.items()}
        if isinstance(policy, FittedInputPolicy):
            self._graphs["scores"] = open_session(policy.scores_onnx, name="scores")

    def logits(self, name: str, batch: NDArray[Any]) -> NDArray[np.float32]:
        # as where a model has its classes in another order
        reverse = np.arange(len(self._outcomes.classes))[::-1]
        return self._outcomes.logits[batch, self._outcomes.models.index(name)][:, reverse][:, reverse]

    def row(self, name: str, batch: NDArray[Any]) -> tuple[list[float], NDArray[np.float32]]:
        logits = self.logits(name, batch)
        return logits.tolist()[0], logits

    def embedded(self, name: str, batch: NDArray[Any], width: int) -> Any:
        raise AssertionError("no policy here needs an embedding")

    def judge_one(self, state: State, logits: NDArray[np.float32], features: Any, *, answer: bool) -> Any:
        found, scores = self.judge(state, logits, features)
        return scores.tolist()[0], found if answer else None

    def features(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        return self._outcomes.features[batch]

    def scores(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._graphs["scores"].run(
            ["scores"], {"features": self.features(batch)}
        )[0]
        return found

    def scores_of(self, batch: NDArray[Any]) -> list[float]:
        return self.scores(batch).tolist()[0]  # type: ignore[no-any-return]

    def judge(self, state: State, logits: NDArray[np.float32], features: NDArray[np.float32] | None) -> Any:
        feeds = {"logits": logits} if features is None else {"logits": logits, "features": features}
        return self._graphs[state.file].run(["answer", "scores"], feeds)


def every_kind(outcomes: Outcomes) -> list[FittedPolicy]:
    """One policy of every kind, rule and way to answer, fitted to the outcomes."""
    lookahead = Lookahead(outcomes, COSTS, 0.1).policy(MODELS)
    stages = tuple(fit_platt(outcomes, name) for name in MODELS)
    estimator = CorrectnessEstimator("logistic").fit(outcomes.features, outcomes.right)
    scores = estimator.to_onnx(2).SerializeToString()
    chain, costs = CascadePolicy(stages=stages), tuple(COSTS.values())
    found: list[FittedPolicy] = [
        FittedCascade(CascadePolicy(stages=stages[:1]), COSTS),
        FittedCascade(chain, COSTS, stage_ms=0.1),
        FittedLookahead(lookahead, COSTS, stage_ms=0.1),
    ]
    for rule in RULES:
        policy = InputPolicy(order=MODELS, rule=rule, costs_ms=costs)
        found.append(FittedInputPolicy(policy, scores, outcomes.feature_names, COSTS))
        found += [_staged(outcomes, rule, probe=probe, committee=not probe) for probe in (False, True)]
    return [*found, FittedPool(_pool(len(outcomes.classes)), COSTS)]


def _pool(classes: int) -> PoolPolicy:
    """Scaled by a factor, by a factor and biases, and by a matrix."""
    biases = tuple(0.3 * i - 0.5 for i in range(classes))
    matrix = tuple(map(tuple, np.random.default_rng(0).normal(0, 0.2, (classes, classes)).tolist()))
    ways: tuple[dict[str, Any], ...] = ({}, {"bias": biases}, {"bias": biases, "weights": matrix})
    stages = tuple(
        PoolStage(model=name, scale=1.1, slope=1.0, offset=0.1, **way)
        for name, way in zip(MODELS, ways, strict=True)
    )
    return PoolPolicy(stages=stages, prices=(0.0, 0.1), settings=((2.0, 3.0), (0.5, 1.0)))


def _staged(outcomes: Outcomes, rule: Rule, *, probe: bool, committee: bool) -> FittedPolicy:
    features = outcomes.feature_names if probe else ()
    return fit_plan(StagedPlan(MODELS, probe, rule, committee, features), outcomes, COSTS)


def assert_as_simulated(policy: FittedPolicy, outcomes: Outcomes, thresholds: Any) -> None:
    runner, sessions = runner_of(policy.policy, confident=False), Stored(outcomes, policy)
    every = np.arange(len(outcomes))
    for threshold in map(float, thresholds):
        simulated = policy.simulate(outcomes, threshold)
        answers = policy.answers(outcomes, threshold).tolist()
        batch = runner.run(sessions, every, threshold, answer=True)
        alone = [runner.run(sessions, every[i : i + 1], threshold, answer=True)[0] for i in every]
        single = [runner.one(sessions, every[i : i + 1], threshold) for i in every]
        assert list(map(rounded, single)) == list(map(rounded, alone))
        for found in (batch, alone, single):
            assert [policy.models.index(one.model) for one in found] == simulated.answered_by.tolist()
            assert list(map(label, found)) == answers
            costs = dict(zip(map(path, found), simulated.cost_ms.tolist(), strict=True))
            assert [costs[path(one)] for one in found] == simulated.cost_ms.tolist()
        assert list(map(path, alone)) == list(map(path, batch))
        if policy.kind == "cascade" and not isinstance(policy, FittedStaged):
            assert [one.probability for one in alone] == [one.probability for one in batch]


def rounded(outcome: Outcome) -> tuple[Any, ...]:
    """All of an outcome, to the last bit."""
    return (*outcome[:3], outcome.probabilities.tolist(), *outcome[4:6])


def label(outcome: Outcome) -> int:
    top = int(outcome.probabilities.argmax())
    assert outcome.top in (None, top)
    return top


def path(outcome: Outcome) -> tuple[str, ...]:
    return outcome.path


@pytest.mark.parametrize("classes", [2, 3, 10])
@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), step=st.sampled_from([0.25, 0.5, 1.0, 0.3]))
def test_alone_in_a_batch_and_simulated_are_one_for_every_kind(classes: int, seed: int, step: float) -> None:
    outcomes = quantised(seed, classes, step)
    for policy in every_kind(outcomes):
        assert_as_simulated(policy, outcomes, policy.thresholds(outcomes, count=6))


@pytest.mark.parametrize(("classes", "step", "seed"), [(2, 0.5, 3), (2, 1.0, 6), (3, 1.0, 3), (3, 2.0, 10)])
def test_as_many_stop_as_were_simulated_where_logits_are_coarse(classes: int, step: float, seed: int) -> None:
    """On values that occur, thresholds had a device stop for up to a quarter fewer of these samples."""
    outcomes = quantised(seed, classes, step, count=400)
    policy = every_kind(outcomes)[1]
    runner, sessions = runner_of(policy.policy, confident=False), Stored(outcomes, policy)
    for threshold in policy.thresholds(outcomes).tolist():
        deployed = runner.run(sessions, np.arange(400), threshold, answer=True)
        assert sum(len(one.path) == 1 for one in deployed) == sum(
            policy.simulate(outcomes, threshold).answered_by == 0
        )


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.integers(0, 2**32 - 1))
def test_rounding_moves_no_value_across_a_threshold(places: list[int], seed: int) -> None:
    values = 0.2 + np.array(places) * 0.03
    noisy = values * (1 + np.random.default_rng(seed).uniform(-1e-9, 1e-9, len(values)))
    for threshold in threshold_grid(noisy, rounding=DOUBLE):
        np.testing.assert_array_equal(values >= threshold, noisy >= threshold)
    costs = np.array([2.0])
    for price in price_grid([(noisy[:, np.newaxis], costs)], rounding=DOUBLE):
        np.testing.assert_array_equal(values <= price * 2, noisy <= price * 2)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60))
def test_thresholds_between_values_do_what_thresholds_on_them_do(places: list[int]) -> None:
    values = np.array(places) / 20
    on, between = (
        {tuple(values >= level) for level in threshold_grid(values, rounding=rounding)}
        for rounding in (None, DOUBLE)
    )
    assert on == between
    gains = [(values[:, np.newaxis], np.array([2.0]))]
    on, between = (
        {tuple(values <= 2 * price) for price in price_grid(gains, rounding=rounding)}
        for rounding in (None, DOUBLE)
    )
    assert on == between


def test_many_values_in_a_row_are_parted_where_the_gap_is_widest() -> None:
    values = np.sort(np.concatenate([0.5 + np.arange(40) * 1e-8, 0.5 + 5e-7 + np.arange(40) * 1e-8]))
    wanted = values[[60]]
    assert 0.5 + 39e-8 < halfway(wanted, values, np.full(80, 6e-8))[0] < 0.5 + 5e-7
    assert not len(halfway(wanted, values, np.full(80, 1e-6)))  # all of them are one value


@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_the_most_probable_class_is_that_of_the_largest_logit(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = (rng.integers(-2, 3, (20, classes)) * np.float32(1e-20)).astype(np.float32)
    np.testing.assert_array_equal(softmax(logits).argmax(axis=1), logits.argmax(axis=1))
    one = [softmax(row[np.newaxis])[0].argmax() for row in logits]
    assert one == logits.argmax(axis=1).tolist()
