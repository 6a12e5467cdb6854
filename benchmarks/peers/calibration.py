"""Calibration of class probabilities after training: one temperature, or a temperature and biases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from selector.policies.rules import softmax
from training.outcomes.folds import Folds
from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Floats

# Of the logarithm of the factor: where all answers are right, the likelihood would have it grow without end.
MOST_LOG_FACTOR = 3.0
# Of a bias, before anything is seen: keeps the bias of a class that never occurs finite.
BIAS_SPREAD = 1.0


@dataclass(frozen=True)
class Calibration:
    """Calibrated logits of one model: ``factor * logits + biases``.

    Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017: temperature scaling
    without biases, vector scaling with one factor for all classes with them.
    """

    factor: float  # one over the temperature
    biases: Floats  # [C]

    def __call__(self, logits: NDArray[np.floating]) -> Floats:
        """Class probabilities ``[n, C]`` of logits ``[n, C]``."""
        shares: Floats = softmax(self.factor * logits.astype(np.float64) + self.biases)
        return shares


def fit_calibration(
    logits: NDArray[np.floating], labels: NDArray[np.integer], *, biases: bool
) -> Calibration:
    """The most likely calibration of logits ``[n, C]`` for labels ``[n]``, with biases or without."""
    rows, classes = logits.shape
    values = logits.astype(np.float64)
    true = values[np.arange(rows), labels].sum()
    counts = np.bincount(labels, minlength=classes)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        factor, added = np.exp(parameters[0]), parameters[1:]
        scaled = factor * values + (added if biases else 0.0)
        scaled -= scaled.max(axis=1, keepdims=True)
        shares = np.exp(scaled)
        norms = shares.sum(axis=1, keepdims=True)
        shares /= norms
        picked = scaled[np.arange(rows), labels]
        value = float(np.log(norms).sum() - picked.sum())
        slope = np.empty_like(parameters)
        slope[0] = factor * (np.vdot(shares, values) - true)
        if biases:
            value += float(added @ added) / (2 * BIAS_SPREAD**2)
            slope[1:] = shares.sum(axis=0) - counts + added / BIAS_SPREAD**2
        return value, slope

    start = np.zeros(1 + (classes if biases else 0))
    bounds = [(-MOST_LOG_FACTOR, MOST_LOG_FACTOR), *[(None, None)] * (len(start) - 1)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Calibration(float(np.exp(found[0])), found[1:] if biases else np.zeros(classes))


def fit_calibrations(outcomes: Outcomes, *, biases: bool) -> list[Calibration]:
    """One calibration for every model."""
    return [
        fit_calibration(outcomes.logits[:, j], outcomes.labels, biases=biases)
        for j in range(len(outcomes.models))
    ]


def calibrated(outcomes: Outcomes, fitted: Sequence[Calibration]) -> Floats:
    """Class probabilities ``[n, M, C]``."""
    return np.stack([fit(outcomes.logits[:, j]) for j, fit in enumerate(fitted)], axis=1)


def cross_calibrated(outcomes: Outcomes, folds: Folds, *, biases: bool) -> Floats:
    """Class probabilities ``[n, M, C]``, those of a fold with calibrations that were fitted on the others."""
    shares = np.empty(outcomes.logits.shape)
    for others, held in folds:
        fitted = fit_calibrations(outcomes.rows(_mask(len(outcomes), others)), biases=biases)
        shares[held] = calibrated(outcomes.rows(_mask(len(outcomes), held)), fitted)
    return shares


def _mask(count: int, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    mask = np.zeros(count, dtype=np.bool_)
    mask[rows] = True
    return mask
