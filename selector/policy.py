"""Policies: from scores or outputs to a model. Pure numpy, no files, no sessions.

The same functions decide on the device and in every simulation of training and benchmarks, so what is
certified is what runs.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from zoo.card import Name
from zoo.errors import PrecisionError

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_TINY = 1e-30  # keeps log-odds finite when all other classes underflow


class InputPolicy(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="input"
):
    """Decide from the input alone, before any model runs: the cheapest model whose score is high enough."""

    order: Annotated[tuple[Name, ...], Meta(min_length=1)]  # cheapest first; the columns of the scores

    @property
    def models(self) -> tuple[str, ...]:
        """Models that the policy may pick, cheapest first."""
        return self.order


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model of a cascade and how its confidence becomes a probability of being right.

    ``P(right) = sigmoid(scale * s + offset)`` with s the log-odds of the top class (Platt 1999).
    """

    model: Name
    scale: float
    offset: float


class CascadePolicy(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="cascade"
):
    """Run the cheapest model first; escalate while the answer is not sure enough.

    When no stage is sure enough, the answer of the surest one that ran is returned.
    """

    stages: Annotated[tuple[Stage, ...], Meta(min_length=1)]  # cheapest first

    @property
    def models(self) -> tuple[str, ...]:
        """Models of the chain, cheapest first."""
        return tuple(stage.model for stage in self.stages)


Policy = InputPolicy | CascadePolicy


def check_precision(precision: float) -> float:
    """`precision` as a float; raises :class:`PrecisionError` unless it lies strictly between 0 and 1."""
    try:
        value = float(precision)
    except (TypeError, ValueError):
        value = float("nan")
    if not 0.0 < value < 1.0:
        raise PrecisionError(
            f"expected a precision strictly between 0 and 1, such as 0.95, got {precision!r}."
        )
    return value


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
    return top, -np.log(exponentials.sum(axis=1) + _TINY)


def right_probability(stage: Stage, log_odds: Floats) -> Floats:
    """Estimated probability ``[N]`` that the stage's answers are right, from their log-odds ``[N]``."""
    exponent = np.clip(-(stage.scale * log_odds + stage.offset), -700.0, 700.0)
    probabilities: Floats = 1.0 / (1.0 + np.exp(exponent))
    return probabilities


def log_odds_of(logits: NDArray[np.floating]) -> float:
    """:func:`top_log_odds` of one row ``[C]``, several times as fast."""
    wide = logits.astype(np.float64)
    top = wide.argmax()
    exponentials = np.exp(wide - wide[top])
    exponentials[top] = 0.0
    return -math.log(float(exponentials.sum()) + _TINY)


def right_probability_of(stage: Stage, log_odds: float) -> float:
    """:func:`right_probability` of one number."""
    exponent = -(stage.scale * log_odds + stage.offset)
    return 1.0 / (1.0 + math.exp(min(max(exponent, -700.0), 700.0)))


def choose(scores: NDArray[np.floating], threshold: float) -> Indices:
    """The input policy's rule: the first column that reaches `threshold`, else the largest.

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


def escalate(probabilities: NDArray[np.floating], threshold: float) -> tuple[Indices, Indices]:
    """The cascade's rule, for all stages at once.

    Parameters
    ----------
    probabilities
        Estimated probabilities of being right ``[N, K]``, columns in the order of the stages.

    Returns
    -------
    tuple
        The stage at which each input stops and the stage whose answer is returned, both ``[N]``.
        They differ only where no stage was sure enough: all ran, and the surest one answers.
    """
    enough = probabilities >= threshold
    accepted = enough.any(axis=1)
    first = enough.argmax(axis=1)
    last = probabilities.shape[1] - 1
    return np.where(accepted, first, last), np.where(accepted, first, probabilities.argmax(axis=1))
