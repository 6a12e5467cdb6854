"""Recalibration of a model's logits: temperature, vector and matrix scaling (Guo et al. 2017).

``scale * logits + bias + logits @ weights`` is fitted by maximum likelihood with ridge penalties. Those of
the scale and the biases are what a few samples would say: they decide nothing where there are enough, and
keep the bias of a class finite that never occurs. That of the weights draws towards vector scaling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selector.policies.pool import MAX_WEIGHTS, Scaling
from selector.policies.rules import Floats

MAX_MATRIX_CLASSES = 32
MAX_CLASSES = 128  # with more classes no last layer is refitted, and biases are not found by Newton's method
MOST_LOGITS = 2_000_000  # of many classes that biases are fitted to: half a second a fit
LEAST_ROWS = 500
BIAS_PENALTY = 1.0
RIDGE = 1000.0  # of the weights that matrix scaling adds, where logits have a standard deviation of SPREAD
SPREAD = 6.5
SAMPLES_A_CLASS = 20  # from which on a last layer is refitted for more classes than MAX_MATRIX_CLASSES
WEIGHT_DIGITS = 7  # significant ones, of the largest weight
EMBEDDING_RIDGE = 50.0  # the same of weights on an embedding with a standard deviation of EMBEDDING_SPREAD
EMBEDDING_SPREAD = 0.65


@dataclass(frozen=True)
class Linear:
    """What is added to logits, from inputs ``[n, d]``: ``inputs @ weights + bias``."""

    weights: Floats  # [d, C]
    bias: Floats  # [C]

    def __call__(self, inputs: NDArray[np.floating]) -> Floats:
        """``[n, C]``, summed as is fastest."""
        added: Floats = inputs @ self.weights + self.bias
        return added


def fit_vector(logits: NDArray[np.floating], labels: NDArray[np.integer], *, biases: bool = True) -> Scaling:
    """A scale and a bias a class, for logits ``[n, C]`` and labels ``[n]``, or a scale alone.

    By Newton's method; biases of more than :data:`MAX_CLASSES` classes by L-BFGS, on as many of the samples,
    drawn at random, as have :data:`MOST_LOGITS` logits. The scale is not negative.

    Examples
    --------
    >>> fit_vector(np.array([[9.0, 0.0], [9.0, 0.0]]), np.array([0, 1])).scale < 0.2
    True
    """
    count, classes = logits.shape
    added = classes if biases else 0
    enough = max(LEAST_ROWS, MOST_LOGITS // classes)
    if added > MAX_CLASSES and count > enough:
        chosen = np.sort(np.random.default_rng(0).choice(count, enough, replace=False))
        return fit_vector(logits[chosen], labels[chosen])
    wide = logits.astype(np.float64)
    truth, seen = (np.arange(count), labels), np.bincount(labels, minlength=classes)
    start, ridge = np.zeros(1 + added), np.full(1 + added, BIAS_PENALTY)  # of the scale, then of biases
    start[0] = 1.0

    def loss_of(values: Floats) -> tuple[float, Floats]:
        scaled = values[0] * wide + (values[1:] if added else 0.0)
        loss, shares = _log_loss(scaled, truth)
        return loss + 0.5 * float((ridge * (values - start) ** 2).sum()), shares

    def gradient_of(values: Floats, shares: Floats) -> Floats:
        gradient: Floats = ridge * (values - start)
        gradient[0] += np.vdot(shares, wide) - wide[truth].sum()
        if added:
            gradient[1:] += shares.sum(axis=0) - seen
        return gradient

    if added > MAX_CLASSES:
        from scipy.optimize import minimize  # here: it takes long to load, and a kept search needs none

        def both(values: Floats) -> tuple[float, Floats]:
            loss, shares = loss_of(values)
            return loss, gradient_of(values, shares)

        at = minimize(both, start, jac=True, method="L-BFGS-B", options={"maxiter": 40, "ftol": 1e-9}).x
        return Scaling(max(float(at[0]), 0.0), at[1:], None)
    at = start
    loss, shares = loss_of(at)
    for _ in range(30):
        mean = (shares * wide).sum(axis=1)
        off = shares * (wide - mean[:, np.newaxis])
        gradient, curvature = gradient_of(at, shares), np.diag(ridge)
        curvature[0, 0] += (off * wide).sum()
        if added:
            curvature[1:, 1:] += np.diag(shares.sum(axis=0)) - shares.T @ shares
            curvature[0, 1:] += off.sum(axis=0)
            curvature[1:, 0] = curvature[0, 1:]
        step, size = np.linalg.solve(curvature, gradient), 1.0
        fresh, shares = loss_of(at - step)
        while fresh > loss and size > 1e-4:
            size /= 2
            fresh, shares = loss_of(at - size * step)
        if fresh > loss:
            break
        at, gained, loss = at - size * step, loss - fresh, fresh
        if gained < 1e-7 * count:
            break
    return Scaling(max(float(at[0]), 0.0), at[1:] if added else None, None)


def fit_linear(
    inputs: NDArray[np.floating],
    base: Floats,
    labels: NDArray[np.integer],
    *,
    ridge: float,
) -> Linear:
    """What inputs ``[n, d]`` add to logits `base` ``[n, C]``, drawn towards nothing by `ridge`.

    L-BFGS in coordinates in which a bound of the curvature (Böhning 1992) is the identity: few steps. Where
    inputs are wider than there are samples, in the space that the samples span (the dual form): the ridge
    draws all other weights to nothing.

    Examples
    --------
    >>> wide, labels = np.eye(3, 50), np.array([0, 1, 0])
    >>> fit_linear(wide, np.zeros((3, 2)), labels, ridge=0.1)(wide).argmax(axis=1).tolist()
    [0, 1, 0]
    """
    from scipy.optimize import minimize  # here: it takes long to load, and a kept search needs none

    if inputs.shape[1] > len(inputs):
        basis, seen = np.linalg.qr(inputs.T.astype(np.float64))
        within = fit_linear(seen.T, base, labels, ridge=ridge)
        return Linear(basis @ within.weights, within.bias)
    design = np.concatenate([inputs, np.ones((len(inputs), 1), inputs.dtype)], axis=1)
    penalty = np.full((design.shape[1], 1), ridge)
    penalty[-1] = BIAS_PENALTY
    bound = (0.25 * (design.T @ design)).astype(np.float64) + np.diag(penalty[:, 0])
    factor = np.linalg.cholesky(bound)
    truth = (np.arange(len(labels)), labels)
    shape = (design.shape[1], base.shape[1])
    back = np.linalg.inv(factor).T  # weights = back @ coordinates

    def loss_of(flat: Floats) -> tuple[float, Floats]:
        weights = back @ flat.reshape(shape)
        loss, shares = _log_loss(base + design @ weights.astype(design.dtype), truth)
        shares[truth] -= 1.0
        gradient = design.T @ shares.astype(design.dtype) + penalty * weights
        return loss + 0.5 * float((penalty * weights**2).sum()), (back.T @ gradient).ravel()

    options = {"maxiter": 100, "ftol": 1e-9, "gtol": 1e-3}
    found = minimize(loss_of, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=options)
    weights = back @ found.x.reshape(shape)
    return Linear(weights[:-1], weights[-1])


def fit_embedding(
    vector: Scaling,
    logits: NDArray[np.floating],
    embedding: NDArray[np.floating],
    labels: NDArray[np.integer],
) -> Scaling:
    """Vector scaling with weights from an embedding ``[n, D]``, drawn towards none: a new last layer."""
    wide = embedding.astype(np.float64)
    mean = wide.mean(axis=0)
    spread = max(float((wide - mean).std()), 1e-9)
    ridge = EMBEDDING_RIDGE * (spread / EMBEDDING_SPREAD) ** 2
    added = fit_linear(wide - mean, vector(logits), labels, ridge=ridge)
    weights = _short(added.weights)
    bias = added.bias - mean @ weights
    return Scaling(vector.scale, bias if vector.bias is None else vector.bias + bias, weights, True)


def _short(weights: Floats) -> Floats:
    """Weights in as many digits as decide anything: they are stored as text, and are many."""
    largest = float(np.abs(weights).max(initial=0.0))
    digits = WEIGHT_DIGITS - math.ceil(math.log10(largest)) if largest > 0 else 0
    rounded: Floats = np.round(weights, digits)
    return rounded


def has_head(classes: int, width: int, samples: int) -> bool:
    """Whether a new last layer is offered for so many classes, numbers of an embedding, and samples.

    Examples
    --------
    >>> has_head(10, 2048, samples=500), has_head(100, 640, samples=500), has_head(100, 640, samples=2500)
    (True, False, True)
    """
    known = classes <= MAX_MATRIX_CLASSES or samples >= SAMPLES_A_CLASS * classes
    return known and classes <= MAX_CLASSES and classes * width <= MAX_WEIGHTS


def has_matrix(classes: int) -> bool:
    """Whether matrix scaling is offered for so many classes."""
    return classes**2 <= MAX_WEIGHTS and classes <= MAX_MATRIX_CLASSES


def fit_matrix(vector: Scaling, logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Scaling:
    """Vector scaling with weights between classes, drawn towards none by :data:`RIDGE`."""
    wide = logits.astype(np.float64)
    spread = max(float(wide.std()), 1e-9)
    added = fit_linear(wide, vector(wide), labels, ridge=RIDGE * (spread / SPREAD) ** 2)
    bias = added.bias if vector.bias is None else vector.bias + added.bias
    return Scaling(vector.scale, bias, added.weights)


def log_loss(logits: Floats, labels: NDArray[np.integer]) -> float:
    """Mean log loss of logits ``[n, C]`` for labels ``[n]``."""
    return _log_loss(logits, (np.arange(len(labels)), labels))[0] / len(labels)


def _log_loss(scaled: Floats, truth: tuple[NDArray[np.integer], NDArray[np.integer]]) -> tuple[float, Floats]:
    """The sum of the log losses, and class probabilities ``[n, C]``."""
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    shares = np.exp(scaled)
    total = shares.sum(axis=1)
    loss = float(np.log(total).sum() - scaled[truth].sum())
    shares /= total[:, np.newaxis]
    return loss, shares
