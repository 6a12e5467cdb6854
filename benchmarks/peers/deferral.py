"""Learned deferral: gradient-boosted trees say what going on to further models would gain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from benchmarks.peers.calibration import calibrated
from benchmarks.peers.committees import Committee, Pooled, Stages, VectorCommittee, pool
from training.outcomes.folds import Folds
from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Floats, Indices, Simulated

CHAINS = 5  # those that the committee cascade chooses for most prices
TREES = 40
LEAVES = 8
LEARNING_RATE = 0.1
LEAF = 30  # samples at least
MOST_CLASSES = 100  # of which the predicted one is a feature; more are too many for the samples there are

Step = tuple[Stages, Stages]  # the models that ran, and those that would have
Gain = Any  # fitted trees, or the number that all samples gain alike


@dataclass(frozen=True)
class Signs:
    """What trees see of n samples."""

    values: Floats  # [n, S]
    named: NDArray[np.bool_]  # [S], whether a column holds numbers of classes, which have no order

    def rows(self, rows: Indices) -> Signs:
        """Some of the samples."""
        return Signs(self.values[rows], self.named)


class BoostedDeferral(VectorCommittee):
    """After every model, go on where the gain in accuracy is worth the time.

    For every stage of a chain and every later one, boosted trees estimate how much more often the committee
    would be right then. They see of every model that ran its log-odds, margin and predicted class, and of
    the committee its probability and whether it is of one mind. For a price of an error, the models go on
    where any later stage is worth its time. Chains are the committee cascade's. The chain for a price is
    chosen on folds that the trees did not see.
    """

    name = "boosted-deferral"
    source = (
        "learned deferral after the fact (Jitkrittum et al., When Does Confidence-Based Cascade Deferral "
        "Suffice?, NeurIPS 2023), gradient-boosted, answers of committees of vector-scaled models"
    )

    def _search(self, rows: Outcomes, shares: Floats, folds: Folds) -> None:
        super()._search(rows, shares, folds)
        counted = Counter(setting.stages for setting in self.settings if len(setting.stages) > 1)
        self.chains = [stages for stages, _ in counted.most_common(CHAINS)]
        self.chains += sorted({setting.stages[:1] for setting in self.settings})
        pools = pool(shares, rows, self.chains)
        self._gains: dict[Step, Gain] = {}
        held: dict[Step, Floats] = {}
        seen = {ran: signs(ran, shares, pools) for ran in {step[0] for step in steps(self.chains)}}
        for step in steps(self.chains):
            ran, more = step
            gain = pools[more].right.astype(np.float64) - pools[ran].right
            held[step] = np.empty(len(rows))
            for others, part in folds:
                fitted = self._fit(seen[ran].rows(others), gain[others])
                held[step][part] = _predict(fitted, seen[ran].rows(part))
            self._gains[step] = self._fit(seen[ran], gain)
        best: list[tuple[float, Simulated, Stages]] = []
        for price in self.prices.tolist():
            tried = [(self._run(price, chain, held, pools), chain) for chain in self.chains]
            values = [price * point.accuracy - point.mean_ms for point, _ in tried]
            best.append((price, *tried[int(np.argmax(values))]))
        self._held = [point for _, point, _ in best]
        self.settings = [Committee(chain, ()) for _, _, chain in best]

    def _points(self, outcomes: Outcomes) -> list[Simulated]:
        shares = calibrated(outcomes, self.calibrations)
        pools = pool(shares, outcomes, self.chains)
        seen = {ran: signs(ran, shares, pools) for ran in {step[0] for step in steps(self.chains)}}
        gains = {step: _predict(fitted, seen[step[0]]) for step, fitted in self._gains.items()}
        return [
            self._run(price, setting.stages, gains, pools)
            for price, setting in zip(self.prices.tolist(), self.settings, strict=True)
        ]

    def _run(
        self, price: float, chain: Stages, gains: Mapping[Step, Floats], pools: Mapping[Stages, Pooled]
    ) -> Simulated:
        """A chain at a price of an error in milliseconds."""
        count = len(pools[chain].score)
        spent = np.cumsum(self.costs[list(chain)])
        left = np.ones(count, dtype=np.bool_)
        stops: Indices = np.full(count, len(chain) - 1)
        for end in range(1, len(chain)):
            worth = [
                price * gains[chain[:end], chain[:later]] - (spent[later - 1] - spent[end - 1])
                for later in range(end + 1, len(chain) + 1)
            ]
            stopped = left & (np.max(worth, axis=0) <= 0)
            stops[stopped] = end - 1
            left &= ~stopped
        return self._stopped(price, chain, stops, pools)

    def _fit(self, seen: Signs, gain: Floats) -> Gain:
        if np.ptp(gain) == 0:
            return float(gain[0])
        trees = HistGradientBoostingRegressor(
            max_iter=TREES,
            max_leaf_nodes=LEAVES,
            learning_rate=LEARNING_RATE,
            min_samples_leaf=LEAF,
            categorical_features=seen.named,
            early_stopping=False,
            random_state=self.seed,
        )
        return trees.fit(seen.values, gain)


def signs(ran: Stages, shares: Floats, pools: Mapping[Stages, Pooled]) -> Signs:
    """What can be seen when some models have run, from all models' probabilities ``[n, M, C]``."""
    least = np.finfo(np.float64).tiny
    some = shares[:, list(ran)]
    second, first = np.partition(some, -2, axis=2)[:, :, -2:].transpose(2, 0, 1)
    rest = np.maximum(1 - first, least)
    told = some.argmax(axis=2)
    columns = [
        *np.log(np.maximum(first, least) / rest).T,
        *np.log(np.maximum(first, least) / np.maximum(second, least)).T,
    ]
    if len(ran) > 1:
        columns += [pools[ran].score, (told == told[:, :1]).all(axis=1).astype(np.float64)]
    classes = list(told.T.astype(np.float64)) if shares.shape[2] <= MOST_CLASSES else []
    return Signs(
        np.stack([*columns, *classes], axis=1), np.arange(len(columns) + len(classes)) >= len(columns)
    )


def _predict(fitted: Gain, seen: Signs) -> Floats:
    if isinstance(fitted, float):
        return np.full(len(seen.values), fitted)
    predicted: Floats = fitted.predict(seen.values)
    return predicted


def steps(chains: Sequence[Stages]) -> list[Step]:
    """Every stage of the chains with every later one, each once."""
    return sorted(
        {
            (chain[:end], chain[:later])
            for chain in chains
            for end in range(1, len(chain))
            for later in range(end + 1, len(chain) + 1)
        }
    )
