"""Claims about certificates: exact tests, honest thresholds, valid over many repetitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, binomtest

from training.cascade import accuracy_to_certify
from training.certify import LEVELS, certify, certify_levels, p_value, samples_needed
from zoo.errors import DataError, PrecisionError

THRESHOLDS = tuple(np.linspace(1, 0, 60).tolist())


def population(count: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Sureness of a cheap model, and whether it is right; a dear one is right in 97 of 100 cases."""
    sure = rng.uniform(0, 1, count)
    cheap, dear = rng.random(count) < 0.55 + 0.45 * sure, rng.random(count) < 0.97
    return sure, np.stack([cheap, dear])


def right_at(sure: NDArray[np.float64], right: NDArray[np.bool_], threshold: float) -> NDArray[np.bool_]:
    return np.where(sure >= threshold, right[0], right[1])


def true_precision(threshold: float) -> float:
    # the cheap model answers sureness u in [threshold, 1], right with 0.55 + 0.45 u
    return 0.97 * threshold + 0.55 * (1 - threshold) + 0.225 * (1 - threshold**2)


@given(st.integers(1, 400), st.data(), st.floats(0.01, 0.99))
def test_the_p_value_is_that_of_the_exact_binomial_test(
    n: int, data: st.DataObject, precision: float
) -> None:
    right = data.draw(st.integers(0, n))
    expected = binomtest(right, n, precision, alternative="greater").pvalue
    assert p_value(right, n, precision) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("precision", [0.85, 0.9, 0.95])
def test_certificates_are_wrong_in_no_more_than_delta_of_200_repetitions(precision: float) -> None:
    delta, wrong, made = 0.05, 0, 0
    for repetition in range(200):
        sure, right = population(400, np.random.default_rng([repetition, int(precision * 100)]))
        found = certify(lambda t, s=sure, r=right: right_at(s, r, t), THRESHOLDS, precision, delta=delta)
        if found is not None:
            made += 1
            wrong += true_precision(found.threshold) < precision
    assert wrong <= binom.isf(0.001, 200, delta)
    if precision < 0.95:
        assert made > 180


def test_without_a_true_effect_a_certificate_is_rare() -> None:
    made = 0
    for repetition in range(200):
        right = np.random.default_rng(repetition).random(300) < 0.9
        made += certify(lambda _, r=right: r, THRESHOLDS, 0.9) is not None
    assert made <= binom.isf(0.001, 200, 0.05)


def test_testing_stops_at_the_first_threshold_that_fails() -> None:
    asked = []

    def answer(threshold: float) -> NDArray[np.bool_]:
        asked.append(threshold)
        return np.arange(100) < (70 if threshold == 0.5 else 99)

    found = certify(answer, [0.9, 0.7, 0.5, 0.3, 0.1], 0.9)
    assert found is not None
    assert (found.threshold, found.right, found.samples) == (0.7, 99, 100)
    assert asked == [0.9, 0.7, 0.5]


def test_says_nothing_where_nothing_can_be_proven() -> None:
    assert certify(lambda _: np.ones(20, bool), THRESHOLDS, 0.95) is None
    assert certify_levels(lambda _: np.zeros(50, bool), THRESHOLDS) == []


def test_of_levels_with_one_threshold_the_highest_stays() -> None:
    sure, right = population(500, np.random.default_rng(0))
    found = certify_levels(lambda t: right_at(sure, right, t), THRESHOLDS)
    assert [item.precision for item in found] == sorted((item.precision for item in found), reverse=True)
    thresholds = [item.threshold for item in found]
    assert thresholds == sorted(set(thresholds), reverse=True)
    for item in found:
        alone = certify(lambda t: right_at(sure, right, t), THRESHOLDS, item.precision)
        assert alone == item


@given(st.floats(0.5, 0.99), st.integers(20, 2000), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_needed_accuracy_is_the_least_that_certifies(
    precision: float, samples: int, delta: float
) -> None:
    right = round(accuracy_to_certify(precision, samples, delta=delta) * samples)
    if right < samples:
        assert p_value(right, samples, precision) <= delta
    assert p_value(right - 1, samples, precision) > delta


def test_counts_the_samples_that_a_certificate_would_take() -> None:
    needed = samples_needed(0.95, 0.9)
    assert needed is not None
    assert p_value(int(0.95 * needed), needed, 0.9) <= 0.05
    assert 50 < needed < 300
    assert samples_needed(0.9, 0.9) is None
    assert samples_needed(0.9001, 0.9, most=1000) is None


@pytest.mark.parametrize("precision", [0.0, 1.0, float("nan")])
def test_refuses_bad_precisions(precision: float) -> None:
    with pytest.raises(PrecisionError):
        certify(lambda _: np.ones(9, bool), THRESHOLDS, precision)


def test_refuses_to_certify_on_nothing() -> None:
    with pytest.raises(DataError, match="expected certify samples, got none"):
        certify(lambda _: np.ones(0, bool), THRESHOLDS, 0.9)
    with pytest.raises(DataError, match="expected certify samples, got none"):
        accuracy_to_certify(0.9, 0)


def test_levels_are_half_percents_from_a_half_up() -> None:
    assert (LEVELS[0], LEVELS[-1], len(set(LEVELS))) == (0.5, 0.995, 100)
