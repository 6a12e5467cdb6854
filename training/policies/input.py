"""Input policies, fitted: decided from the features alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from selector.policies.input import InputPolicy
from selector.policies.rules import next_action
from training.outcomes.outcomes import Outcomes
from training.policies.base import _Scored
from training.policies.frontier import (
    SINGLE,
    Floats,
    Indices,
    Simulated,
    cost_at,
    price_grid,
    threshold_grid,
)
from zoo.models.session import open_session


class FittedInputPolicy(_Scored):
    """An input policy: a graph from features to scores decides before any model runs.

    Parameters
    ----------
    scores_onnx
        ``features`` float32 ``[N, F]`` → ``scores`` float32 ``[N, M]``, columns as ``policy.order``.
    features
        Names of the F features.
    """

    kind = "input"

    def __init__(
        self,
        policy: InputPolicy,
        scores_onnx: bytes,
        features: Sequence[str],
        costs: Mapping[str, float],
        *,
        overhead_ms: float = 0.0,
    ) -> None:
        super().__init__(costs, overhead_ms=overhead_ms)
        self.policy: InputPolicy = policy
        self.scores_onnx = scores_onnx
        self.features = tuple(features)

    @cached_property
    def _session(self) -> ort.InferenceSession:
        return open_session(self.scores_onnx, name="scores")

    def known(self, outcomes: Outcomes) -> Floats:
        before = outcomes.scores_of(self.models)
        if before is not None:
            return before.astype(np.float64)
        return self.scores(outcomes.feature_columns(self.features))

    def scores(self, features: NDArray[np.float32]) -> Floats:
        """Scores ``[N, K]`` of features ``[N, F]``, columns as :attr:`models`."""
        scores: Floats = self._session.run(["scores"], {"features": features})[0].astype(np.float64)
        return scores[:, [self.policy.order.index(name) for name in self.models]]

    def decide(self, known: Floats, threshold: float) -> Indices:
        return next_action(known, self.policy.costs_ms, threshold, self.policy.rule)

    def thresholds(self, outcomes: Outcomes, *, count: int = 200) -> Floats:
        return input_thresholds(self.known(outcomes), self.policy, count=count, rounding=SINGLE)

    def stop_costs(self) -> Floats:
        return np.array([self.costs[name] for name in self.models]) + self.overhead_ms


def input_thresholds(
    scores: Floats, policy: InputPolicy, *, count: int = 200, rounding: float | None = None
) -> Floats:
    """Thresholds of an input policy on scores ``[n, M]``, most conservative first.

    With `rounding` they lie between values; see :func:`.threshold_grid`.
    """
    if policy.rule == "threshold":
        return threshold_grid(scores, count=count, rounding=rounding)
    return price_grid(
        [
            (scores[:, [i]] - scores[:, :i], cost - np.array(policy.costs_ms[:i]))
            for i, cost in enumerate(policy.costs_ms)
            if i
        ],
        count=count,
        rounding=rounding,
    )


def input_frontier(
    scores: Floats, right: NDArray[np.bool_], costs: Floats, policy: InputPolicy, *, count: int = 60
) -> list[Simulated]:
    """Frontier of an input policy's rule on scores ``[n, M]``, costs ``[M]`` or ``[n, M]``, all included."""
    rows = np.arange(len(scores))
    points = []
    for threshold in input_thresholds(scores, policy, count=count):
        picks = next_action(scores, policy.costs_ms, float(threshold), policy.rule)
        points.append(Simulated(float(threshold), picks, right[rows, picks], cost_at(costs, picks)))
    return points
