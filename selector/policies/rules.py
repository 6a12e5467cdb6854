"""The rules that policies share: how sure an answer is, and which way to go on. Pure numpy, no sessions.

A device decides row by row, with the functions that take one row: alone or in a batch, an input meets the
same arithmetic. Simulations decide for all samples at once, with the functions that take arrays; a test holds
both against each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

Rule = Literal["threshold", "price"]

_TINY = 1e-30  # keeps log-odds finite when all other classes underflow


class DecisionCosts(Protocol):
    """Milliseconds of deciding on one device."""

    @property
    def selector_ms(self) -> float: ...  # input features and scores
    @property
    def stage_ms(self) -> float: ...  # the graph of a state, after a model ran
    @property
    def confidence_ms(self) -> float: ...  # looking at a model's raw confidence instead


def softmax(logits: NDArray[np.floating]) -> Floats:
    """Class probabilities float64 ``[N, C]`` of logits ``[N, C]``."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares


def top_log_odds(logits: NDArray[np.floating]) -> tuple[Indices, Floats]:
    """Top class and its log-odds ``log(p / (1 - p))``, p the softmax probability.

    Log-odds order answers like the maximum softmax probability does, but do not saturate at 1.

    Parameters
    ----------
    logits
        ``[N, C]`` with C >= 2.

    Returns
    -------
    tuple
        Class indices ``[N]`` and log-odds float64 ``[N]``.
    """
    wide = logits.astype(np.float64)
    top = wide.argmax(axis=1)
    rows = np.arange(len(wide))
    exponentials = np.exp(wide - wide[rows, top][:, np.newaxis])
    exponentials[rows, top] = 0.0
    others = exponentials.sum(axis=1).tolist()
    return top, np.array([-math.log(each + _TINY) for each in others], dtype=np.float64)


def log_odds_of(logits: NDArray[np.floating]) -> float:
    """:func:`top_log_odds` of one row ``[C]``, bit for bit, several times as fast."""
    wide = logits.astype(np.float64)
    top = wide.argmax()
    exponentials = np.exp(wide - wide[top])
    exponentials[top] = 0.0
    return -math.log(float(exponentials.sum()) + _TINY)


def sigmoid(odds: Floats) -> Floats:
    """Probabilities of log-odds, of any shape."""
    probabilities: Floats = 1.0 / (1.0 + np.exp(np.clip(-odds, -700.0, 700.0)))
    return probabilities


def sigmoid_of(odds: float) -> float:
    """:func:`sigmoid` of one number."""
    return 1.0 / (1.0 + math.exp(min(max(-odds, -700.0), 700.0)))


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
        return max(range(len(worth)), key=worth.__getitem__)
    for i, score in enumerate(scores):
        if score >= threshold:
            return i
    return max(range(len(scores)), key=scores.__getitem__)
