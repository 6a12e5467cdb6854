"""Claims about budgets of time: bounds on times have their own confidence, and the whole keeps delta."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from scipy.stats import binom

from selector.policies.cascade import CascadePolicy, Stage
from selector.policies.constraint import Constraint, ConstraintKind
from tests.support.colours import latency_table
from training.certificates import certify
from training.certificates.certify import usual_constraints
from training.certificates.path_times import PathTimes, path_times
from training.certificates.pvalues import Costs, binomial, two_valued
from training.policies.frontier import Simulated
from zoo import LatencyTable, Zoo
from zoo.models.latency import PathLatency, summarise

REPETITIONS = 200
MOST_WRONG = int(binom.isf(0.001, REPETITIONS, 0.05))
POLICY = CascadePolicy(stages=tuple(Stage(model=name, scale=1.0, offset=0.0) for name in ("tiny", "full")))
COSTS = (1.0, 6.0)
THRESHOLDS = np.linspace(1, 0, 25)


def runs(rng: np.random.Generator, mean: float, count: int) -> np.ndarray:
    """Times of answers: a tenth above the fastest on average, with a tail."""
    return np.sort(mean * (0.9 + rng.gamma(2.0, 0.05, count)))


def cascade_on(rng: np.random.Generator) -> certify.Tests:
    samples, count = 400, 500
    sure = rng.random(samples)
    frontier = []
    for threshold in THRESHOLDS:
        stays = sure >= threshold
        costs = np.where(stays, *COSTS)
        frontier.append(Simulated(float(threshold), np.where(stays, 0, 1), np.ones(samples, bool), costs))
    times = PathTimes(COSTS, tuple(runs(rng, cost, count) for cost in COSTS), 0.05)
    return certify.Tests(
        frontier, reference=np.ones(samples, bool), top_ms=6.0, possible_ms=COSTS, times=times
    )


LONG = [runs(np.random.default_rng(9), cost, 400_000) for cost in COSTS]


def is_kept(kind: ConstraintKind, level: float, threshold: float) -> bool:
    """Whether the population keeps a budget: a share `threshold` of it goes on to the second model."""
    shares = np.array([1 - threshold, threshold])
    if kind == "mean_ms":
        return bool(shares @ [values.mean() for values in LONG] <= level * 1.0005)
    return bool(shares @ [(values > level).mean() for values in LONG] <= 0.05 + 1e-4)


@pytest.mark.parametrize(
    ("kind", "level"), [("mean_ms", 2.0), ("mean_ms", 3.5), ("p95_ms", 1.2), ("p95_ms", 1.4), ("p95_ms", 7.2)]
)
def test_certified_budgets_are_broken_in_no_more_than_delta_of_200_repetitions(
    kind: ConstraintKind, level: float
) -> None:
    wrong = made = 0
    for repetition in range(REPETITIONS):
        rng = np.random.default_rng([repetition, int(level * 100)])
        found = cascade_on(rng).certify(Constraint(kind=kind, level=level))
        if found is not None:
            made += 1
            wrong += not is_kept(kind, level, found.threshold)
    assert wrong <= MOST_WRONG
    assert made > 0.9 * REPETITIONS or (kind, level) == ("p95_ms", 1.2)


def test_typical_times_would_have_promised_what_two_in_five_answers_break() -> None:
    some = cascade_on(np.random.default_rng(0))
    typical = Constraint(kind="p95_ms", level=COSTS[0])
    assert (LONG[0] > typical.level).mean() > 0.4
    assert some.certify(typical) is None
    some.times = None  # costs are then what the budget is about
    assert some.certify(typical) is not None


def test_a_bound_on_late_answers_is_the_exact_binomial_one() -> None:
    times = PathTimes((1.0,), (np.arange(1.0, 501.0),), 0.05)
    late = times.late(490.0)[0]  # ten of 500 take longer
    assert binom.cdf(10, 500, late) == pytest.approx(times.lost)
    assert times.late(500.0)[0] == pytest.approx(1 - times.lost ** (1 / 500))
    assert times.late(0.5)[0] == 1.0


def test_bounds_on_means_lie_above_the_mean_and_come_closer_with_more_runs() -> None:
    rng = np.random.default_rng(1)
    gaps = []
    for count in (100, 400, 1600):
        times = PathTimes((1.0,), (runs(rng, 1.0, count),), 0.05)
        gaps.append(times.means_ms[0] / times.runs_ms[0].mean() - 1)
    assert all(gap > 0 for gap in gaps)
    assert gaps[2] < gaps[1] < gaps[0]
    assert gaps[2] < 0.02


def test_two_values_are_tested_exactly_and_more_tightly_than_by_betting() -> None:
    values = np.where(np.arange(1000) < 700, 1.0, 6.0)  # mean 2.5
    assert two_valued(values, (1.0, 6.0), 2.8) == binomial(700, 1000, (6.0 - 2.8) / 5.0)
    bets = Costs(values, top_ms=6.0)
    least = next(level for level in np.arange(2.5, 6, 0.005) if two_valued(values, (1.0, 6.0), level) <= 0.05)
    least_betting = next(level for level in np.arange(2.5, 6, 0.005) if bets.p_value(level) <= 0.05)
    assert least - 2.5 < 0.75 * (least_betting - 2.5)
    assert two_valued(values, (1.0, 6.0), 6.0) == 0.0
    assert two_valued(values, (1.0, 6.0), 0.5) == 1.0
    assert two_valued(values, (6.0, 6.0), 0.5) == 1.0


def test_costs_of_zero_keep_every_budget_and_are_no_error() -> None:
    free = np.zeros(100)
    assert Costs(free, top_ms=0.0).p_value(1e-9) == 0.0
    frontier = [Simulated(0.5, np.zeros(100, np.intp), np.ones(100, bool), free)]
    some = certify.Tests(frontier, reference=np.ones(100, bool), top_ms=0.0, possible_ms=(0.0,))
    assert some.certify(Constraint(kind="mean_ms", level=1e-9)) is not None
    assert some.certify(Constraint(kind="p95_ms", level=1e-9)) is not None
    assert not [item for item in usual_constraints([0.0]) if item.on_time], "nothing to bound"
    assert [item.level for item in usual_constraints([0.0, 2.0]) if item.kind == "p95_ms"] == [2.0]


def test_paths_that_are_charged_the_same_count_as_the_slower() -> None:
    times = PathTimes((2.0, 2.0, 3.0), (np.full(500, 1.0), np.full(500, 4.0), np.full(500, 3.0)), 0.05)
    placed = times.place(np.array([2.0, 3.0, 2.0]), times.late(3.5))
    assert placed[0] == placed[2] == 1.0
    assert placed[1] < 0.02


@pytest.fixture
def table(small_zoo: Zoo) -> LatencyTable:
    return latency_table(small_zoo, {"tiny": 1.0, "small": 2.0, "full": 4.0})


def test_measured_paths_are_used_and_others_are_estimated_and_say_so(table: LatencyTable) -> None:
    guessed = path_times(POLICY, table, [1.0, 5.1], 0.05)
    assert guessed is not None
    assert guessed.source == "estimated"
    np.testing.assert_allclose(guessed.runs_ms[1], 5.1)  # both models, and what decisions cost

    def row(*models: str) -> PathLatency:
        return PathLatency(steps="cascade", models=models, latency=summarise([9.0] * 30))

    some = msgspec.structs.replace(table, paths=(row("tiny", "full"),))
    found = path_times(POLICY, some, [1.0, 9.0], 0.05)
    assert found is not None
    assert found.source == "estimated", "one of the two paths"
    assert found.runs_ms[1].tolist() == [9.0] * 30
    both = msgspec.structs.replace(table, paths=(row("tiny", "full"), row("tiny")))
    found = path_times(POLICY, both, [9.0, 9.0], 0.05)
    assert found is not None
    assert found.source == "measured"


def test_without_times_of_single_runs_nothing_is_known_of_paths(table: LatencyTable) -> None:
    rows = {
        name: msgspec.structs.replace(row, latency=msgspec.structs.replace(row.latency, times_ms=()))
        for name, row in table.models.items()
    }
    assert path_times(POLICY, msgspec.structs.replace(table, models=rows), [1.0, 5.0], 0.05) is None
