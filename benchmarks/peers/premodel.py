"""The k-NN premodel of LCTES 2018: image features decide, before any model runs, which one does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from benchmarks.peers.peer import Peer, Scaling, some_rows
from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Floats, Indices, Simulated

NEIGHBOURS = 5
MAX_CORRELATION = 0.75
MIN_GAIN_SHARE = 0.005  # of top-1, for another model in the chain
MAX_ROWS = 8000
ELIMINATION_ROWS = 1000  # features are eliminated on so many: the search is quadratic in them

Rule = Literal["accuracy", "optimal"]


@dataclass(frozen=True)
class Setting:
    """A chain of models and how many of the five neighbours have to be for a model to choose it."""

    chain: tuple[int, ...]  # columns, in the order of the classifiers
    votes: int


class KnnPremodel(Peer):
    """A chain of k-NN classifiers, each of which takes its model or passes on.

    Features are scaled to [0, 1]; of two with a correlation above 0.75 one goes; then, again and again, the
    one without which the premodel is most accurate, as long as it does not get worse. Models join the chain
    until the share of inputs that any of its models gets right grows by less than half a percent. The first
    is the most accurate one ("accuracy") or the one most often the cheapest right one ("optimal"); then
    comes the one that adds most. A classifier learns on which inputs its model is the cheapest right one of
    the chain. Where all pass, the chain's most accurate model answers. The published method takes a model
    from three votes of five on; other numbers are further settings. Choosing and features cost
    `overhead_ms`, for every input.
    """

    name = "knn-premodel"
    source = "Taylor, Marco, Wolff, Elkhatib and Wang, Adaptive Deep Learning Model Selection, LCTES 2018"
    folds = 5

    def _settle(self, development: Outcomes) -> None:
        rows = some_rows(development, MAX_ROWS, self.seed)
        self._scaling = Scaling.of(rows.features)
        features = self._scaling(rows.features)
        names = [n for n, varies in zip(rows.feature_names, self._scaling.varying, strict=True) if varies]
        rules: tuple[Rule, ...] = ("accuracy", "optimal")
        chains = [include_models(rows.right, rule) for rule in rules]
        self._accuracy = rows.right.mean(axis=0)
        kept = uncorrelated(features)
        few = some_rows(rows, ELIMINATION_ROWS, self.seed)
        self._kept = eliminate(self._scaling(few.features), few.right, few.groups, kept, chains[0])
        self.features = tuple(names[f] for f in self._kept)
        self._targets = {chain: optimal(rows.right, chain) for chain in chains}
        self._settings = [Setting(chain, votes) for chain in chains for votes in range(1, NEIGHBOURS + 1)]
        count = min(NEIGHBOURS, len(rows))
        self._neighbours = NearestNeighbors(n_neighbors=count).fit(self._chosen(features))

    def _points(self, outcomes: Outcomes) -> list[Simulated]:
        chosen = self._chosen(self._scaling(outcomes.features))
        near = self._neighbours.kneighbors(chosen, return_distance=False)
        points = []
        for setting in self._settings:
            votes = self._targets[setting.chain][near].sum(axis=1)
            picks = take(votes, setting, self._accuracy)
            points.append(
                self._answer(outcomes, float(setting.votes), picks, self.costs[picks] + self.overhead_ms)
            )
        return points

    def _chosen(self, features: Floats) -> Floats:
        """The kept features; a constant where none is, so that neighbours are arbitrary but defined."""
        return features[:, self._kept] if self._kept else np.zeros((len(features), 1))


def include_models(right: NDArray[np.bool_], rule: Rule) -> tuple[int, ...]:
    """The chain of models by the paper's inclusion rule; columns of `right` ``[n, M]`` cheapest first."""
    first = right if rule == "accuracy" else optimal(right, tuple(range(right.shape[1])))
    chain = [int(first.mean(axis=0).argmax())]
    while len(chain) < right.shape[1]:
        failed = ~right[:, chain].any(axis=1, keepdims=True)
        gains = (right & failed).mean(axis=0)
        best = int(gains.argmax())
        if gains[best] < MIN_GAIN_SHARE:
            break
        chain.append(best)
    return tuple(chain)


def optimal(right: NDArray[np.bool_], chain: tuple[int, ...]) -> NDArray[np.bool_]:
    """For every model of the chain whether it is the cheapest right one ``[n, K]``, columns as `chain`."""
    order = np.argsort(chain)  # columns are cheapest first
    among = right[:, np.array(chain)[order]]
    cheapest = among & (np.cumsum(among, axis=1) == 1)
    back: NDArray[np.bool_] = cheapest[:, np.argsort(order)]
    return back


def take(votes: NDArray[np.integer], setting: Setting, accuracy: Floats) -> Indices:
    """The model ``[n]`` that the chain's classifiers take, from their votes ``[n, K]``."""
    yes = votes >= setting.votes
    chain = np.array(setting.chain)
    fallback = chain[accuracy[chain].argmax()]
    picks: Indices = np.where(yes.any(axis=1), chain[yes.argmax(axis=1)], fallback)
    return picks


def uncorrelated(features: Floats) -> list[int]:
    """Features ``[n, F]`` without those that correlate with an earlier kept one above the limit."""
    if features.shape[1] < 2:
        return list(range(features.shape[1]))
    correlation = np.abs(np.corrcoef(features, rowvar=False))
    kept: list[int] = []
    for f in range(features.shape[1]):
        if not kept or correlation[f, kept].max() <= MAX_CORRELATION:
            kept.append(f)
    return kept


def eliminate(
    features: Floats,
    right: NDArray[np.bool_],
    groups: NDArray[np.str_],
    kept: list[int],
    chain: tuple[int, ...],
) -> list[int]:
    """Remove features while the premodel, each sample left out in turn, does not get less accurate."""
    kept = list(kept)
    if len(features) <= NEIGHBOURS or len(chain) < 2:
        return kept
    columns = features.T.astype(np.float32)
    apart = {f: (columns[f][:, np.newaxis] - columns[f]) ** 2 for f in kept}
    distance = sum(apart.values(), start=np.zeros((len(features), len(features)), np.float32))
    # A sample's own variants would tell its answer.
    same = groups.reshape(-1, 1) == groups.reshape(1, -1)
    distance[same] = np.inf
    targets = optimal(right, chain)
    setting = Setting(chain, NEIGHBOURS // 2 + 1)
    accuracy = right.mean(axis=0)
    rows = np.arange(len(right))

    def premodel_accuracy(distances: NDArray[np.float32]) -> float:
        near = np.argpartition(distances, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        picks = take(targets[near].sum(axis=1), setting, accuracy)
        return float(right[rows, picks].mean())

    best = premodel_accuracy(distance)
    while len(kept) > 1:
        trials = {f: premodel_accuracy(distance - apart[f]) for f in kept}
        worst = max(trials, key=lambda f: trials[f])
        if trials[worst] < best:
            break
        best = trials[worst]
        distance = distance - apart[worst]
        kept.remove(worst)
    return kept
