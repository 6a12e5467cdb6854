"""Claims about the control variate: what is computed is what is defined, and its proof rests on facts."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import betaincinv, gammaln, xlogy
from scipy.stats import beta as beta_distribution
from scipy.stats import binom, norm

from selector.policies.constraint import Constraint
from training.certificates import certify
from training.certificates.choice import choose_test
from training.certificates.control_variate import Control, ControlVariate, Counts, most_right
from training.certificates.linear_tails import SMOOTHING, Draws, Sum, exact
from training.policies.frontier import Simulated
from zoo.errors import PrecisionError

DELTA, GAMMA = 0.05, 0.0002


def tables(n: int) -> NDArray[np.int64]:
    """All counts (n11, n10, n01, n00) of n samples ``[4, T]``."""
    grid = np.stack(np.meshgrid(*[np.arange(n + 1)] * 3, indexing="ij")).reshape(3, -1)
    kept = grid[:, grid.sum(axis=0) <= n]
    return np.vstack([kept, n - kept.sum(axis=0)])


def probability(counts: NDArray[np.int64], p: tuple[float, ...]) -> float:
    n = int(counts[:, 0].sum()) if counts.size else 0
    logs = gammaln(n + 1) + sum(xlogy(k, share) - gammaln(k + 1) for k, share in zip(counts, p, strict=True))
    return float(np.exp(logs).sum())


def enumerated(n: int, mu: float, seen: Counts, level: float, beta: float, *, points: int) -> float:
    """The p-value of a cell as it is defined, over every outcome that there is."""
    mean = level - beta * mu

    def total(n11: NDArray[np.int64], n10: NDArray[np.int64], n01: NDArray[np.int64]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = (1 - beta) * n11 + n10 - beta * n01 - n * mean
        return result

    def variance(n01: NDArray[np.int64]) -> NDArray[np.float64]:
        return level + beta**2 * mu - mean**2 - 2 * beta * mu + 2 * beta * (n01 + 0.5) / (n + 1)

    k = seen.most
    low = 0.0 if k == 0 else float(beta_distribution.ppf(GAMMA / 2, k, n - k + 1))
    high = 1.0 if k == n else float(beta_distribution.ppf(1 - GAMMA / 2, k + 1, n - k))
    low = max(low, mu - level, 0.0)
    s, v = (float(f(*map(np.array, a))) for f, a in ((total, (seen.both, seen.policy, k)), (variance, (k,))))
    if s > 0 and low >= high:
        return GAMMA
    if s <= 0 or v <= 0 or high >= 1 - level or high >= mu:
        return 1.0
    z = s / math.sqrt(n * v)
    every = tables(n)
    hit = every[:, total(*every[:3]) >= z * np.sqrt(n * np.maximum(variance(every[2]), 0)) - 1e-7]
    nuisance = np.linspace(low, high, points)
    return GAMMA + max(probability(hit, (mu - t, level - mu + t, t, 1 - level - t)) for t in nuisance)


def defined(test: ControlVariate, seen: Counts, level: float, beta: float) -> bool:
    """Whether the test rejects, from its definition alone."""
    edges = np.linspace(-norm.isf(0.001), norm.isf(0.001), 63)
    g, m, n = test.most_right, test.development, test.samples
    means = [0.0 if g == 0 else float(betaincinv(g, m - g + 1, norm.sf(e))) for e in edges[1:]]
    for mu, allowed in zip(means, test.levels, strict=True):
        value = enumerated(n, mu, seen, level, beta, points=9)
        if 0.8 * allowed < value <= allowed:
            value = enumerated(n, mu, seen, level, beta, points=25)
        if value > allowed:
            return False
    return True


@pytest.mark.parametrize("seed", range(6))
def test_it_rejects_exactly_where_its_definition_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    test = ControlVariate(samples=24, development=48, most_right=30 + seed)
    found = []
    for _ in range(4):
        both, policy, most, neither = map(int, rng.multinomial(24, (0.62, 0.2, 0.02, 0.16)))
        seen, beta = Counts(both, policy, most, neither), float(rng.uniform(0.1, 0.6))
        level = float(rng.uniform(0.4, 0.65))
        found.append(test.p_value(seen, level, beta) <= DELTA)
        assert found[-1] == defined(test, seen, level, beta)


def test_the_constants_are_those_of_the_proof() -> None:
    test = ControlVariate(samples=1223, development=2446, most_right=2200)
    assert test.slope == pytest.approx(0.388, abs=5e-4)
    assert test.start == pytest.approx(1.827, abs=5e-4)
    assert np.diff(test.edges).max() <= 0.1 + 1e-12
    assert test.edges[-1] == pytest.approx(norm.isf(0.001))
    spent = np.diff(norm.cdf(test.edges)) @ test.levels + 2 * 0.001
    assert spent == pytest.approx(DELTA)


@given(st.integers(1, 3000), st.floats(0.5, 6), st.floats(0.002, 0.4))
@settings(max_examples=30, deadline=None)
def test_luck_on_fit_and_tune_samples_spends_delta_at_most(n: int, ratio: float, delta: float) -> None:
    m = max(1, round(n * ratio))
    test = ControlVariate(samples=n, development=m, most_right=m // 2, delta=delta)
    assert (np.diff(test.levels) >= -1e-12).all()  # more luck, more is allowed: step 2 of the proof
    assert (np.diff(test.means) <= 1e-12).all()
    # for any true share, the level that luck leads to is at most delta on average
    for mu in (0.3, 0.9):
        g = np.arange(m + 1)
        luck = -norm.ppf(np.clip(binom.sf(g - 1, m, mu), 1e-300, 1))
        allowed = np.concatenate([[test.levels[0]], test.levels, [1.0]])
        level = allowed[np.searchsorted(test.edges, luck, side="left")]
        assert float(binom.pmf(g, m, mu) @ level) <= delta + 1e-9


@given(st.floats(0.05, 0.9), st.floats(0.1, 0.9), st.floats(0.2, 3), st.floats(0.1, 0.9))
@settings(max_examples=30, deadline=None)
def test_a_null_with_more_right_models_or_fewer_right_answers_is_no_likelier_to_be_rejected(
    beta: float, share: float, z: float, place: float
) -> None:
    n, t, level = 14, 0.05, 0.6  # step 3 of the proof, for events of the test's form
    mu = t + share * (level - t)
    mean = level - beta * mu
    every = tables(n)
    total = (1 - beta) * every[0] + every[1] - beta * every[2] - n * mean
    hit = every[:, total >= z * np.sqrt(n * (0.1 + 0.2 * beta * every[2] / n))]
    at = probability(hit, (mu - t, level - mu + t, t, 1 - level - t))
    dearer = mu + place * (level + t - mu)
    assert probability(hit, (dearer - t, level - dearer + t, t, 1 - level - t)) <= at + 1e-12
    lower = level - place * (level - mu + t)
    assert probability(hit, (mu - t, lower - mu + t, t, 1 - lower - t)) <= at + 1e-12


@given(st.lists(st.floats(0.5, 9), min_size=4, max_size=4), st.floats(0.02, 0.9), st.floats(-1, 4))
@settings(max_examples=30, deadline=None)
def test_bounds_of_tails_lie_on_their_sides_of_the_exact_sum(
    weights: list[float], beta: float, far: float
) -> None:
    n, p = 30, tuple(np.array(weights) / sum(weights))
    draws = Draws(n, *(np.array([share]) for share in p))
    slope = np.array([beta + 0.1])
    total = Sum(draws, beta, slope)
    least = total.mean + far * np.sqrt(total.variance)
    every = tables(n)
    hit = every[:, (1 - beta) * every[0] + every[1] - slope * every[2] >= least - 1e-7]
    truth = probability(hit, p) if hit.size else 0.0
    close = 1e-9
    assert truth - close <= exact(draws, beta, lambda k: least + slope * k) <= truth + 1e-4
    assert total.tilted(least - 1e-7)[0] >= truth - close
    for smoothing in SMOOTHING:
        above = total.fourier(least - 1e-7, smoothing, upper=True)[0]
        assert total.fourier(least + 1e-7, smoothing, upper=False)[0] - close <= truth <= above + close


def test_most_models_are_at_least_half_of_them_rounded_up() -> None:
    of_three = np.array([[True, False, False], [True, True, False]])
    of_four = np.array([[True, False, False, False], [True, True, False, False]])
    assert most_right(of_three).tolist() == most_right(of_four).tolist() == [False, True]


def test_degenerate_samples_are_tested_too() -> None:
    for right in (0, 50, 100):
        test = ControlVariate(samples=50, development=100, most_right=right)
        x, y = np.ones(100, bool), np.arange(100) < right
        beta = test.beta(x, y)
        assert 0.02 <= beta <= 0.9
        for seen in (Counts(50, 0, 0, 0), Counts(0, 0, 50, 0), Counts(0, 50, 0, 0), Counts(0, 0, 0, 50)):
            assert 0 <= test.p_value(seen, 0.5, beta) <= 1
        assert test.p_value(Counts(0, 0, 0, 50), 0.5, beta) == 1.0
    with pytest.raises(PrecisionError, match="at most all of the former"):
        ControlVariate(samples=50, development=100, most_right=101)
    with pytest.raises(PrecisionError, match="expected counts of 50 samples"):
        test.p_value(Counts(1, 0, 0, 0), 0.5, 0.5)


def cascade(n: int, m: int, seed: int) -> tuple[certify.Tests, certify.Tests]:
    """A policy at ever laxer thresholds beside three models it is like; by both tests."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n + m)[:, np.newaxis]
    models = rng.normal(0, 0.05, (n + m, 3)) + hard < 0.9
    answers = [rng.normal(0, 0.04, n + m) + hard[:, 0] < limit for limit in (0.93, 0.92, 0.91, 0.9)]
    frontier = [
        Simulated(1.0 - i, np.zeros(n, int), right[m:], np.full(n, 4.0 - i))
        for i, right in enumerate(answers)
    ]
    control = Control.of(models[:m], [right[:m] for right in answers], models[:m], models[m:], delta=DELTA)
    reference = models[m:, 0]
    return (
        certify.Tests(frontier, reference=reference, top_ms=4.0),
        certify.Tests(frontier, reference=reference, top_ms=4.0, control=control),
    )


