"""Claims about p-values: exact where a formula is known, and never too small too often."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from training.certificates.pvalues import Costs, binomial, paired, paired_at_most

REPETITIONS = 400
MOST_WRONG = int(binom.isf(0.001, REPETITIONS, 0.05))  # a valid test at level 0.05 is above once in 1000


@given(st.integers(1, 400), st.data(), st.floats(0.01, 0.99))
def test_binomial_is_the_exact_binomial_test(n: int, data: st.DataObject, share: float) -> None:
    right = data.draw(st.integers(0, n))
    expected = binomtest(right, n, share, alternative="greater").pvalue
    assert binomial(right, n, share) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("share", [0.6, 0.9, 0.97])
@pytest.mark.parametrize("samples", [40, 300])
def test_binomial_rejects_a_true_null_rarely(share: float, samples: int) -> None:
    rng = np.random.default_rng([samples, int(100 * share)])
    right = rng.binomial(samples, share, REPETITIONS)
    assert sum(binomial(int(count), samples, share) <= 0.05 for count in right) <= MOST_WRONG


@pytest.mark.parametrize("drop", [0.0, 0.01, 0.05, -0.02])
@pytest.mark.parametrize("differ", [0.06, 0.3])
@pytest.mark.parametrize("samples", [60, 500])
def test_paired_rejects_a_true_null_rarely(drop: float, differ: float, samples: int) -> None:
    worse = (differ + drop) / 2
    rng = np.random.default_rng([samples, int(1000 * differ), int(1000 * drop) % 997])
    counts = rng.multinomial(samples, [differ - worse, worse, 1 - differ], REPETITIONS)
    wrong = sum(paired(int(b), int(w), samples, drop) <= 0.05 for b, w, _ in counts)
    assert wrong <= MOST_WRONG


def test_paired_finds_what_is_there() -> None:
    rng = np.random.default_rng(0)
    counts = rng.multinomial(800, [0.04, 0.04, 0.92], 100)  # as accurate as the reference, asked: 3 % less
    found = sum(paired(int(b), int(w), 800, 0.03) <= 0.05 for b, w, _ in counts)
    assert found > 80


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 300), st.floats(-0.2, 0.2))
def test_paired_is_a_probability_and_falls_with_every_better_answer(
    better: int, worse: int, same: int, drop: float
) -> None:
    samples = better + worse + same + 1
    value = paired(better, worse, samples, drop)
    assert 0 < value <= 1
    if better - worse <= -drop * samples:
        assert value == 1
    assert paired(better + 1, worse, samples, drop) <= value + 0.02
    assert paired_at_most(better, worse, samples, drop) >= value - 1e-12


def test_the_quick_bound_is_close_where_there_is_much_to_see() -> None:
    assert paired_at_most(900, 600, 10_000, 0.0) < 0.003
    assert paired_at_most(660, 600, 10_000, 0.0) < 0.5


def test_a_policy_that_never_differs_from_the_reference_is_no_worse() -> None:
    assert paired(0, 0, 500, 0.02) <= 0.05
    assert paired(0, 0, 500, 0.0) == 1
    assert paired(0, 0, 20, 0.02) > 0.05


@pytest.mark.parametrize("shape", ["two", "skewed", "flat", "rare"])
@pytest.mark.parametrize("samples", [30, 400])
def test_a_budget_that_is_not_kept_is_certified_rarely(shape: str, samples: int) -> None:
    rng = np.random.default_rng([samples, len(shape)])
    draws = {
        "two": np.where(rng.random((REPETITIONS, samples)) < 0.3, 10.0, 1.0),
        "skewed": 10 * rng.beta(0.4, 2, (REPETITIONS, samples)),
        "flat": 10 * rng.random((REPETITIONS, samples)),
        "rare": np.where(rng.random((REPETITIONS, samples)) < 0.01, 10.0, 0.5),
    }[shape]
    mean = {"two": 3.7, "skewed": 10 * 0.4 / 2.4, "flat": 5.0, "rare": 0.595}[shape]
    wrong = sum(Costs(costs, top_ms=10.0).p_value(mean * (1 - 1e-6)) <= 0.05 for costs in draws)
    assert wrong <= MOST_WRONG


def test_a_budget_that_is_kept_is_certified_mostly() -> None:
    rng = np.random.default_rng(0)
    draws = np.where(rng.random((100, 400)) < 0.3, 10.0, 1.0)
    assert sum(Costs(costs, top_ms=10.0).p_value(3.7 * 1.2) <= 0.05 for costs in draws) > 65


def test_what_no_answer_can_exceed_is_certain() -> None:
    assert Costs(np.full(5, 1.0), top_ms=1.0).p_value(1.0) == 0
    assert Costs(np.array([1.0, 3.0]), top_ms=3.0).p_value(3.5) == 0
    assert Costs(np.full(500, 1.0), top_ms=1.0).p_value(0.9) == 1


@given(st.lists(st.floats(0, 5), min_size=1, max_size=60), st.floats(0.1, 4.9))
def test_a_budget_gives_a_probability(costs: list[float], most: float) -> None:
    value = Costs(np.array(costs), top_ms=5.0).p_value(most)
    assert 0 <= value <= 1


@pytest.mark.parametrize("descending", [False, True])
def test_samples_may_come_sorted_by_what_they_cost(descending: bool) -> None:
    """As images in folders do, where classes differ in how hard they are."""
    rng = np.random.default_rng(7)
    draws = np.sort(np.where(rng.random((REPETITIONS, 400)) < 0.3, 10.0, 1.0), axis=1)
    draws = draws[:, ::-1] if descending else draws
    wrong = sum(Costs(costs, top_ms=10.0).p_value(3.7 * (1 - 1e-6)) <= 0.05 for costs in draws)
    assert wrong <= MOST_WRONG
    found = sum(Costs(costs, top_ms=10.0).p_value(3.7 * 1.2) <= 0.05 for costs in draws[:100])
    assert found > 50
