"""Claims about single models and their mixes: what a selector has to beat."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.colours import COSTS_MS
from tests.support.world import World
from training.policies.frontier import Simulated
from training.policies.singles import SingleModelHull, upper_hull


def test_the_hull_leaves_out_what_a_mix_of_others_beats() -> None:
    costs = np.array([1.0, 2.0, 2.0, 3.0, 4.0])
    assert upper_hull(costs, np.array([0.5, 0.55, 0.5, 0.9, 0.8])) == [0, 3]
    assert upper_hull(costs, np.array([0.5, 0.8, 0.9, 0.95, 0.9])) == [0, 2, 3]


def test_of_models_that_cost_the_same_the_most_accurate_is_on_the_hull() -> None:
    assert upper_hull(np.array([1.0, 1.0, 1.0]), np.array([0.5, 0.9, 0.7])) == [1]


def test_a_mix_has_the_accuracy_between_its_two_models(world: World) -> None:
    outcomes = world.outcomes
    singles = SingleModelHull(outcomes, COSTS_MS)
    accuracy = outcomes.accuracy()
    cheapest, dearest = min(COSTS_MS, key=lambda n: COSTS_MS[n]), max(COSTS_MS, key=lambda n: COSTS_MS[n])
    assert singles.right_at(0.0).mean() == pytest.approx(accuracy[cheapest])
    assert singles.right_at(1e9).mean() == pytest.approx(max(accuracy.values()))
    between = singles.right_at((COSTS_MS[cheapest] + COSTS_MS[dearest]) / 2).mean()
    assert accuracy[cheapest] < between <= max(accuracy.values())


def test_a_single_model_is_in_no_doubt(world: World) -> None:
    outcomes = world.outcomes
    singles = SingleModelHull(outcomes, COSTS_MS)
    name = min(COSTS_MS, key=lambda n: COSTS_MS[n])
    right = outcomes.right[:, outcomes.models.index(name)]
    alone = Simulated(0.0, np.zeros(len(right), np.intp), right, np.full(len(right), COSTS_MS[name]))
    assert singles.doubt(alone) == 0


def test_doubt_shrinks_with_the_root_of_the_samples(world: World) -> None:
    outcomes = world.outcomes
    few = outcomes.rows(np.arange(0, len(outcomes), 4))
    doubts = []
    for part in (few, outcomes):
        lucky = np.arange(len(part)) % 10 > 0
        point = Simulated(0.0, np.zeros(len(part), np.intp), lucky, np.full(len(part), 1.0))
        doubts.append(SingleModelHull(part, COSTS_MS).doubt(point))
    assert doubts[0] == pytest.approx(2 * doubts[1], rel=0.3)
