"""Claims about certificates: fixed-sequence testing is honest, and each kind means what it says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from selector.policies.constraint import Constraint, ConstraintKind
from training.certificates import certify
from training.certificates.aim import accuracy_to_certify
from training.certificates.certify import DROPS, LEVELS, P95_SHARE, samples_needed, usual_constraints
from training.certificates.pvalues import binomial
from training.policies.frontier import Simulated
from zoo.errors import DataError

THRESHOLDS = tuple(np.linspace(1, 0, 40).tolist())
REPETITIONS = 200
MOST_WRONG = int(binom.isf(0.001, REPETITIONS, 0.05))
CHEAP_MS, DEAR_MS = 1.0, 5.0  # of a cascade: the cheap model always runs


def cascade_on(count: int, rng: np.random.Generator) -> certify.Tests:
    """A cheap model that knows how sure it may be, and escalates to one that is right in 97 of 100 cases."""
    sure = rng.uniform(0, 1, count)
    cheap, dear = rng.random(count) < 0.55 + 0.45 * sure, rng.random(count) < 0.97
    frontier = []
    for threshold in THRESHOLDS:
        stays = sure >= threshold
        costs = np.where(stays, CHEAP_MS, CHEAP_MS + DEAR_MS)
        frontier.append(
            Simulated(threshold, np.where(stays, 0, 1), np.where(stays, cheap, dear), costs.astype(float))
        )
    return certify.Tests(frontier, reference=dear, top_ms=CHEAP_MS + DEAR_MS)


def true_accuracy(threshold: float) -> float:
    # the cheap model answers sureness u in [threshold, 1], right with 0.55 + 0.45 u
    return 0.97 * threshold + 0.55 * (1 - threshold) + 0.225 * (1 - threshold**2)


def is_met(constraint: Constraint, threshold: float) -> bool:
    """Whether the population meets a constraint at a threshold."""
    if constraint.kind == "precision":
        return true_accuracy(threshold) >= constraint.level
    if constraint.kind == "max_drop":
        return true_accuracy(threshold) >= 0.97 - constraint.level
    if constraint.kind == "mean_ms":
        return CHEAP_MS + DEAR_MS * threshold <= constraint.level
    return threshold <= 1 - P95_SHARE or constraint.level >= CHEAP_MS + DEAR_MS


CASES: list[tuple[ConstraintKind, float, bool]] = [
    ("precision", 0.85, True),
    ("precision", 0.9, True),
    ("precision", 0.95, False),
    ("max_drop", 0.03, False),
    ("max_drop", 0.1, True),
    ("mean_ms", 2.0, True),
    ("mean_ms", 3.5, True),
    ("p95_ms", 1.0, True),
    ("p95_ms", 6.0, True),
]


@pytest.mark.parametrize(("kind", "level", "usual"), CASES)
def test_certificates_are_wrong_in_no_more_than_delta_of_200_repetitions(
    kind: ConstraintKind, level: float, usual: bool
) -> None:
    asked, wrong, made = Constraint(kind=kind, level=level), 0, 0
    for repetition in range(REPETITIONS):
        found = cascade_on(400, np.random.default_rng([repetition, int(level * 1000)])).certify(asked)
        if found is not None:
            made += 1
            wrong += not is_met(asked, found.threshold)
    assert wrong <= MOST_WRONG
    if usual:
        assert made > 0.9 * REPETITIONS


def constant(right: NDArray[np.bool_]) -> certify.Tests:
    """One way of answering, whatever the threshold."""
    zeros = np.zeros(len(right), np.intp)
    frontier = [Simulated(t, zeros, right, np.ones(len(right))) for t in THRESHOLDS]
    return certify.Tests(frontier, reference=right, top_ms=1.0)


def precision(level: float) -> Constraint:
    return Constraint(kind="precision", level=level)


def test_without_a_true_effect_a_certificate_is_rare() -> None:
    made = 0
    for repetition in range(REPETITIONS):
        right = np.random.default_rng(repetition).random(300) < 0.9
        made += constant(right).certify(precision(0.9)) is not None
    assert made <= MOST_WRONG


def points(shares: list[float], costs: list[float]) -> certify.Tests:
    """A frontier whose i-th point is right on a share of 100 samples and costs a constant time."""
    frontier = [
        Simulated(1 - i / 10, np.zeros(100, np.intp), np.arange(100) < 100 * share, np.full(100, cost))
        for i, (share, cost) in enumerate(zip(shares, costs, strict=True))
    ]
    return certify.Tests(frontier, reference=np.arange(100) < 95, top_ms=max(costs))


def test_testing_stops_at_the_first_threshold_that_fails() -> None:
    found = points([0.99, 0.99, 0.7, 0.99, 0.99], [5.0, 4.0, 3.0, 2.0, 1.0]).certify(precision(0.9))
    assert found is not None
    assert (found.threshold, found.accuracy, found.mean_ms, found.samples) == (0.9, 0.99, 4.0, 100)


def test_budgets_are_tested_from_the_cheapest_threshold_on() -> None:
    some = points([0.99, 0.97, 0.95, 0.9], [5.0, 3.0, 2.0, 1.0])
    for kind in ("mean_ms", "p95_ms"):
        found = some.certify(Constraint(kind=kind, level=3.5))
        assert found is not None
        assert (found.mean_ms, found.accuracy) == (3.0, 0.97)
        assert some.certify(Constraint(kind=kind, level=0.5)) is None
        whole = some.certify(Constraint(kind=kind, level=5.0))
        assert whole is not None
        assert whole.mean_ms == 5.0
    stopped = points([0.9, 0.9, 0.9], [1.0, 5.0, 1.0]).certify(Constraint(kind="mean_ms", level=2.0))
    assert stopped is not None
    assert stopped.threshold == pytest.approx(0.8)


def test_constraints_that_are_tested_together_get_what_each_gets_alone() -> None:
    rng = np.random.default_rng(3)
    reference = rng.random(600) < 0.9
    frontier = [
        Simulated(
            float(t),
            np.zeros(600, int),
            reference ^ (rng.random(600) < 0.01 * t),
            rng.choice([1.0, 5.0 / (1 + t)], 600),
        )
        for t in range(8)
    ]
    tests = certify.Tests(frontier, reference=reference, top_ms=5.0)
    constraints = usual_constraints([1.0, 2.0, 5.0])
    alone = [found for item in constraints for found in [tests.certify(item)] if found]
    together = tests.certify_all(constraints)
    assert together
    assert {item.constraint.kind for item in together} == {"precision", "max_drop", "mean_ms", "p95_ms"}
    assert all(item in alone for item in together)
    for item in alone:
        assert (
            tests.p_value([point.threshold for point in frontier].index(item.threshold), item.constraint)
            == item.p_value
        )
        assert item.p_value <= 0.05


def test_says_nothing_where_nothing_can_be_proven() -> None:
    assert constant(np.ones(20, bool)).certify(precision(0.95)) is None
    wrong = constant(np.zeros(50, bool))
    assert [
        found.constraint.kind for found in wrong.certify_all([precision(level) for level in LEVELS])
    ] == []


def test_of_constraints_with_one_threshold_the_strictest_stays() -> None:
    some = cascade_on(500, np.random.default_rng(0))
    asked = usual_constraints([CHEAP_MS, CHEAP_MS + DEAR_MS])
    found = some.certify_all(asked)
    for kind, items in itertools.groupby(found, key=lambda item: item.constraint.kind):
        group = list(items)
        assert len({item.threshold for item in group}) == len(group) > 1
        for item in group:
            assert some.certify(item.constraint) == item
            stricter = [
                c for c in asked if c.kind == kind and c != item.constraint and c.covers(item.constraint)
            ]
            assert all(getattr(some.certify(c), "threshold", None) != item.threshold for c in stricter)


def test_dropping_the_others_loses_nothing_to_who_asks() -> None:
    some = cascade_on(500, np.random.default_rng(1))
    asked = usual_constraints([CHEAP_MS, CHEAP_MS + DEAR_MS])
    kept = some.certify_all(asked)
    for item in asked:
        alone = some.certify(item)
        covering = [c for c in kept if c.constraint.covers(item)]
        if alone is None:
            assert not covering
            continue
        thresholds = [c.threshold for c in covering]
        best = max(thresholds) if item.on_time else min(thresholds)
        assert best == alone.threshold


def test_usual_constraints_reach_from_the_cheapest_to_the_dearest_answer() -> None:
    asked = usual_constraints([0.2, 1.0, 0.5], precision(0.777))
    levels = {
        kind: [item.level for item in asked if item.kind == kind]
        for kind in ("precision", "max_drop", "mean_ms", "p95_ms")
    }
    assert levels["precision"] == [*LEVELS, 0.777]
    assert levels["max_drop"] == list(DROPS)
    assert levels["p95_ms"] == [0.2, 0.5, 1.0]
    assert 0.2 < levels["mean_ms"][0] < levels["mean_ms"][-1] == pytest.approx(1.0)
    assert [item.level for item in usual_constraints([0.3]) if item.on_time] == [0.3, 0.3]


@given(st.floats(0.5, 0.99), st.integers(20, 2000), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_needed_accuracy_is_the_least_that_certifies(level: float, samples: int, delta: float) -> None:
    right = round(accuracy_to_certify(level, samples, delta=delta) * samples)
    if right < samples:
        assert binomial(right, samples, level) <= delta
    assert binomial(right - 1, samples, level) > delta


def test_counts_the_samples_that_a_certificate_would_take() -> None:
    needed = samples_needed(0.95, 0.9)
    assert needed is not None
    assert binomial(int(0.95 * needed), needed, 0.9) <= 0.05
    assert 50 < needed < 300
    assert samples_needed(0.9, 0.9) is None
    assert samples_needed(0.9001, 0.9, most=1000) is None


def test_refuses_to_certify_on_nothing() -> None:
    with pytest.raises(DataError, match="expected certify samples, got none"):
        constant(np.ones(0, bool))
    with pytest.raises(DataError, match="expected certify samples, got none"):
        accuracy_to_certify(0.9, 0)


def test_levels_are_half_percents_from_a_half_up() -> None:
    assert (LEVELS[0], LEVELS[-1], len(set(LEVELS))) == (0.5, 0.995, 100)
