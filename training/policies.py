"""Fitted policies: one interface from outcomes to answers, costs and frontiers, for every kind of policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from selector.policy import (
    CascadePolicy,
    InputPolicy,
    Policy,
    choose,
    escalate,
    right_probability,
)
from training.outcomes import Outcomes
from zoo.errors import DataError

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

NEVER = 2.0  # a threshold above every probability: the most conservative choice


@dataclass(frozen=True)
class Simulated:
    """What a policy does with n samples at one threshold, from outcomes and a latency table."""

    threshold: float
    answered_by: Indices  # [n], indices into the policy's models
    right: NDArray[np.bool_]  # [n]
    cost_ms: Floats  # [n]

    @property
    def accuracy(self) -> float:
        """Share of right answers over all samples."""
        return float(self.right.mean())

    @property
    def mean_ms(self) -> float:
        """Mean cost."""
        return float(self.cost_ms.mean())


class FittedPolicy(ABC):
    """A policy with what it needs to be simulated on outcomes.

    Parameters
    ----------
    costs
        Milliseconds of every model.
    overhead_ms
        Milliseconds of features and scores, paid for every input.
    """

    policy: Policy

    def __init__(self, costs: Mapping[str, float], *, overhead_ms: float = 0.0) -> None:
        self.costs = dict(costs)
        self.overhead_ms = overhead_ms

    @property
    def models(self) -> tuple[str, ...]:
        """Models of the policy, cheapest first."""
        return self.policy.models

    @property
    def kind(self) -> str:
        """``input`` or ``cascade``."""
        return "cascade" if isinstance(self.policy, CascadePolicy) else "input"

    @abstractmethod
    def probabilities(self, outcomes: Outcomes) -> Floats:
        """Estimated probability of being right ``[n, K]``, columns as :attr:`models`."""

    @abstractmethod
    def decide(self, probabilities: Floats, threshold: float) -> tuple[Indices, Indices]:
        """For every sample the column at which it stops and the column that answers."""

    @abstractmethod
    def stop_costs(self) -> Floats:
        """Milliseconds of stopping at each column ``[K]``, everything included."""

    def simulate(
        self, outcomes: Outcomes, threshold: float, *, probabilities: Floats | None = None
    ) -> Simulated:
        """What the policy does at `threshold`; give `probabilities` when they are known already."""
        known = self.probabilities(outcomes) if probabilities is None else probabilities
        stop, answer = self.decide(known, threshold)
        right = outcomes.with_models(self.models).right
        return Simulated(threshold, answer, right[np.arange(len(right)), answer], self.stop_costs()[stop])

    def thresholds(self, outcomes: Outcomes, *, count: int = 200) -> Floats:
        """Thresholds at which choices change, most conservative first; never from certify or test samples."""
        return threshold_grid(self.probabilities(outcomes), count=count)

    def frontier(self, outcomes: Outcomes, thresholds: Sequence[float] | Floats) -> list[Simulated]:
        """Simulations at all `thresholds`."""
        probabilities = self.probabilities(outcomes)
        narrowed = outcomes.with_models(self.models)
        return [
            Simulated(
                float(threshold),
                answer,
                narrowed.right[np.arange(len(narrowed)), answer],
                self.stop_costs()[stop],
            )
            for threshold in thresholds
            for stop, answer in [self.decide(probabilities, float(threshold))]
        ]


class FittedInputPolicy(FittedPolicy):
    """An input policy: a graph from features to scores decides before any model runs.

    Parameters
    ----------
    scores_onnx
        ``features`` float32 ``[N, F]`` → ``scores`` float32 ``[N, M]``, columns as ``policy.order``.
    features
        Names of the F features.
    """

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
        self.policy = policy
        self.scores_onnx = scores_onnx
        self.features = tuple(features)

    @cached_property
    def _session(self) -> ort.InferenceSession:
        return ort.InferenceSession(self.scores_onnx, providers=["CPUExecutionProvider"])

    def probabilities(self, outcomes: Outcomes) -> Floats:
        columns = [outcomes.feature_names.index(name) for name in self.features]
        return self.scores(np.ascontiguousarray(outcomes.features[:, columns]))

    def scores(self, features: NDArray[np.float32]) -> Floats:
        """Scores ``[N, M]`` of features ``[N, F]``."""
        scores: Floats = self._session.run(["scores"], {"features": features})[0].astype(np.float64)
        return scores

    def decide(self, probabilities: Floats, threshold: float) -> tuple[Indices, Indices]:
        picks = choose(probabilities, threshold)
        return picks, picks

    def stop_costs(self) -> Floats:
        return np.array([self.costs[name] for name in self.models]) + self.overhead_ms


class FittedCascade(FittedPolicy):
    """A cascade on raw confidence."""

    def __init__(self, policy: CascadePolicy, costs: Mapping[str, float]) -> None:
        super().__init__(costs)
        self.policy: CascadePolicy = policy

    def probabilities(self, outcomes: Outcomes) -> Floats:
        return np.stack(
            [
                right_probability(stage, outcomes.log_odds[:, outcomes.models.index(stage.model)])
                for stage in self.policy.stages
            ],
            axis=1,
        )

    def decide(self, probabilities: Floats, threshold: float) -> tuple[Indices, Indices]:
        return escalate(probabilities, threshold)

    def stop_costs(self) -> Floats:
        total: Floats = np.cumsum([self.costs[name] for name in self.models])
        return total


def threshold_grid(probabilities: Floats, *, count: int = 200) -> Floats:
    """Thresholds in descending order: above everything, then quantiles of the probabilities, then 0."""
    levels = np.quantile(probabilities, np.linspace(1, 0, count))
    return np.unique(np.concatenate([[NEVER], levels, [0.0]]))[::-1]


def by_cost(costs: Mapping[str, float], models: Sequence[str]) -> tuple[str, ...]:
    """`models` from cheapest to dearest; equal costs in name order."""
    missing = [name for name in models if name not in costs]
    if missing:
        raise DataError(
            f"expected the cost of every model, got none for {', '.join(missing)}. Run 'zooselect bench'."
        )
    return tuple(sorted(models, key=lambda name: (costs[name], name)))


def cheapest_reaching(frontier: Sequence[Simulated], precision: float) -> Simulated | None:
    """The cheapest simulation whose accuracy reaches `precision`, or None."""
    enough = [point for point in frontier if point.accuracy >= precision]
    return min(enough, key=lambda point: point.mean_ms) if enough else None


def frontier_quality(frontier: Sequence[Simulated], low_ms: float, high_ms: float) -> float:
    """Mean, over 16 time budgets from `low_ms` to `high_ms`, of the best accuracy within the budget.

    The budgets are spaced evenly in log time. Budgets that nothing meets count as the least accuracy.
    """
    points = sorted((point.mean_ms, point.accuracy) for point in frontier)
    times = np.array([time for time, _ in points])
    best = np.maximum.accumulate([accuracy for _, accuracy in points])
    budgets = np.geomspace(low_ms, max(high_ms, low_ms * 1.0001), 16)
    places = np.searchsorted(times, budgets * (1 + 1e-9), side="right") - 1
    return float(np.where(places >= 0, best[np.maximum(places, 0)], best.min()).mean())
