"""The rules that policies share: how sure an answer is, and which way to go on. Pure numpy, no sessions.

A device decides row by row, with the functions that take one row: alone or in a batch, an input meets the
same arithmetic. Simulations decide for all samples at once, with the functions that take arrays, and get the
same bits; tests hold both against each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import exp, log
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

Rule = Literal["threshold", "price"]

MAX_LISTED = 64  # classes up to which lists of numbers take less time than arrays, for one answer
_TINY = 1e-30  # keeps log-odds finite when all other classes underflow
# The weight of the top class. All others weigh 1 at most, and a class that is below the top by less than
# exp can tell weighs just that: so much more, and the largest probability is that of the largest logit.
_TOP = 1.0 + 2.0**-51


class DecisionCosts(Protocol):
    """Milliseconds of deciding on one device."""

    @property
    def selector_ms(self) -> float: ...  # input features and scores
    @property
    def stage_ms(self) -> float: ...  # the graph of a state, after a model ran
    @property
    def confidence_ms(self) -> float: ...  # looking at a model's raw confidence instead


def softmax(logits: NDArray[np.floating]) -> Floats:
    """Class probabilities float64 ``[N, C]`` of logits ``[N, C]``; the first of the largest is that of the
    logits.

    Where last digits matter, as for what a device answers, :func:`shares` of :func:`confidence` are meant.
    """
    wide = np.asarray(logits, np.float64)
    tops = (np.arange(len(wide)), wide.argmax(axis=1))
    weights: Floats = np.exp(wide - wide[tops][:, np.newaxis])
    weights[tops] = _TOP
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def shares(weights: Floats) -> Floats:
    """Class probabilities ``[N, C]`` that are proportional to `weights`, as :func:`confidence` gives them."""
    probabilities: Floats = weights / _sums(weights)[:, np.newaxis]
    return probabilities


def confidence(logits: NDArray[np.floating]) -> tuple[list[float], Floats]:
    """How sure answers are, and what their class probabilities are proportional to.

    The log-odds ``log(p / (1 - p))`` of the top class, p its softmax probability, order answers like p does,
    but do not saturate at 1.

    Parameters
    ----------
    logits
        ``[N, C]`` with C >= 2.

    Returns
    -------
    tuple
        N log-odds, and weights float64 ``[N, C]``; :func:`shares` of these is the softmax. The same
        for a row alone as in a batch, bit for bit. The first of the largest weights is that of the logits.
    """
    wide = np.ascontiguousarray(
        logits, np.float64
    )  # sums of columns would round otherwise than those of a row
    tops = (np.arange(len(wide)), wide.argmax(axis=1))
    below = wide - wide[tops][:, np.newaxis]
    if wide.shape[1] <= MAX_LISTED:  # as confidence_of does it: numpy rounds otherwise
        weights = np.array(list(map(exp, below.ravel().tolist()))).reshape(below.shape)
    else:
        weights = np.exp(below)
    weights[tops] = 0.0
    others = _sums(weights).tolist()
    weights[tops] = _TOP
    return [-log(other + _TINY) for other in others], weights


def _sums(weights: Floats) -> Floats:
    """Sums ``[N]`` of rows ``[N, C]``; those of few classes from left to right, as for one row."""
    if weights.shape[1] > MAX_LISTED:
        found: Floats = weights.sum(axis=1)
        return found
    sums = np.zeros(len(weights))
    for column in weights.T:
        sums += column
    return sums


def log_odds_of(row: Sequence[float]) -> tuple[float, int]:
    """Log-odds as of :func:`confidence`, bit for bit, of one row of up to :data:`MAX_LISTED` logits.

    Returns
    -------
    tuple
        Log-odds, and the top class.
    """
    top = max(row)
    best = row.index(top)
    others = 0.0
    for value in row[:best]:
        others += exp(value - top)
    for value in row[best + 1 :]:
        others += exp(value - top)
    return -log(others + _TINY), best


def shares_of(row: Sequence[float]) -> list[float]:
    """Class probabilities ``[C]`` as of :func:`shares` of :func:`confidence`, bit for bit, of such a row."""
    top = max(row)
    weights = [exp(value - top) for value in row]
    weights[row.index(top)] = _TOP
    total = 0.0
    for weight in weights:  # not sum(): since Python 3.12 it rounds otherwise
        total += weight
    return [weight / total for weight in weights]


def sigmoid(odds: Floats) -> Floats:
    """Probabilities of log-odds, of any shape."""
    probabilities: Floats = 1.0 / (1.0 + np.exp(np.clip(-odds, -700.0, 700.0)))
    return probabilities


def sigmoid_of(odds: float) -> float:
    """:func:`sigmoid` of one number, but for the last bit; see :func:`sigmoid_of_each`."""
    if -700.0 < odds < 700.0:
        return 1.0 / (1.0 + exp(-odds))
    return 1.0 / (1.0 + exp(min(max(-odds, -700.0), 700.0)))


def sigmoid_of_each(odds: Floats) -> Floats:
    """:func:`sigmoid_of` of many numbers, of any shape, bit for bit: numpy's exp rounds otherwise."""
    clipped = np.clip(-odds, -700.0, 700.0)
    exponentials = np.array(list(map(math.exp, clipped.ravel().tolist())), np.float64)
    probabilities: Floats = 1.0 / (1.0 + exponentials.reshape(odds.shape))
    return probabilities


def choose(scores: NDArray[np.floating], threshold: float) -> Indices:
    """The first column that reaches `threshold`, else the largest.

    Parameters
    ----------
    scores
        Estimated probabilities of being right ``[N, M]``, columns cheapest model first.

    Returns
    -------
    ndarray
        Column per row, ``[N]``.
    """
    enough = scores >= threshold
    picks: Indices = np.where(enough.any(axis=1), enough.argmax(axis=1), scores.argmax(axis=1))
    return picks


def escalate(probabilities: NDArray[np.floating], threshold: float) -> Indices:
    """The cascade's rule, for all stages at once: the stage ``[N]`` that answers each input.

    Parameters
    ----------
    probabilities
        Estimated probabilities of being right ``[N, K]``, columns in the order of the stages.
    """
    enough = probabilities >= threshold
    last = probabilities.shape[1] - 1
    stages: Indices = np.where(enough.any(axis=1), enough.argmax(axis=1), last)
    return stages


def next_action(
    scores: NDArray[np.floating], costs_ms: Sequence[float], threshold: float, rule: Rule
) -> Indices:
    """Which way to go on: a column of `scores` per row.

    Parameters
    ----------
    scores
        Estimated probabilities of being right ``[N, A]``, cheapest way first.
    costs_ms
        Of the A ways; 0 for stopping.
    rule
        ``threshold`` or ``price``; see :class:`.StagedPolicy`.

    Returns
    -------
    ndarray
        ``[N]``.
    """
    if rule == "price":
        picks: Indices = (scores - threshold * np.array(costs_ms)).argmax(axis=1)
        return picks
    return choose(scores, threshold)


def next_action_of(scores: Sequence[float], costs_ms: Sequence[float], threshold: float, rule: Rule) -> int:
    """:func:`next_action` of one row, without numpy's overhead."""
    if rule == "price":
        worth = [score - threshold * cost for score, cost in zip(scores, costs_ms, strict=True)]
        return worth.index(max(worth))
    for i, score in enumerate(scores):
        if score >= threshold:
            return i
    return scores.index(max(scores))
