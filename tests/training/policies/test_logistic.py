"""Claims about the regression: the penalised optimum, whatever the scale of the inputs."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from training.policies.logistic import fit_logistic, log_odds, sigmoid

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(500, 4))
TARGETS = RNG.random((500, 3)) < sigmoid(INPUTS @ RNG.normal(size=(4, 3)) + [0.0, 1.0, -2.0])


def test_the_fit_is_that_of_scikit_learn() -> None:
    scaled = (INPUTS - INPUTS.mean(axis=0)) / INPUTS.std(axis=0)
    odds = log_odds(fit_logistic(INPUTS, TARGETS, penalty=10.0), INPUTS)
    for column in range(3):
        peer = LogisticRegression(C=0.1, tol=1e-8).fit(scaled, TARGETS[:, column])
        np.testing.assert_allclose(odds[:, column], peer.decision_function(scaled), atol=2e-3)


@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_where_it_starts_does_not_matter(spread: float) -> None:
    padded = np.concatenate([INPUTS, np.full((500, 1), 1e6)], axis=1)
    start = spread * np.random.default_rng(1).normal(size=(6, 3))
    start[4] = 0.0
    one, other = (log_odds(fit_logistic(padded, TARGETS, start=s), padded) for s in (None, start))
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_the_scale_and_place_of_the_inputs_do_not_matter(factor: float) -> None:
    moved = INPUTS * factor + 3 * factor
    one, other = (log_odds(fit_logistic(x, TARGETS), x) for x in (INPUTS, moved))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_constant_inputs_count_for_nothing() -> None:
    padded = np.concatenate([INPUTS, np.full((500, 1), 1e6), np.zeros((500, 1))], axis=1)
    weights = fit_logistic(padded, TARGETS)
    np.testing.assert_allclose(weights[4:6], 0.0, atol=1e-9)
    np.testing.assert_allclose(log_odds(weights, padded), log_odds(fit_logistic(INPUTS, TARGETS), INPUTS))


@pytest.mark.parametrize(("value", "share"), [(True, 501 / 502), (False, 1 / 502)])
def test_a_constant_target_gets_its_smoothed_share(value: bool, share: float) -> None:
    weights = fit_logistic(INPUTS, np.full((500, 1), value))
    np.testing.assert_allclose(sigmoid(log_odds(weights, INPUTS)), share)


def test_separable_targets_give_finite_weights() -> None:
    for penalty in (10.0, 1e-3):
        weights = fit_logistic(INPUTS, INPUTS[:, :1] > 0, penalty=penalty)
        assert np.isfinite(weights).all()
        assert ((log_odds(weights, INPUTS) > 0) == (INPUTS[:, :1] > 0)).mean() > 0.97


def test_twin_inputs_share_their_weight() -> None:
    twins = np.repeat(INPUTS[:, :1], 2, axis=1)
    weights = fit_logistic(twins, TARGETS[:, :1])
    assert weights[0, 0] == pytest.approx(weights[1, 0])
