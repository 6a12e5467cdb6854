"""The max-softmax cascade: run a cheap model, accept its answer if its largest probability is high enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.peer import SETTINGS, Peer, error_prices, some_rows, useful_models
from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Floats, Indices, Simulated, pareto_places

MAX_STAGES = 4
MAX_MODELS = 12  # chains of three and four models are tried among so many
MAX_ROWS = 8000
MAX_SETTINGS = 60
SHARED_THRESHOLDS = 100
SWEEPS = 3


@dataclass(frozen=True)
class Chain:
    """Columns of the models in the order they run, and a threshold for every stage but the last.

    Thresholds are log-odds of the largest softmax probability: the same order, without rounding to 1.
    """

    stages: tuple[int, ...]
    thresholds: tuple[float, ...]

    def stops(self, scores: Floats) -> Indices:
        """Position of the stage at which every row of `scores` ``[n, M]`` stops."""
        left = np.ones(len(scores), dtype=bool)
        stops = np.full(len(scores), len(self.stages) - 1)
        for position, threshold in enumerate(self.thresholds):
            accepted = left & (scores[:, self.stages[position]] >= threshold)
            stops[accepted] = position
            left &= ~accepted
        return stops


@dataclass(frozen=True)
class Table:
    """What chains are tried on."""

    scores: Floats  # [n, M]
    right: NDArray[np.bool_]  # [n, M]
    costs: Floats  # [M]

    def try_chain(self, chain: Chain) -> tuple[float, float]:
        """Mean cost and accuracy."""
        stops = chain.stops(self.scores)
        answers = np.array(chain.stages)[stops]
        spent = np.cumsum(self.costs[list(chain.stages)])[stops]
        return float(spent.mean()), float(self.right[np.arange(len(stops)), answers].mean())


class MaxSoftmaxCascade(Peer):
    """Chains of one to four models.

    Of two models, every threshold between adjacent scores is tried. Longer chains are tried with one
    threshold for all stages; the best are then improved stage by stage, every threshold of a stage being
    tried while the others stay, for errors of different prices. Settings are points of the frontier of all
    of these.
    """

    name = "max-softmax-cascade"
    decides = True
    source = (
        "cascade on the maximum softmax probability (Hendrycks and Gimpel, ICLR 2017), thresholds exhaustive"
    )

    def _settle(self, development: Outcomes) -> None:
        rows = some_rows(development, MAX_ROWS, self.seed)
        self._chains = spread(candidates(Table(rows.log_odds, rows.right, self.costs)))

    def _points(self, outcomes: Outcomes) -> list[Simulated]:
        points = []
        for chain in self._chains:
            stops = chain.stops(outcomes.log_odds)
            stages = np.array(chain.stages)
            first = chain.thresholds[0] if chain.thresholds else -np.inf
            points.append(
                self._answer(outcomes, float(first), stages[stops], np.cumsum(self.costs[stages])[stops])
            )
        return points


def candidates(table: Table) -> list[tuple[float, float, Chain]]:
    """Mean cost, accuracy and chain of everything on the frontier of the search, cheapest first."""
    count = len(table.costs)
    found = [(*table.try_chain(Chain((j,), ())), Chain((j,), ())) for j in range(count)]
    for first, second in combinations(range(count), 2):
        found += frontier(every_threshold(table, first, second))
    members = useful_models(table.right, table.costs, MAX_MODELS).tolist()
    for length in range(3, min(MAX_STAGES, len(members)) + 1):
        shared = list(_one_threshold(table, members, length))
        found += frontier(shared)
        for price in error_prices(table.costs, SETTINGS):
            best = max(shared, key=lambda item: price * item[1] - item[0])[2]
            improved = by_coordinates(table, best, float(price))
            found.append((*table.try_chain(improved), improved))
    return frontier(found)


def every_threshold(table: Table, first: int, second: int) -> list[tuple[float, float, Chain]]:
    """All different cascades of two models: a threshold between any two adjacent scores of the first."""
    score = table.scores[:, first]
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    cuts = _cuts(ranked)
    gain = np.concatenate(
        [[0], np.cumsum(table.right[order, first].astype(int) - table.right[order, second])]
    )
    accuracy = (gain[cuts] + table.right[:, second].sum()) / len(score)
    cost = table.costs[first] + table.costs[second] * (1 - cuts / len(score))
    return [
        (float(c), float(a), Chain((first, second), (_between(ranked, int(cut)),)))
        for c, a, cut in zip(cost, accuracy, cuts, strict=True)
    ]


def by_coordinates(table: Table, chain: Chain, price: float) -> Chain:
    """The chain with every threshold in turn set to its best, the others fixed; an error costs `price` ms."""
    thresholds = list(chain.thresholds)
    spent = np.cumsum(table.costs[list(chain.stages)])
    rows = np.arange(len(table.scores))
    for _ in range(SWEEPS):
        before = tuple(thresholds)
        for position, stage in enumerate(chain.stages[:-1]):
            reached = (
                Chain(chain.stages[: position + 1], tuple(thresholds[:position])).stops(table.scores)
                == position
            )
            passed = Chain(chain.stages, (*thresholds[:position], np.inf, *thresholds[position + 1 :]))
            stops = passed.stops(table.scores)
            later = price * table.right[rows, np.array(chain.stages)[stops]] - spent[stops]
            now = price * table.right[:, stage] - spent[position]
            score = table.scores[reached, stage]
            order = np.argsort(-score, kind="stable")
            gain = np.concatenate([[0.0], np.cumsum((now - later)[reached][order])])
            cuts = _cuts(score[order])
            thresholds[position] = _between(score[order], int(cuts[gain[cuts].argmax()]))
        if tuple(thresholds) == before:
            break
    return Chain(chain.stages, tuple(thresholds))


def frontier(points: list[tuple[float, float, Chain]]) -> list[tuple[float, float, Chain]]:
    """Only the points that no other beats in both cost and accuracy, cheapest first."""
    costs, accuracy = [cost for cost, _, _ in points], [share for _, share, _ in points]
    return [points[i] for i in reversed(pareto_places(costs, accuracy))]


def spread(points: list[tuple[float, float, Chain]], count: int = MAX_SETTINGS) -> list[Chain]:
    """At most `count` chains, both ends among them, spread evenly along a frontier."""
    places = np.array([point[:2] for point in points])
    span = np.where(np.ptp(places, axis=0) > 0, np.ptp(places, axis=0), 1.0)
    along = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(places, axis=0) / span).sum(axis=1))])
    chosen = np.searchsorted(along, np.linspace(0, along[-1], count) - 1e-12)
    return [points[i][2] for i in np.unique(chosen)]


def _one_threshold(table: Table, members: list[int], length: int) -> Iterator[tuple[float, float, Chain]]:
    levels = np.unique(np.quantile(table.scores[:, members], np.linspace(0, 1, SHARED_THRESHOLDS)))
    for stages in combinations(members, length):
        for level in levels.tolist():
            chain = Chain(stages, (level,) * (length - 1))
            yield (*table.try_chain(chain), chain)


def _cuts(ranked: Floats) -> Indices:
    """How many rows a threshold may accept: none, all, or up to any change in descending scores."""
    changes = np.flatnonzero(np.diff(ranked)) + 1
    return np.unique(np.concatenate([[0], changes, [len(ranked)]])).astype(np.intp)


def _between(ranked: Floats, cut: int) -> float:
    if cut == 0:
        return float("inf")
    if cut == len(ranked):
        return float("-inf")
    # Halfway, unless rounding gives the lower score, which would accept one more.
    middle = float((ranked[cut - 1] + ranked[cut]) / 2)
    return middle if middle > ranked[cut] else float(ranked[cut - 1])
