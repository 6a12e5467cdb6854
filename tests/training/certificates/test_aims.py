"""Claims about aims: what is chosen leaves room for what a certificate will ask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from selector.policies.constraint import Constraint, ConstraintKind
from training.certificates.aim import Aim, accuracy_to_certify
from training.policies.frontier import Simulated

REFERENCE = np.arange(1000) < 950


def point(accuracy: float, mean_ms: float, *, spread: float = 0.0) -> Simulated:
    costs = np.full(1000, mean_ms) + spread * np.where(np.arange(1000) % 2, 1, -1)
    return Simulated(accuracy, np.zeros(1000, np.intp), np.arange(1000) < 1000 * accuracy, costs)


def aim(kind: ConstraintKind, level: float, samples: int = 400) -> Aim:
    return Aim(Constraint(kind=kind, level=level), samples, 0.05, REFERENCE, failure_ms=6.0)


FRONTIER = [point(0.96, 5.0), point(0.93, 3.0), point(0.91, 2.0), point(0.85, 1.0)]


def test_the_cheapest_point_that_can_be_certified_is_best() -> None:
    needed = accuracy_to_certify(0.9, 400)
    assert 0.91 < needed < 0.93
    assert aim("precision", 0.9).best(FRONTIER) is FRONTIER[1]
    assert aim("precision", 0.9, samples=100_000).best(FRONTIER) is FRONTIER[2]
    assert aim("precision", 0.99).best(FRONTIER) is None
    assert aim("precision", 0.99).nearest(FRONTIER) is FRONTIER[0]


def test_a_drop_is_counted_from_the_reference_on_the_same_samples() -> None:
    assert aim("max_drop", 0.03).best(FRONTIER) is FRONTIER[0]
    assert aim("max_drop", 0.05).best(FRONTIER) is FRONTIER[1]
    same = Simulated(0.5, np.zeros(1000, np.intp), REFERENCE, np.ones(1000))
    assert aim("max_drop", 0.01).slack(same) == pytest.approx(0.01)


def test_within_a_budget_the_most_accurate_point_is_best() -> None:
    assert aim("mean_ms", 3.5).best(FRONTIER) is FRONTIER[1]
    assert aim("p95_ms", 2.5).best(FRONTIER) is FRONTIER[2]
    assert aim("mean_ms", 0.5).best(FRONTIER) is None
    assert aim("mean_ms", 0.5).nearest(FRONTIER) is FRONTIER[3]


def test_costs_that_vary_need_more_room_in_a_budget() -> None:
    steady, wild = point(0.9, 2.95), point(0.9, 2.95, spread=2.0)
    assert aim("mean_ms", 3.0).best([steady]) is steady
    assert aim("mean_ms", 3.0).best([wild]) is None


@pytest.mark.parametrize("kind", ["precision", "max_drop", "mean_ms", "p95_ms"])
def test_what_reaches_the_aim_ranks_before_what_does_not(kind: ConstraintKind) -> None:
    level = {"precision": 0.9, "max_drop": 0.05, "mean_ms": 3.5, "p95_ms": 3.5}[kind]
    goal = aim(kind, level)
    good, bad = [point(0.935, 3.0)], [point(0.6, 9.0)]
    assert goal.rank(good) > goal.rank(bad)
    assert goal.rank([*good, *bad]) == goal.rank(good)
    better = [point(0.96, 3.0)] if kind in ("mean_ms", "p95_ms") else [point(0.96, 2.0)]
    assert goal.rank(better) > goal.rank(good)


@pytest.mark.parametrize("kind", ["precision", "max_drop", "mean_ms"])
def test_a_doubtful_gain_ranks_behind_a_sure_one(kind: ConstraintKind) -> None:
    level = {"precision": 0.9, "max_drop": 0.05, "mean_ms": 3.5}[kind]
    sure = [point(0.94, 3.0)]
    lucky = [replace(point(0.945, 2.95), doubt=0.03)]
    goal = aim(kind, level)
    assert goal.rank(sure) > goal.rank(lucky)
    assert goal.rank([replace(lucky[0], doubt=0.0)]) > goal.rank(sure)
    assert goal.best(lucky) is lucky[0], "doubt decides between policies, not on the threshold of one"


def test_of_few_policies_the_best_is_less_lucky() -> None:
    goal = replace(aim("precision", 0.9, samples=10**9), failure_ms=5.0)
    alone, saving = [point(0.95, 5.0)], [replace(point(0.9, 2.0), doubt=0.02)]
    assert replace(goal, candidates=1000).rank(alone) > replace(goal, candidates=1000).rank(saving)
    assert replace(goal, candidates=11).rank(alone) < replace(goal, candidates=11).rank(saving)


def test_room_above_the_aim_is_worth_what_it_saves_when_luck_is_bad() -> None:
    needed = accuracy_to_certify(0.9, 400)
    tight, roomy = [point(needed, 2.0)], [point(needed + 0.04, 2.6), point(needed, 2.1)]
    assert aim("precision", 0.9).rank(roomy) > aim("precision", 0.9).rank(tight)
    sure = aim("precision", needed, samples=10**9)
    assert sure.rank([point(needed, 2.0), point(needed + 0.01, 2.0)]) > sure.rank(roomy)


def test_failing_once_in_twenty_times_counts() -> None:
    needed, deviation = accuracy_to_certify(0.9, 400), np.sqrt(0.94 * 0.06 / 400)
    tight, roomy = [point(needed + 1.65 * deviation, 2.0)], [point(needed + 4 * deviation, 2.1)]
    dear = replace(aim("precision", 0.9), failure_ms=20.0)
    assert dear.rank(roomy) > dear.rank(tight)
    cheap = replace(aim("precision", 0.9), failure_ms=2.5)
    assert cheap.rank(tight) > cheap.rank(roomy)


def test_a_cascade_that_is_mostly_certified_beats_a_dear_single_model_that_may_fail_as_well() -> None:
    needed = accuracy_to_certify(0.9, 400)
    cascade, single = [replace(point(needed + 0.01, 2.0), doubt=0.008)], [point(needed + 0.01, 5.0)]
    assert aim("precision", 0.9).rank(cascade) > aim("precision", 0.9).rank(single)


def test_where_hardly_anything_would_be_certified_the_most_accurate_policy_is_best() -> None:
    cheap, accurate = [replace(point(0.87, 0.1), doubt=0.02)], [point(0.89, 5.9)]
    assert aim("precision", 0.93).rank(accurate) > aim("precision", 0.93).rank(cheap)


def test_an_accuracy_that_needs_no_certificate_is_reached_by_what_is_a_little_better() -> None:
    single, cascade = [point(0.805, 0.4)], [point(0.82, 0.43)]
    plain = replace(aim("precision", 0.8), samples=10**9, failure_ms=70.0)
    assert plain.rank(single) > plain.rank(cascade)
