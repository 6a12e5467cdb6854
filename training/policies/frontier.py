"""Frontiers: what policies do over their thresholds, and which points are worth having."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from selector.policies.rules import Floats as Floats
from selector.policies.rules import Indices as Indices
from zoo.errors import DataError

UNREACHABLE_THRESHOLD = 2.0  # a threshold above every probability: the most conservative choice


class Point(Protocol):
    """What is asked of a point of a frontier, whether its samples are kept or only counted."""

    @property
    def threshold(self) -> float: ...
    @property
    def doubt(self) -> float: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def mean_ms(self) -> float: ...
    @property
    def spread_ms(self) -> float: ...

    def share_within(self, budget_ms: float) -> float:
        """Share of the samples that cost no more."""

    def lead(self, reference: NDArray[np.bool_]) -> tuple[float, float]:
        """Mean and standard deviation of being right more often than `reference` ``[n]``."""


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

    def share_within(self, budget_ms: float) -> float:
        """Share of the samples that cost no more."""
        return float((self.cost_ms <= budget_ms).mean())

    def lead(self, reference: NDArray[np.bool_]) -> tuple[float, float]:
        """Mean and standard deviation of being right more often than `reference` ``[n]``."""
        lead = self.right.astype(np.float64) - reference
        return float(lead.mean()), float(lead.std())


@dataclass(frozen=True)
class Outline:
    """A simulated point of which only counts are kept: a few numbers, whatever the number of samples."""

    threshold: float
    doubt: float  # as of Simulated
    costs_ms: Floats  # [K], of the ways to end that occur
    counts: Indices  # [K], samples that ended so
    right: int  # samples with a right answer
    better: int  # of these, samples on which the reference model is wrong
    worse: int  # samples on which only the reference model is right

    @classmethod
    def of(cls, point: Simulated, reference: NDArray[np.bool_], doubt: float) -> Outline:
        """What is kept of a point, beside a reference model that is right on `reference` ``[n]``."""
        costs, counts = np.unique(point.cost_ms, return_counts=True)
        better, worse = int((point.right & ~reference).sum()), int((~point.right & reference).sum())
        return cls(point.threshold, doubt, costs, counts, int(point.right.sum()), better, worse)

    @cached_property
    def samples(self) -> int:
        """How many were simulated."""
        return int(self.counts.sum())

    @cached_property
    def accuracy(self) -> float:
        """Share of right answers over all samples."""
        return self.right / self.samples

    @cached_property
    def mean_ms(self) -> float:
        """Mean cost."""
        return float(self.counts @ self.costs_ms) / self.samples

    @cached_property
    def spread_ms(self) -> float:
        """Standard deviation of the cost."""
        return math.sqrt(float(self.counts @ (self.costs_ms - self.mean_ms) ** 2) / self.samples)

    def share_within(self, budget_ms: float) -> float:
        """Share of the samples that cost no more."""
        return int(self.counts[self.costs_ms <= budget_ms].sum()) / self.samples

    def lead(self, reference: NDArray[np.bool_]) -> tuple[float, float]:
        """Mean and standard deviation of being right more often than a reference model.

        Parameters
        ----------
        reference
            That of :meth:`of`, whose samples are counted already; or right on none, for the accuracy itself.
        """
        if not reference.any():
            return self.accuracy, math.sqrt(self.accuracy * (1 - self.accuracy))
        mean = (self.better - self.worse) / self.samples
        square = (self.better + self.worse) / self.samples
        return mean, math.sqrt(max(0.0, square - mean**2))


def threshold_grid(probabilities: Floats, *, count: int = 200) -> Floats:
    """Thresholds in descending order: above everything, then quantiles of the probabilities, then 0."""
    levels = np.quantile(probabilities, np.linspace(1, 0, count))
    return np.unique(np.concatenate([[UNREACHABLE_THRESHOLD], levels, [0.0]]))[::-1]


def cascade_thresholds(probabilities: Floats, *, count: int = 200) -> Floats:
    """Thresholds of a cascade on probabilities ``[n, K]``; the last stage answers whatever its own is."""
    return threshold_grid(probabilities[:, :-1], count=count) if probabilities.shape[1] > 1 else np.zeros(1)


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


def frontier_quality(frontier: Sequence[Point], low_ms: float, high_ms: float) -> float:
    """Mean, over 16 time budgets from `low_ms` to `high_ms`, of the best accuracy within the budget.

    The budgets are spaced evenly in log time. Budgets that nothing meets count as the least accuracy.
    """
    points = sorted((point.mean_ms, point.accuracy) for point in frontier)
    times = np.array([time for time, _ in points])
    best = np.maximum.accumulate([accuracy for _, accuracy in points])
    budgets = np.geomspace(low_ms, max(high_ms, low_ms * 1.0001), 16)
    places = np.searchsorted(times, budgets * (1 + 1e-9), side="right") - 1
    return float(np.where(places >= 0, best[np.maximum(places, 0)], best.min()).mean())
