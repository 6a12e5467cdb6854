"""Claims about fitted policies: simulated costs and answers are those of the rule, frontiers are in order."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import COSTS_MS, Kind, World
from hypothesis import given
from hypothesis import strategies as st

from training.outcomes import load_outcomes
from training.policies import (
    NEVER,
    Simulated,
    by_cost,
    cheapest_reaching,
    frontier_quality,
    threshold_grid,
)
from zoo.errors import DataError

KINDS: tuple[Kind, ...] = ("input", "cascade")


def point(mean_ms: float, accuracy: float) -> Simulated:
    right = np.arange(1000) < accuracy * 1000
    return Simulated(0.5, np.zeros(1000, np.intp), right, np.full(1000, mean_ms))


def test_costs_are_those_of_everything_that_runs(world: World) -> None:
    test = load_outcomes(world.profile, splits=("test",))
    cascade, picker = world.fits["cascade"].policy, world.fits["input"].policy
    never = cascade.simulate(test, NEVER)
    assert never.mean_ms == pytest.approx(sum(COSTS_MS[name] for name in cascade.models))
    assert cascade.simulate(test, 0.0).mean_ms == pytest.approx(COSTS_MS[cascade.models[0]])
    assert picker.simulate(test, 0.0).mean_ms == pytest.approx(COSTS_MS["tiny"] + picker.overhead_ms)
    assert picker.overhead_ms > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_frontier_is_the_simulation_at_each_threshold(world: World, kind: Kind) -> None:
    fitted = world.fits[kind].policy
    test = load_outcomes(world.profile, splits=("test",))
    thresholds = fitted.thresholds(test, count=12)
    assert list(thresholds) == sorted(thresholds, reverse=True)
    for threshold, found in zip(thresholds, fitted.frontier(test, thresholds), strict=True):
        alone = fitted.simulate(test, float(threshold))
        np.testing.assert_array_equal(found.right, alone.right)
        np.testing.assert_array_equal(found.cost_ms, alone.cost_ms)
    costs = [item.mean_ms for item in fitted.frontier(test, thresholds)]
    if kind == "cascade":
        assert costs == sorted(costs, reverse=True)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_thresholds_run_from_above_everything_to_zero(values: list[float]) -> None:
    grid = threshold_grid(np.array(values))
    assert (grid[0], grid[-1]) == (NEVER, 0.0)
    assert (np.diff(grid) < 0).all()


def test_models_are_ordered_by_cost_and_then_by_name() -> None:
    assert by_cost({"b": 1.0, "a": 1.0, "c": 0.5}, ["a", "b", "c"]) == ("c", "a", "b")
    with pytest.raises(DataError, match=r"got none for x, y\. Run 'zooselect bench'"):
        by_cost({"a": 1.0}, ["x", "a", "y"])


def test_the_cheapest_point_that_reaches_a_precision_is_found() -> None:
    frontier = [point(3, 0.99), point(2, 0.95), point(1, 0.9)]
    found = cheapest_reaching(frontier, 0.93)
    assert found is not None
    assert found.mean_ms == 2
    assert cheapest_reaching(frontier, 0.995) is None


def test_quality_rewards_accuracy_within_the_budget() -> None:
    good = [point(1, 0.9), point(10, 0.98)]
    assert frontier_quality(good, 1, 10) > frontier_quality([point(1, 0.8), point(10, 0.98)], 1, 10)
    assert frontier_quality([point(1, 0.9)], 1, 1) == pytest.approx(0.9)
    assert frontier_quality([point(5, 0.7)], 1, 2) == pytest.approx(0.7)
