"""Fitted policies: one interface from outcomes to answers, costs and frontiers, for every kind of policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from selector.policy import (
    CascadePolicy,
    InputPolicy,
    LookaheadPolicy,
    Policy,
    escalate,
    next_action,
    right_probability,
)
from training.outcomes import Outcomes
from zoo.errors import DataError
from zoo.model import open_session

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
    doubt: float = 0.0  # standard error of the accuracy gained over single models at the same mean cost

    @cached_property
    def accuracy(self) -> float:
        """Share of right answers over all samples."""
        return float(self.right.mean())

    @cached_property
    def mean_ms(self) -> float:
        """Mean cost."""
        return float(self.cost_ms.mean(dtype=np.float64))

    @cached_property
    def spread_ms(self) -> float:
        """Standard deviation of the cost."""
        return float(self.cost_ms.std(dtype=np.float64))


Simulator = Callable[[float], Simulated]  # threshold → what the policy does


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
    kind: str  # input, cascade or probe

    def __init__(self, costs: Mapping[str, float], *, overhead_ms: float = 0.0) -> None:
        self.costs = dict(costs)
        self.overhead_ms = overhead_ms

    @property
    def models(self) -> tuple[str, ...]:
        """Models of the policy, cheapest first."""
        return self.policy.models

    @abstractmethod
    def simulator(self, outcomes: Outcomes) -> Simulator:
        """Everything that does not depend on the threshold, computed once for these outcomes."""

    @abstractmethod
    def thresholds(self, outcomes: Outcomes, *, count: int = 200) -> Floats:
        """Thresholds at which choices change, most conservative first; never from certify or test samples."""

    def sequence(self, outcomes: Outcomes) -> list[float]:
        """Thresholds worth certifying, most accurate first, from fit and tune samples.

        Only those remain that no other beats in both accuracy and time: more caution than pays is left out.
        """
        return [point.threshold for point in pareto(self.frontier(outcomes, self.thresholds(outcomes)))]

    @abstractmethod
    def estimates(self, outcomes: Outcomes) -> dict[str, tuple[Floats, NDArray[np.bool_]]]:
        """Per answer that can be given: estimated probability of being right ``[n]``, and whether it is."""

    @abstractmethod
    def possible_costs_ms(self) -> list[float]:
        """What an answer can cost, one value for each way in which the policy can end."""

    def simulate(self, outcomes: Outcomes, threshold: float) -> Simulated:
        """What the policy does at `threshold`."""
        return self.simulator(outcomes)(threshold)

    def frontier(self, outcomes: Outcomes, thresholds: Sequence[float] | Floats) -> list[Simulated]:
        """Simulations at all `thresholds`."""
        at = self.simulator(outcomes)
        return [at(float(threshold)) for threshold in thresholds]


class _Scored(FittedPolicy):
    """A policy with one probability per model and sample."""

    @abstractmethod
    def probabilities(self, outcomes: Outcomes) -> Floats:
        """Estimated probability of being right ``[n, K]``, columns as :attr:`models`."""

    @abstractmethod
    def decide(self, probabilities: Floats, threshold: float) -> Indices:
        """For every sample the column at which it stops and that answers."""

    @abstractmethod
    def stop_costs(self) -> Floats:
        """Milliseconds of stopping at each column ``[K]``, everything included."""

    def simulator(self, outcomes: Outcomes) -> Simulator:
        probabilities = self.probabilities(outcomes)
        right = outcomes.with_models(self.models).right
        costs, rows = self.stop_costs(), np.arange(len(right))

        def at(threshold: float) -> Simulated:
            stop = self.decide(probabilities, threshold)
            return Simulated(threshold, stop, right[rows, stop], costs[stop])

        return at

    def thresholds(self, outcomes: Outcomes, *, count: int = 200) -> Floats:
        return threshold_grid(self.probabilities(outcomes), count=count)

    def possible_costs_ms(self) -> list[float]:
        return [float(cost) for cost in self.stop_costs()]

    def estimates(self, outcomes: Outcomes) -> dict[str, tuple[Floats, NDArray[np.bool_]]]:
        probabilities = self.probabilities(outcomes)
        right = outcomes.with_models(self.models).right
        return {name: (probabilities[:, j], right[:, j]) for j, name in enumerate(self.models)}


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

    def probabilities(self, outcomes: Outcomes) -> Floats:
        return self.scores(outcomes.feature_columns(self.features))

    def scores(self, features: NDArray[np.float32]) -> Floats:
        """Scores ``[N, K]`` of features ``[N, F]``, columns as :attr:`models`."""
        scores: Floats = self._session.run(["scores"], {"features": features})[0].astype(np.float64)
        return scores[:, [self.policy.order.index(name) for name in self.models]]

    def decide(self, probabilities: Floats, threshold: float) -> Indices:
        return next_action(probabilities, self.policy.costs_ms, threshold, self.policy.rule)

    def thresholds(self, outcomes: Outcomes, *, count: int = 200) -> Floats:
        return input_thresholds(self.probabilities(outcomes), self.policy, count=count)

    def stop_costs(self) -> Floats:
        return np.array([self.costs[name] for name in self.models]) + self.overhead_ms


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

    def possible_costs_ms(self) -> list[float]:
        return [float(cost) for cost in self.stop_costs()]


class FittedCascade(ConfidenceChain, _Scored):
    """A cascade on raw confidence."""

    policy: CascadePolicy

    def probabilities(self, outcomes: Outcomes) -> Floats:
        return np.stack(
            [
                right_probability(stage, outcomes.log_odds[:, outcomes.models.index(stage.model)])
                for stage in self.policy.stages
            ],
            axis=1,
        )

    def decide(self, probabilities: Floats, threshold: float) -> Indices:
        return escalate(probabilities, threshold)

    def thresholds(self, outcomes: Outcomes, *, count: int = 200) -> Floats:
        return cascade_thresholds(self.probabilities(outcomes), count=count)


def threshold_grid(probabilities: Floats, *, count: int = 200) -> Floats:
    """Thresholds in descending order: above everything, then quantiles of the probabilities, then 0."""
    levels = np.quantile(probabilities, np.linspace(1, 0, count))
    return np.unique(np.concatenate([[NEVER], levels, [0.0]]))[::-1]


def cascade_thresholds(probabilities: Floats, *, count: int = 200) -> Floats:
    """Thresholds of a cascade on probabilities ``[n, K]``; the last stage answers whatever its own is."""
    return threshold_grid(probabilities[:, :-1], count=count) if probabilities.shape[1] > 1 else np.zeros(1)


def input_thresholds(scores: Floats, policy: InputPolicy, *, count: int = 200) -> Floats:
    """Thresholds of an input policy on scores ``[n, M]``, most conservative first."""
    if policy.rule == "threshold":
        return threshold_grid(scores, count=count)
    return price_grid(
        [
            (scores[:, [i]] - scores[:, :i], cost - np.array(policy.costs_ms[:i]))
            for i, cost in enumerate(policy.costs_ms)
            if i
        ],
        count=count,
    )


def price_grid(gains: Sequence[tuple[Floats, Floats]], *, count: int = 200) -> Floats:
    """Prices of a millisecond at which choices change, lowest first: 0, quantiles, above everything.

    Parameters
    ----------
    gains
        Pairs of gains in probability ``[n, A]`` and of the extra milliseconds ``[A]`` they cost.
    """
    prices = [np.zeros(1)]
    for gain, extra in gains:
        rates = (gain / np.maximum(extra, 1e-9)).ravel()
        prices.append(rates[rates > 0])
    grid = np.unique(np.quantile(np.concatenate(prices), np.linspace(0, 1, count)))
    return np.concatenate([[0.0], grid[grid > 0], [2 * grid[-1] + 1.0]])


def input_frontier(
    scores: Floats, right: NDArray[np.bool_], costs: Floats, policy: InputPolicy, *, count: int = 60
) -> list[Simulated]:
    """Frontier of an input policy's rule on scores ``[n, M]``, at costs ``[M]`` with everything included."""
    rows = np.arange(len(scores))
    points = []
    for threshold in input_thresholds(scores, policy, count=count):
        picks = next_action(scores, policy.costs_ms, float(threshold), policy.rule)
        points.append(Simulated(float(threshold), picks, right[rows, picks], costs[picks]))
    return points


def by_cost(costs: Mapping[str, float], models: Sequence[str]) -> tuple[str, ...]:
    """`models` from cheapest to dearest; equal costs in name order."""
    missing = [name for name in models if name not in costs]
    if missing:
        raise DataError(
            f"expected the cost of every model, got none for {', '.join(missing)}. Run 'zooselect bench'."
        )
    return tuple(sorted(models, key=lambda name: (costs[name], name)))


def pareto(frontier: Sequence[Simulated]) -> list[Simulated]:
    """The points that no other beats in both accuracy and time, most accurate first."""
    times, accuracy = ([getattr(p, name) for p in frontier] for name in ("mean_ms", "accuracy"))
    return [frontier[i] for i in pareto_places(times, accuracy)]


def pareto_places(mean_ms: Sequence[float] | Floats, accuracy: Sequence[float] | Floats) -> list[int]:
    """Which points no other beats in both accuracy and time, most accurate first."""
    kept: list[int] = []
    for i in np.lexsort((-np.asarray(accuracy), np.asarray(mean_ms))).tolist():
        if not kept or accuracy[i] > accuracy[kept[-1]]:
            kept.append(i)
    return kept[::-1]


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
