"""Logistic regression with a ridge penalty for many targets at once, by Newton's method."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from selector.policies.rules import Floats
from selector.policies.rules import sigmoid as sigmoid

MAX_NEWTON_STEPS = 25


def fit_logistic(
    inputs: Floats, targets: NDArray[np.bool_], *, penalty: float = 10.0, start: Floats | None = None
) -> Floats:
    """Weights of one regression per target on the same inputs.

    The inputs are standardised for the fit, so the penalty does not depend on their scale; the weights that
    come back are for the inputs as they are.

    Parameters
    ----------
    inputs
        ``[n, d]``, finite.
    targets
        ``[n, M]``.
    penalty
        Factor of half the squared length of the standardised weights, against the sum of the log losses. The
        intercept is free.
    start
        Weights ``[d + 1, M]`` to begin with, for speed: what comes out is the same.

    Returns
    -------
    ndarray
        ``[d + 1, M]``, the intercepts last. A constant target gets weights 0 and the log-odds of its share
        after Laplace's rule of succession.
    """
    mean, spread = inputs.mean(axis=0), inputs.std(axis=0)
    scale = np.where(spread > 1e-9 * np.maximum(1.0, np.abs(mean)), spread, np.inf)
    design = np.concatenate([(inputs - mean) / scale, np.ones((len(inputs), 1))], axis=1)
    ridge = np.full(design.shape[1], penalty)
    ridge[-1] = 1e-6  # keeps the Newton step defined
    if start is None:
        first = np.zeros((design.shape[1], targets.shape[1]))
    else:
        first = np.concatenate(
            [np.where(np.isinf(scale), 0, scale)[:, np.newaxis] * start[:-1], start[-1:] + mean @ start[:-1]]
        )
    narrow = design.astype(np.float32)
    weights = np.empty_like(first)
    for column in range(targets.shape[1]):
        weights[:, column] = _fit_one(
            design, narrow, targets[:, column], ridge, None if start is None else first[:, column]
        )
    weights[-1] -= (mean / scale) @ weights[:-1]
    weights[:-1] /= scale[:, np.newaxis]
    return weights


def log_odds(weights: Floats, inputs: Floats) -> Floats:
    """Log-odds ``[n, M]`` of inputs ``[n, d]`` under weights ``[d + 1, M]``."""
    odds: Floats = inputs @ weights[:-1] + weights[-1]
    return odds


def _fit_one(
    design: Floats,
    narrow: NDArray[np.float32],
    target: NDArray[np.bool_],
    ridge: Floats,
    start: Floats | None,
) -> Floats:
    share = (target.sum() + 1) / (len(target) + 2)
    weights: Floats = np.zeros(design.shape[1])
    weights[-1] = np.log(share / (1 - share))
    if target.all() or not target.any():
        return weights
    if start is not None:
        weights = start
    truth = target.astype(np.float64)
    odds = design @ weights
    loss = _loss(odds, truth, ridge, weights)
    for _ in range(MAX_NEWTON_STEPS):
        probability = sigmoid(odds)
        gradient = design.T @ (probability - truth) + ridge * weights
        # only the direction depends on the curvature, so single precision does
        spread = (probability * (1 - probability)).astype(np.float32)
        curvature = ((narrow * spread[:, np.newaxis]).T @ narrow).astype(np.float64)
        curvature[np.diag_indices_from(curvature)] += ridge
        step = np.linalg.solve(curvature, gradient)
        moved, size = design @ step, 1.0
        fresh = _loss(odds - moved, truth, ridge, weights - step)
        while fresh > loss and size > 1e-3:
            size /= 2
            fresh = _loss(odds - size * moved, truth, ridge, weights - size * step)
        if fresh > loss:
            break
        weights, odds = weights - size * step, odds - size * moved
        done = loss - fresh < 1e-7 * len(truth)
        loss = fresh
        if done:
            break
    return weights


def _loss(odds: Floats, truth: Floats, ridge: Floats, weights: Floats) -> float:
    return float((np.logaddexp(0.0, odds) - truth * odds).sum() + 0.5 * (ridge * weights**2).sum())