def test_it_proves_more_than_the_exact_binomial_and_says_what_it_is() -> None:
    asked = [Constraint(kind="precision", level=level) for level in np.arange(0.87, 0.92, 0.0025)]
    asked.append(Constraint(kind="max_drop", level=0.05))
    gained = 0.0
    for seed in range(4):
        exactly, controlled = (one.certify_all(asked, delta=DELTA) for one in cascade(600, 1200, seed))
        for found, name in ((exactly, "binomial"), (controlled, "control-variate")):
            assert {c.test for c in found if c.constraint.kind == "precision"} <= {name}
            assert [c.test for c in found if c.constraint.kind == "max_drop"] == [None]
        strict = [
            max((c.constraint.level for c in found if c.constraint.kind == "precision"), default=0.0)
            for found in (exactly, controlled)
        ]
        gained += strict[1] - strict[0]
        assert all(p.p_value <= DELTA for p in controlled)
    assert gained > 0.005
    with pytest.raises(PrecisionError, match="expected the delta of the control"):
        cascade(60, 120, 0)[1].certify(asked[0], delta=0.1)


def test_the_last_certificate_of_a_laxer_precision_has_a_laxer_threshold() -> None:
    tests = cascade(600, 1200, 1)[1]
    asked = [Constraint(kind="precision", level=0.7 + 0.01 * i) for i in range(25)]
    found = sorted(tests.certify_all(asked), key=lambda c: c.constraint.level)
    assert found
    assert all(one.threshold < other.threshold for one, other in pairwise(found))


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"models": 2}, "2 models, fewer than 3"),
        ({"development": 599}, "599 fit and tune samples, fewer than half of 1,200"),
        ({"grouped": True}, "some samples are variants of one original"),
    ],
)
def test_the_test_is_chosen_by_numbers_that_are_known_beforehand(
    numbers: dict[str, Any], reason: str
) -> None:
    usual = partial(choose_test, models=3, development=600, certify=1200, grouped=False)
    assert usual("auto").test == "control-variate"
    assert usual("binomial").reason == "asked for"
    chosen = usual("auto", **numbers)
    assert (chosen.test, chosen.reason.startswith(reason)) == ("binomial", True)
    with pytest.raises(PrecisionError, match=f"got: {reason}"):
        usual("control-variate", **numbers)


def test_few_certify_samples_are_left_to_the_binomial_unless_it_is_asked_for() -> None:
    few = partial(choose_test, models=3, development=200, certify=100, grouped=False)
    assert few("auto").reason == "100 certify samples, fewer than 300"
    assert few("control-variate").test == "control-variate"
