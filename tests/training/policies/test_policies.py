"""Claims about fitted policies: simulated costs and answers are those of the rule, frontiers are in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selector.policies.input import InputPolicy
from tests.support.colours import CONFIDENCE_MS, COSTS_MS, KINDS, SELECTOR_MS, STAGE_MS, Kind
from tests.support.world import World
from training.outcomes.outcomes import load_outcomes
from training.policies.frontier import (
    UNREACHABLE_THRESHOLD,
    Simulated,
    by_cost,
    frontier_quality,
    threshold_grid,
)
from training.policies.input import input_frontier
from zoo.errors import DataError


def point(mean_ms: float, accuracy: float) -> Simulated:
    right = np.arange(1000) < accuracy * 1000
    return Simulated(0.5, np.zeros(1000, np.intp), right, np.full(1000, mean_ms))


def test_costs_are_those_of_everything_that_runs(world: World) -> None:
    test = load_outcomes(world.profile, splits=("test",))
    fitted = {kind: item.policy for kind, item in world.fits.items()}
    never = fitted["cascade"].simulate(test, UNREACHABLE_THRESHOLD)
    assert never.mean_ms == pytest.approx(
        sum(COSTS_MS[name] + CONFIDENCE_MS for name in fitted["cascade"].models)
    )
    extras: dict[Kind, float] = {
        "input": SELECTOR_MS,
        "cascade": CONFIDENCE_MS,
        "learned": STAGE_MS,
        "probe": SELECTOR_MS + STAGE_MS,
    }
    for kind, extra in extras.items():
        policy = fitted[kind]
        cheapest = policy.simulate(test, float(policy.thresholds(test)[-1]))
        assert cheapest.mean_ms == pytest.approx(COSTS_MS["tiny"] + extra)
        assert min(policy.possible_costs_ms()) == pytest.approx(COSTS_MS["tiny"] + extra)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frontier_is_the_simulation_at_each_threshold(world: World, kind: Kind) -> None:
    fitted = world.fits[kind].policy
    test = load_outcomes(world.profile, splits=("test",))
    thresholds = fitted.thresholds(test, count=12)
    for threshold, found in zip(thresholds, fitted.frontier(test, thresholds), strict=True):
        alone = fitted.simulate(test, float(threshold))
        np.testing.assert_array_equal(found.right, alone.right)
        np.testing.assert_array_equal(found.cost_ms, alone.cost_ms)
    costs = [item.mean_ms for item in fitted.frontier(test, thresholds)]
    if kind == "cascade":
        assert costs == sorted(costs, reverse=True)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30),
    st.sampled_from(["threshold", "price"]),
)
def test_an_input_policy_can_be_as_careful_and_as_cheap_as_possible(
    rows: list[tuple[float, float, float]], rule: Any
) -> None:
    scores, costs = np.array(rows), (1.0, 2.0, 5.0)
    policy = InputPolicy(order=("a", "b", "c"), rule=rule, costs_ms=costs)
    frontier = input_frontier(scores, scores > 0.5, np.array(costs), policy)
    np.testing.assert_array_equal(frontier[0].answered_by, scores.argmax(axis=1))
    assert not frontier[-1].answered_by.any()
    if rule == "price":
        means = [item.mean_ms for item in frontier]
        assert means == sorted(means, reverse=True)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_thresholds_run_from_above_everything_to_zero(values: list[float]) -> None:
    grid = threshold_grid(np.array(values))
    assert (grid[0], grid[-1]) == (UNREACHABLE_THRESHOLD, 0.0)
    assert (np.diff(grid) < 0).all()


def test_models_are_ordered_by_cost_and_then_by_name() -> None:
    assert by_cost({"b": 1.0, "a": 1.0, "c": 0.5}, ["a", "b", "c"]) == ("c", "a", "b")
    with pytest.raises(DataError, match=r"got none for x, y\. Run 'zooselect bench'"):
        by_cost({"a": 1.0}, ["x", "a", "y"])


def test_quality_rewards_accuracy_within_the_budget() -> None:
    good = [point(1, 0.9), point(10, 0.98)]
    assert frontier_quality(good, 1, 10) > frontier_quality([point(1, 0.8), point(10, 0.98)], 1, 10)
    assert frontier_quality([point(1, 0.9)], 1, 1) == pytest.approx(0.9)
    assert frontier_quality([point(5, 0.7)], 1, 2) == pytest.approx(0.7)
