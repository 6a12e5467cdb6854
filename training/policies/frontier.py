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
SINGLE, DOUBLE = 2.0**-23, 2.0**-52  # steps of float32 and of float64 at 1: what a probability is rounded to
_SAME_ODDS = 1e-5  # log-odds that are closer than this are the same, but for the rounding of models
_ONE_VALUE = 8  # neighbours within so many margins are one value that was rounded in different ways
MAX_WAYS = 64  # costs that an outline keeps; where every answer has its own, neighbours are put together
_NEARBY = 32  # values among which the widest gap is sought


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

    def rest_ms(self, unit_ms: float) -> float:
        """Mean of what costs are beside whole units."""

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

    def rest_ms(self, unit_ms: float) -> float:
        """Mean of what costs are beside whole units."""
        return float((self.cost_ms % unit_ms).mean())

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
    halves: Indices  # [H], right answers in first halves of the samples

    @classmethod
    def of(
        cls, point: Simulated, reference: NDArray[np.bool_], doubt: float, first: NDArray[np.bool_]
    ) -> Outline:
        """What is kept of a point, beside a reference model that is right on `reference` ``[n]``.

        Parameters
        ----------
        first
            Which samples are in the first half ``[H, n]``.
        """
        costs, counts = _grouped(*np.unique(point.cost_ms, return_counts=True))
        better, worse = int((point.right & ~reference).sum()), int((~point.right & reference).sum())
        halves = np.count_nonzero(first & point.right, axis=1)
        return cls(point.threshold, doubt, costs, counts, int(point.right.sum()), better, worse, halves)

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

    def rest_ms(self, unit_ms: float) -> float:
        """Mean of what costs are beside whole units."""
        return float(self.counts @ (self.costs_ms % unit_ms)) / self.samples

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


def cost_at(costs: Floats, places: Indices) -> Floats:
    """What samples ``[n]`` cost that end at `places`, from costs ``[K]`` or ``[n, K]`` of the ways to end."""
    found: Floats = costs[places] if costs.ndim == 1 else costs[np.arange(len(places)), places]
    return found


def _grouped(costs: Floats, counts: Indices) -> tuple[Floats, Indices]:
    """Ascending costs in at most :data:`MAX_WAYS` groups of neighbours, each with its mean."""
    if len(costs) <= MAX_WAYS:
        return costs, counts
    total = np.cumsum(counts)
    wanted = np.arange(1, MAX_WAYS) * (total[-1] / MAX_WAYS)
    starts = np.unique(np.concatenate([[0], np.searchsorted(total, wanted)]))
    sizes = np.add.reduceat(counts, starts)
    return np.add.reduceat(costs * counts, starts) / sizes, sizes


def halfway(wanted: Floats, values: Floats, rounding: Floats) -> Floats:
    """Thresholds between values that occur: what `wanted` ones do, but nothing hangs on the last bits.

    Graphs and batches of other sizes round otherwise. A threshold on a value that many samples share would
    part them by that.

    Parameters
    ----------
    wanted
        Thresholds ``[T]``; a value is enough where it is not below.
    values
        ``[n]``, what occurs.
    rounding
        ``[n]``, by how much each may be off, with a wide margin.

    Returns
    -------
    ndarray
        Thresholds ``[T or fewer]``, each in the middle between two neighbouring values. Neighbours that
        rounding may have parted are one value; where so many lie in a row that they are no one value, the
        widest gap nearby is taken. What is left below no gap is left out: every value is enough there.
    """
    order = np.argsort(values)
    ordered, margin = values[order], rounding[order]
    distinct = np.concatenate([[True], np.diff(ordered) > 0]) if len(ordered) else np.zeros(0, np.bool_)
    ordered, margin = ordered[distinct], margin[distinct]
    gaps = np.diff(ordered)
    clear = gaps > margin[:-1] + margin[1:]
    starts = np.concatenate([[0], np.flatnonzero(clear) + 1])
    found = []
    for place in np.searchsorted(ordered, wanted, side="left").tolist():  # the first value that is enough
        if not 0 < place < len(ordered):
            continue
        gap = place - 1
        if not clear[gap]:
            group = int(np.searchsorted(starts, gap, side="right"))
            first = int(starts[group - 1])
            last = int(starts[group]) - 1 if group < len(starts) else len(ordered) - 1
            if ordered[last] - ordered[first] > _ONE_VALUE * margin[first : last + 1].max():
                near = max(first, gap - _NEARBY)
                gap = near + int(gaps[near : gap + 1].argmax())
            else:
                gap = first - 1
        if gap >= 0:
            low, high = float(ordered[gap]), float(ordered[gap + 1])
            middle = (low + high) / 2
            found.append(middle if middle > low else high)
    return np.array(found)


