"""Claims about candidates: nothing useful is left out, nothing useless is kept."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from selector.policies.constraint import Constraint
from tests.support.colours import CONFIDENCE_MS, COSTS_MS, STAGE_MS
from tests.support.world import World
from training.certificates.aim import Aim
from training.outcomes.folds import grouped_folds, halvings
from training.policies.frontier import Outline, Simulated
from training.search.candidates import (
    Candidate,
    Situation,
    all_candidates,
    cascade_candidates,
    chain_frontier,
    useful_models,
)
from training.search.choice import DISCOUNTS, discount_of, failure_ms, standing, worth_keeping

ROWS = 1000


def candidate(models: str, accuracy: float, mean_ms: float) -> Candidate:
    right = np.arange(ROWS) < ROWS * accuracy
    frontier = [Simulated(0.5, np.zeros(ROWS, np.intp), right, np.full(ROWS, mean_ms))]

    def build() -> None:
        raise AssertionError

    return Candidate("cascade", models, tuple(models), frontier, build)  # type: ignore[arg-type]


AIM = Aim(Constraint(kind="precision", level=0.9), 1000, 0.05, np.ones(ROWS, bool), failure_ms=4.0)


def kept(*candidates: Candidate, most: int = 8) -> list[str]:
    return [item.label for item in worth_keeping(candidates, AIM, most)]


def test_what_needs_more_models_for_less_is_dropped() -> None:
    found = kept(candidate("ab", 0.95, 2.0), candidate("abc", 0.95, 3.0), candidate("ac", 0.95, 2.5))
    assert found == ["ab", "ac"]


def test_single_models_are_kept_beyond_the_limit() -> None:
    pairs = [
        candidate("".join(pair), 0.95, 1.0 + i) for i, pair in enumerate(itertools.combinations("abcd", 2))
    ]
    singles = [candidate(name, 0.85, 5.0) for name in "abcd"]
    found = kept(*pairs, *singles, most=2)
    assert found[:2] == ["ab", "ac"]
    assert sorted(found[2:]) == ["a", "b", "c", "d"]


def test_a_single_model_that_is_better_than_all_else_leaves_nothing_for_larger_sets() -> None:
    assert kept(candidate("a", 0.97, 1.0), candidate("ab", 0.97, 1.5), candidate("b", 0.8, 0.5)) == ["a", "b"]


def test_of_nearly_equal_candidates_the_one_with_fewer_models_is_better() -> None:
    few, many = candidate("a", 0.95, 2.0), candidate("abc", 0.95, 1.995)
    assert standing(few, AIM) > standing(many, AIM)
    assert standing(candidate("abc", 0.95, 1.5), AIM) > standing(few, AIM)


@pytest.fixture(scope="module")
def situation(world: World) -> Situation:
    development = world.outcomes.split("fit", "tune")
    return Situation(
        development, development, grouped_folds(development.groups), COSTS_MS, STAGE_MS, CONFIDENCE_MS
    )


def test_every_chain_and_every_single_model_is_a_candidate(situation: Situation) -> None:
    found = all_candidates(situation, ("cascade",))
    labels = {item.label for item in found}
    assert labels == {
        "one model", "cascade on raw confidence", "cascade on raw confidence, look-ahead", "learned cascade",
        "learned cascade, committee", "one model, recalibrated", "log-opinion pool",
    }  # fmt: skip
    chains = {("tiny",), ("small",), ("full",), ("tiny", "small"), ("tiny", "full"), ("small", "full")}
    assert {item.models for item in found} == chains | {("tiny", "small", "full")}
    probes = all_candidates(situation, ("probe",))
    assert {item.models for item in probes if item.kind == "probe"} == {("tiny", "small", "full")}


def test_what_is_built_is_what_was_compared(situation: Situation) -> None:
    for item in all_candidates(situation, ("cascade", "probe"))[::3]:
        built = item.build()
        assert (built.models, built.kind) == (item.models, item.kind)
        threshold = item.frontier[len(item.frontier) // 2].threshold
        found = built.simulate(situation.outcomes, threshold)
        promised = item.frontier[len(item.frontier) // 2]
        assert found.accuracy == pytest.approx(promised.accuracy, abs=0.06)


def test_the_cheapest_raw_cascade_is_found(situation: Situation) -> None:
    aim = Aim(
        Constraint(kind="precision", level=0.9), 10**6, 0.05, situation.outcomes.right[:, 2], failure_ms=4.0
    )
    found = {item.models: aim.best(item.frontier) for item in cascade_candidates(situation, COSTS_MS)}
    best = min((point.mean_ms, models) for models, point in found.items() if point is not None)
    assert best[0] < COSTS_MS["small"]


def test_a_threshold_above_everything_costs_the_whole_chain() -> None:
    points = chain_frontier(np.full((4, 2), 0.5), np.ones((4, 2), bool), np.array([1.0, 3.0]))
    assert points[0].mean_ms == 3.0
    assert points[-1].mean_ms == 1.0


def test_many_models_are_narrowed_down_to_the_frontier_and_what_lies_next_to_it(situation: Situation) -> None:
    assert useful_models(situation.outcomes, COSTS_MS) == ("tiny", "small", "full")
    assert useful_models(situation.outcomes, COSTS_MS, most=2) == ("tiny", "small")
    dear = {"tiny": 2.0, "small": 0.3, "full": 1.0}
    assert useful_models(situation.outcomes, dear, most=2) == ("small", "full")


def test_a_model_is_left_out_where_a_cheaper_one_does_the_same(situation: Situation) -> None:
    outcomes = situation.outcomes
    logits = np.concatenate([outcomes.logits, outcomes.logits[:, 2:]], axis=1)
    logits[:5, 3] = outcomes.logits[:5, 2][:, ::-1]  # as rounding changes a few answers
    doubled = replace(outcomes, models=(*outcomes.models, "full-int8"), logits=logits)
    costs = {**COSTS_MS, "full-int8": 0.5}
    assert useful_models(doubled, costs) == ("tiny", "small", "full-int8")
    assert useful_models(doubled, {**costs, "full-int8": 2.0}) == ("tiny", "small", "full")


def test_certifying_nothing_counts_as_the_dearest_model_and_its_features() -> None:
    def one(kind: str, mean_ms: float) -> Candidate:
        point = Simulated(0.5, np.zeros(4, np.intp), np.ones(4, bool), np.full(4, mean_ms))
        return Candidate(kind, "", ("small",), [point], lambda: pytest.fail("not built"))

    costs = {"small": 1.0, "full": 4.0}
    assert failure_ms([one("cascade", 9.0)], costs) == 4.0
    assert failure_ms([one("cascade", 9.0), one("input", 4.5)], costs) == 4.5


@pytest.mark.parametrize(("gain", "expected"), [(0.0, "more"), (0.08, "less")])
def test_a_doubtful_gain_counts_for_what_halves_of_the_samples_say(gain: float, expected: str) -> None:
    rng = np.random.default_rng(0)
    groups = np.arange(ROWS).astype(np.str_)
    nobody, first = np.zeros(ROWS, np.bool_), halvings(groups)
    hard = rng.random(ROWS)

    def outlined(accuracy: float, mean_ms: float, doubt: float) -> Candidate:
        right = hard + rng.normal(0, 0.3, ROWS) < np.quantile(hard, accuracy)
        point = Simulated(0.5, np.zeros(ROWS, np.intp), right, np.full(ROWS, mean_ms))
        frontier = [Outline.of(point, nobody, doubt, first)]
        return Candidate("cascade", "", ("a",), frontier, lambda: None)  # type: ignore[arg-type, return-value]

    singles = [outlined(0.5 + 0.1 * i, 1.0 + i, 0.0) for i in range(4)]
    policies = [
        outlined(0.5 + 0.1 * i + gain, 1.05 + i, 0.015) for i in np.linspace(0, 3, 30) for _ in range(20)
    ]
    found = discount_of([*singles, *policies], groups)
    assert found in DISCOUNTS
    assert found > 1.5 if expected == "more" else found <= 1.5
