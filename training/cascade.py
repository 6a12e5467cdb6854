"""What a model's raw confidence is worth: Platt scaling of the log-odds of its top class."""

from __future__ import annotations

from selector.policy import Stage
from training.estimators import platt
from training.outcomes import Outcomes


def fit_platt(outcomes: Outcomes, name: str) -> Stage:
    """The stage of a cascade for one model, calibrated on `outcomes` (Platt 1999)."""
    column = outcomes.models.index(name)
    scale, offset = platt(outcomes.log_odds[:, column], outcomes.right[:, column])
    return Stage(model=name, scale=scale, offset=offset)
