"""Claims about fitting cascades: the cheapest chain that is good enough, calibrated, in order of cost."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import COSTS_MS, World

from selector.policy import right_probability
from training import cascade
from training.cascade import chain_frontier, fit_cascade, fit_stage, refit
from training.outcomes import Outcomes, load_outcomes
from training.policies import FittedCascade


@pytest.fixture
def development(world: World) -> Outcomes:
    return load_outcomes(world.profile, splits=("fit", "tune"))


def cheapest_reaching(outcomes: Outcomes, names: tuple[str, ...], target: float) -> float:
    chosen = outcomes.with_models(names)
    probabilities = np.stack(
        [right_probability(fit_stage(chosen, name), chosen.log_odds[:, j]) for j, name in enumerate(names)], 1
    )
    costs = np.cumsum([COSTS_MS[name] for name in names])
    points = chain_frontier(probabilities, chosen.right, costs)
    return min((point.mean_ms for point in points if point.accuracy >= target), default=np.inf)


@pytest.mark.parametrize("target", [0.8, 0.9, 0.93, 0.96])
def test_the_cheapest_chain_that_reaches_the_target_is_taken(development: Outcomes, target: float) -> None:
    policy = fit_cascade(development, COSTS_MS, target)
    names = ("tiny", "small", "full")
    chains = [("tiny",), ("small",), ("full",), names[:2], names[1:], ("tiny", "full"), names]
    best = min(cheapest_reaching(development, chain, target) for chain in chains)
    assert cheapest_reaching(development, policy.models, target) == pytest.approx(best)
    assert list(policy.models) == sorted(policy.models, key=lambda name: COSTS_MS[name])


def test_where_no_chain_reaches_the_target_the_most_accurate_is_taken(development: Outcomes) -> None:
    policy = fit_cascade(development, COSTS_MS, 0.999)
    fitted = FittedCascade(policy, COSTS_MS)
    best = max(point.accuracy for point in fitted.frontier(development, fitted.thresholds(development)))
    assert best >= development.accuracy()["full"]


def test_stages_are_calibrated(development: Outcomes) -> None:
    for name in development.models:
        stage = fit_stage(development, name)
        column = development.models.index(name)
        predicted = right_probability(stage, development.log_odds[:, column])
        assert predicted.mean() == pytest.approx(development.right[:, column].mean(), abs=0.01)
        assert stage.scale > 0


def test_refitting_keeps_the_chain_and_moves_the_numbers(development: Outcomes) -> None:
    policy = fit_cascade(development, COSTS_MS, 0.9)
    again = refit(policy, development.rows(np.arange(0, len(development), 2)))
    assert again.models == policy.models
    assert again != policy


def test_many_samples_or_models_are_narrowed_down_first(
    development: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cascade, "MAX_ROWS", 300)
    monkeypatch.setattr(cascade, "MAX_MODELS", 2)
    policy = fit_cascade(development, COSTS_MS, 0.9)
    assert set(policy.models) <= {"tiny", "small"}
    assert fit_cascade(development, COSTS_MS, 0.9) == policy


def test_a_threshold_above_everything_costs_the_whole_chain(development: Outcomes) -> None:
    points = chain_frontier(np.full((4, 2), 0.5), np.ones((4, 2), bool), np.array([1.0, 3.0]))
    assert points[0].mean_ms == 3.0
    assert points[-1].mean_ms == 1.0
