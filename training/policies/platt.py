"""Platt scaling: how a model's confidence becomes a probability of being right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from selector.policies.rules import Floats


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
    line = LogisticRegression(C=100.0).fit((log_odds / spread).reshape(-1, 1), right)
    scale = float(line.coef_[0, 0]) / spread
    return (scale, float(line.intercept_[0])) if scale > 0 else nothing