def threshold_grid(probabilities: Floats, *, count: int = 200, rounding: float | None = None) -> Floats:
    """Thresholds in descending order: above everything, then quantiles of the probabilities, then 0.

    Parameters
    ----------
    rounding
        Of the numbers that the probabilities were computed in, such as :data:`SINGLE`: thresholds that a
        device shall use lie :func:`halfway` between values. None: on values.
    """
    levels = np.quantile(probabilities, np.linspace(1, 0, count))
    if rounding is not None:
        values = np.unique(probabilities)
        levels = halfway(np.unique(levels), values, _SAME_ODDS * values * (1 - values) + 4 * rounding)
    return np.unique(np.concatenate([[UNREACHABLE_THRESHOLD], levels, [0.0]]))[::-1]


def cascade_thresholds(probabilities: Floats, *, count: int = 200, rounding: float | None = None) -> Floats:
    """Thresholds of a cascade on probabilities ``[n, K]``; the last stage answers whatever its own is."""
    if probabilities.shape[1] == 1:
        return np.zeros(1)
    return threshold_grid(probabilities[:, :-1], count=count, rounding=rounding)


Gains = Sequence[
    tuple[Floats, Floats]
]  # gains in probability [n, A], and the extra milliseconds [A] they cost


def price_grid(gains: Gains, *, count: int = 200, rounding: float | None = None, among: Gains = ()) -> Floats:
    """Prices of a millisecond at which choices change, lowest first: 0, quantiles, above everything.

    Parameters
    ----------
    gains
        Over stopping. What costs nothing more is worth its gain at any price.
    rounding
        As of :func:`threshold_grid`; the lowest price lies above 0 then, and of ways that are as good the
        cheapest is taken.
    among
        Of ways to go on over cheaper ones: what changes at these prices too, but for `rounding` does not
        matter.
    """
    prices = np.concatenate([np.zeros(1), _rates(gains)[0]])
    grid = np.unique(np.quantile(prices, np.linspace(0, 1, count)))
    top = 2 * grid[-1] + 1.0
    if rounding is None:
        return np.concatenate([[0.0], grid[grid > 0], [top]])
    rates, extra = _rates([*gains, *among])
    values = np.concatenate([np.zeros(1), rates])
    apart = (_SAME_ODDS / 2 + 8 * rounding) / np.concatenate([[np.inf], extra])
    return np.unique([*-halfway(-grid, -values, apart), max(top, 2 * float(values.max()) + 1.0)])


def _rates(gains: Gains) -> tuple[Floats, Floats]:
    """Gains in probability a millisecond, where there are any, and the milliseconds ``[n]`` of each."""
    rates, extras = [np.zeros(0)], [np.zeros(0)]
    for gain, extra in gains:
        gain, extra = gain[:, extra > 0], np.maximum(extra[extra > 0], 1e-9)
        rate, wide = (gain / extra).ravel(), np.broadcast_to(extra, gain.shape).ravel()
        rates.append(rate[rate > 0])
        extras.append(wide[rate > 0])
    return np.concatenate(rates), np.concatenate(extras)


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
