"""What a model's raw confidence is worth: Platt scaling of the log-odds of its top class."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from selector.policies.cascade import CascadePolicy, LookaheadPolicy, Stage, right_probability
from selector.policies.rules import escalate
from training.outcomes.outcomes import Outcomes
from training.policies.base import FittedPolicy, _Scored
from training.policies.frontier import DOUBLE, Floats, Indices, cascade_thresholds
from training.policies.platt import platt


def fit_platt(outcomes: Outcomes, name: str) -> Stage:
    """The stage of a cascade for one model, calibrated on `outcomes` (Platt 1999)."""
    column = outcomes.models.index(name)
    scale, offset = platt(outcomes.log_odds[:, column], outcomes.right[:, column])
    return Stage(model=name, scale=scale, offset=offset)


class ConfidenceChain(FittedPolicy):
    """Models in a row, each of which runs where the raw confidence of those before it is too low.

    Parameters
    ----------
    stage_ms
        Milliseconds of deciding after a model ran; one model alone decides nothing.
    """

    kind = "cascade"

    def __init__(
        self, policy: CascadePolicy | LookaheadPolicy, costs: Mapping[str, float], *, stage_ms: float = 0.0
    ) -> None:
        super().__init__(costs)
        self.policy = policy
        self.stage_ms = stage_ms if len(policy.stages) > 1 else 0.0

    def stop_costs(self) -> Floats:
        """Milliseconds of stopping after each model ``[K]``."""
        total: Floats = np.cumsum([self.costs[name] + self.stage_ms for name in self.models])
        return total


class FittedCascade(ConfidenceChain, _Scored):
    """A cascade on raw confidence."""

    policy: CascadePolicy

    def known(self, outcomes: Outcomes) -> Floats:
        return np.stack(
            [
                right_probability(stage, outcomes.log_odds[:, outcomes.models.index(stage.model)])
                for stage in self.policy.stages
            ],
            axis=1,
        )

    def decide(self, known: Floats, threshold: float) -> Indices:
        return escalate(known, threshold)

    def thresholds(self, outcomes: Outcomes, *, count: int = 200) -> Floats:
        return cascade_thresholds(self.known(outcomes), count=count, rounding=DOUBLE)
