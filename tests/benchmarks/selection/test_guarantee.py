"""Claims about the study of the guarantee: honest, and able to see a broken one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from scipy.stats import binom

import benchmarks.selection.answers
import benchmarks.selection.guarantee
import benchmarks.selection.repeated
import benchmarks.selection.suite
from benchmarks.selection.guarantee import DRAWS, Guarantee, study
from benchmarks.selection.repeated import DELTA, Choices, deal
from selector.policies.cascade import CascadePolicy
from tests.support.two_models import made
from training.data.splits import FIT, TUNE
from training.outcomes.outcomes import Outcomes
from training.policies.cascade import FittedCascade, fit_platt
from training.search.candidates import Candidate

COSTS = {"tiny": 1.0, "full": 5.0}


def candidate(outcomes: Outcomes) -> Candidate:
    """A cascade of the two models, whose cross-validated frontier is the one on fit and tune samples."""
    development = outcomes.split(FIT, TUNE)

    def build() -> FittedCascade:
        policy = CascadePolicy(stages=tuple(fit_platt(development, name) for name in ("tiny", "full")))
        return FittedCascade(policy, COSTS)

    policy = build()
    frontier = policy.frontier(development, policy.thresholds(development))
    return Candidate("cascade", "cascade on raw confidence", policy.models, frontier, build)


def guarantees(
    monkeypatch: pytest.MonkeyPatch, chances: Sequence[float], *, below: float = 0.03, delta: float = DELTA
) -> list[Guarantee]:
    outcomes = deal(made(chances), 0)
    monkeypatch.setattr(benchmarks.selection.guarantee, "BELOW_BEST", (below,))
    monkeypatch.setattr(benchmarks.selection.guarantee, "DELTA", delta)
    return study(Choices([candidate(outcomes)], outcomes.split(FIT, TUNE), COSTS), outcomes)


def test_what_is_truly_good_enough_is_never_counted_as_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = guarantees(monkeypatch, (0.95, 0.95), below=0.06, delta=0.9)
    assert all(row.certified == DRAWS for row in rows)
    assert all(row.violated == 0 and row.price >= 1 for row in rows)


def test_certificates_fail_no_more_often_than_they_may_and_more_samples_cost_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = guarantees(monkeypatch, (0.70, 0.95))
    assert max(row.violated for row in rows) <= binom.isf(0.001, DRAWS, DELTA)
    assert max(row.certified for row in rows) == DRAWS
    assert [row.samples for row in rows] == sorted(row.samples for row in rows)
    assert rows[0].price > rows[-1].price > 1
    assert rows[0].floor > rows[-1].floor > 1


def test_a_broken_guarantee_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = guarantees(monkeypatch, (0.70, 0.95), delta=0.6)
    assert min(row.violated for row in rows) > binom.isf(0.001, DRAWS, DELTA)
