"""Platt scaling: how a model's confidence becomes a probability of being right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from selector.policies.rules import Floats
from training.policies.logistic import fit_logistic

_PENALTY = 0.01  # so small that it decides nothing but where every sample is told apart


def platt(log_odds: Floats, right: NDArray[np.bool_]) -> tuple[float, float]:
    """Scale and offset with ``P(right) = sigmoid(scale * log_odds + offset)``, maximum likelihood.

    With constant correctness, or when more sureness would mean less correctness, the scale is 0 and the
    offset carries the smoothed share: the number says nothing then.
    """
    share = (right.sum() + 1) / (len(right) + 2)
    nothing = 0.0, float(np.log(share / (1 - share)))
    if right.all() or not right.any():
        return nothing
    spread = float(log_odds.std())
    if not spread > 1e-9:
        return nothing
    line = fit_logistic(log_odds[:, np.newaxis], right[:, np.newaxis], penalty=_PENALTY)
    scale, offset = float(line[0, 0]), float(line[1, 0])
    return (scale, offset) if scale > 0 else nothing
