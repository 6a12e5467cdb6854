"""The committee cascade: models that ran answer together, and stop when they are sure enough together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.calibration import (
    calibrated,
    cross_calibrated,
    fit_calibrations,
)
from benchmarks.peers.peer import NO_MODEL, SETTINGS, Peer, error_prices, some_rows, useful_models
from training.outcomes.folds import Folds, grouped_folds
from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Floats, Indices, Simulated

MAX_STAGES = 4
MAX_MODELS = 10  # chains are tried among so many
MAX_ROWS = 8000
# Thresholds a stage that are tried, in chains of two, three and four models: all combinations of them.
THRESHOLDS = (200, 50, 24)

Stages = tuple[int, ...]  # columns of models in the order they run


@dataclass(frozen=True)
class Pooled:
    """The mean of the probabilities of some models: how sure it is, and whether its answer is right."""

    score: Floats  # [n], the largest mean probability
    right: NDArray[np.bool_]  # [n]


@dataclass(frozen=True)
class Committee:
    """Models in the order they run; they stop where the mean of their probabilities reaches a threshold."""

    stages: Stages
    thresholds: tuple[float, ...]  # for every stage but the last

    def stops(self, pools: Mapping[Stages, Pooled]) -> Indices:
        """Position of the stage at which every sample stops ``[n]``."""
        count = len(pools[self.stages].score)
        left = np.ones(count, dtype=np.bool_)
        stops = np.full(count, len(self.stages) - 1)
        for position, threshold in enumerate(self.thresholds):
            accepted = left & (pools[self.stages[: position + 1]].score >= threshold)
            stops[accepted] = position
            left &= ~accepted
        return stops


class CommitteeCascade(Peer):
    """Chains of one to four models; the answer is the largest mean probability of the models that ran.

    Thresholds of a chain are chosen jointly: all combinations of a grid, for errors of different prices. The
    chain for a price is the one whose thresholds, chosen on all folds but one, do best on that one. Folds
    are answered with calibrations that were fitted on the others.
    """

    decides = True
    biases: ClassVar[bool]

    def _settle(self, development: Outcomes) -> None:
        rows = some_rows(development, MAX_ROWS, self.seed)
        folds = grouped_folds(rows.groups)
        self.calibrations = fit_calibrations(rows, biases=self.biases)
        shares = cross_calibrated(rows, folds, biases=self.biases)
        self._search(rows, shares, folds)

    def _search(self, rows: Outcomes, shares: Floats, folds: Folds) -> None:
        """Choose chains and thresholds on cross-fitted probabilities ``[n, M, C]``."""
        members = useful_models(rows.right, self.costs, MAX_MODELS).tolist()
        chains = [s for size in range(1, MAX_STAGES + 1) for s in combinations(members, size)]
        pools = pool(shares, rows, chains)
        parts = np.empty(len(rows), dtype=np.intp)
        for number, (_, held) in enumerate(folds):
            parts[held] = number
        self.prices = error_prices(self.costs, SETTINGS)
        best = np.full(len(self.prices), -np.inf)
        chosen: list[tuple[Committee, list[Committee]]] = [(Committee((0,), ()), [])] * len(self.prices)
        for stages in chains:
            searched = JointSearch.of(stages, pools, self.costs, parts)
            values, whole, parted = searched.choices(self.prices)
            for i in np.flatnonzero(values > best):
                best[i] = values[i]
                chosen[i] = searched.committee(whole[i]), [searched.committee(at) for at in parted[:, i]]
        self.settings = [setting for setting, _ in chosen]
        self._held = []
        for price, (setting, each) in zip(self.prices, chosen, strict=True):
            stops = np.zeros(len(rows), dtype=np.intp)
            for number, committee in enumerate(each):
                held = parts == number
                stops[held] = committee.stops(pools)[held]
            self._held.append(self._stopped(float(price), setting.stages, stops, pools))

    def _development_points(self, aligned: Outcomes) -> list[Simulated]:
        return self._held

    def _points(self, outcomes: Outcomes) -> list[Simulated]:
        shares = calibrated(outcomes, self.calibrations)
        pools = pool(shares, outcomes, [setting.stages for setting in self.settings])
        return [
            self._stopped(float(price), setting.stages, setting.stops(pools), pools)
            for price, setting in zip(self.prices, self.settings, strict=True)
        ]

    def _stopped(
        self, setting: float, stages: Stages, stops: Indices, pools: Mapping[Stages, Pooled]
    ) -> Simulated:
        rights = np.stack([pools[stages[: end + 1]].right for end in range(len(stages))])
        return Simulated(
            setting,
            np.full(len(stops), NO_MODEL),
            rights[stops, np.arange(len(stops))],
            np.cumsum(self.costs[list(stages)])[stops],
        )


class TemperatureCommittee(CommitteeCascade):
    """Every model has its temperature."""

    name = "committee-temperature"
    source = (
        "Wang et al., Wisdom of Committees, ICLR 2022, on temperature-scaled models (Guo et al., ICML 2017)"
    )
    biases = False


class VectorCommittee(CommitteeCascade):
    """Every model has its temperature and a bias for every class."""

    name = "committee-vector"
    source = "Wang et al., Wisdom of Committees, ICLR 2022, on vector-scaled models (Guo et al., ICML 2017)"
    biases = True


def pool(shares: Floats, outcomes: Outcomes, chains: Sequence[Stages]) -> dict[Stages, Pooled]:
    """Mean probabilities of every prefix of the chains, from probabilities ``[n, M, C]``."""
    wanted = sorted({stages[: end + 1] for stages in chains for end in range(len(stages))})
    found: dict[Stages, Pooled] = {}
    sums: list[Floats] = []  # of the first models of the chain at hand: prefixes come before what they start
    for stages in wanted:
        del sums[len(stages) - 1 :]
        last = shares[:, stages[-1]]
        sums.append(sums[-1] + last if sums else last)
        found[stages] = Pooled(sums[-1].max(axis=1) / len(stages), outcomes.right_of(sums[-1]))
    return found


@dataclass(frozen=True)
class JointSearch:
    """All combinations of thresholds of one chain, counted for every fold."""

    stages: Stages
    cuts: tuple[Floats, ...]  # thresholds of every stage but the last, ascending
    sizes: Floats  # [F], samples
    right: Floats  # [F, combinations], right answers
    spent: Floats  # [F, combinations], milliseconds

    @classmethod
    def of(cls, stages: Stages, pools: Mapping[Stages, Pooled], costs: Floats, parts: Indices) -> JointSearch:
        """Counts for thresholds at quantiles; most of them low, as most inputs stop early."""
        shape = [int(parts.max()) + 1]
        cuts, bins = [], [parts]
        for end in range(1, len(stages)):
            score = pools[stages[:end]].score
            count = THRESHOLDS[len(stages) - 2]
            cut = np.unique(np.quantile(score, np.linspace(0, 1, count) ** 2))
            cut = np.append((cut[1:] + cut[:-1]) / 2, np.inf)
            cuts.append(cut)
            bins.append(np.searchsorted(cut, score, side="right"))
            shape.append(len(cut))  # a score is at least as large as 0, …, all but the last of the thresholds
        sizes = np.bincount(parts, minlength=shape[0]).astype(np.float64)
        right = np.zeros(shape)
        spent = np.zeros(shape)
        for end in range(len(stages)):
            mine = pools[stages[: end + 1]].right
            reach, taken = (_cumulated(bins[: end + 1], shape[: end + 1], w) for w in (None, mine))
            spent += costs[stages[end]] * _spread(reach, len(shape))
            right += _spread(taken, len(shape))
            if end < len(stages) - 1:
                passed = _cumulated(bins[: end + 2], shape[: end + 2], mine)
                right -= _spread(passed, len(shape))
        return cls(stages, tuple(cuts), sizes, right.reshape(shape[0], -1), spent.reshape(shape[0], -1))

    def choices(self, prices: Floats) -> tuple[Floats, Indices, Indices]:
        """For every price of an error: the cross-validated value, the best combination, and those that are
        best without one fold ``[F, prices]``."""
        whole = self._best(self.right.sum(axis=0), self.spent.sum(axis=0), prices)
        if not self.cuts:
            parted = np.zeros((len(self.sizes), len(prices)), dtype=np.intp)
        else:
            parted = np.stack(
                [
                    self._best(
                        self.right.sum(axis=0) - self.right[f], self.spent.sum(axis=0) - self.spent[f], prices
                    )
                    for f in range(len(self.sizes))
                ]
            )
        held = [prices * self.right[f, at] - self.spent[f, at] for f, at in enumerate(parted)]
        values: Floats = np.sum(held, axis=0) / self.sizes.sum()
        return values, whole, parted

    def committee(self, combination: int) -> Committee:
        """The committee cascade with a combination of thresholds."""
        places = np.unravel_index(combination, [len(cut) for cut in self.cuts]) if self.cuts else ()
        thresholds = tuple(float(cut[at]) for cut, at in zip(self.cuts, places, strict=True))
        return Committee(self.stages, thresholds)

    @staticmethod
    def _best(right: Floats, spent: Floats, prices: Floats) -> Indices:
        # What another beats in both is best at no price: few are left to be looked at for each price.
        order = np.lexsort((-right, spent))
        worth = right[order]
        kept = order[worth > np.append(-1.0, np.maximum.accumulate(worth)[:-1])]
        best: Indices = kept[(np.outer(prices, right[kept]) - spent[kept]).argmax(axis=1)]
        return best


def _cumulated(bins: Sequence[Indices], shape: Sequence[int], weights: NDArray[np.bool_] | None) -> Floats:
    """Per fold, the sum over samples that no stage accepts, for each combination of thresholds.

    The last bin of a stage, of scores at least as large as all finite thresholds, passes at infinity alone.
    """
    flat = np.ravel_multi_index(tuple(bins), tuple(shape))
    counted = np.bincount(flat, None if weights is None else weights.astype(np.float64), int(np.prod(shape)))
    table: Floats = counted.reshape(shape).astype(np.float64)
    for axis in range(1, len(shape)):
        np.cumsum(table, axis=axis, out=table)
    return table


def _spread(table: Floats, axes: int) -> Floats:
    return table.reshape(table.shape + (1,) * (axes - table.ndim))
