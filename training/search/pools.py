"""Pools as candidates: models are recalibrated out of fold, thresholds of all stages chosen together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from selector.policies.pool import PoolPolicy, PoolStage, Scaling, margins, stopping
from training.calibration.scaling import fit_embedding, fit_matrix, fit_vector, has_head, has_matrix
from training.outcomes.folds import Folds, grouped_folds
from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Floats, Simulated, by_cost
from training.policies.joint import joint_thresholds
from training.policies.platt import platt
from training.policies.pool import FittedPool

ScalingMethod = Literal["vector", "matrix", "head"]
MAX_STAGES = 4
PRICES = 64  # of a millisecond, each with thresholds of its own
FIT_ROWS = 12_000  # samples that a hundred numbers and a few thresholds are fitted to


class Pools:
    """Recalibrated models on one set of samples, computed once for all chains that share them.

    Parameters
    ----------
    outcomes
        Fit and tune samples.
    folds
        Pairs of row indices: to fit on, to recalibrate.
    stage_ms
        Milliseconds of recalibrating and deciding after a model ran.
    """

    def __init__(self, outcomes: Outcomes, folds: Folds, costs: Mapping[str, float], stage_ms: float) -> None:
        self.outcomes, self.folds, self.costs, self.stage_ms = outcomes, folds, costs, stage_ms
        self._scaled: dict[tuple[str, ScalingMethod], Floats] = {}
        self._margins: dict[tuple[tuple[str, ...], ScalingMethod], tuple[Floats, NDArray[np.bool_]]] = {}

    @classmethod
    def of(cls, outcomes: Outcomes, costs: Mapping[str, float], stage_ms: float) -> Pools:
        """On as many samples as fitting gains from, with folds of their own."""
        if len(outcomes) > FIT_ROWS:
            chosen = np.random.default_rng(0).choice(len(outcomes), FIT_ROWS, replace=False)
            outcomes = outcomes.rows(np.sort(chosen))
        return cls(outcomes, grouped_folds(outcomes.groups), costs, stage_ms)

    def methods(self, chain: Sequence[str]) -> tuple[ScalingMethod, ...]:
        """How the models of a chain can be recalibrated."""
        classes, known = len(self.outcomes.classes), self.outcomes.embeddings
        found: list[ScalingMethod] = ["vector"]
        if has_matrix(classes):
            found.append("matrix")
        if all(name in known and has_head(classes, known[name].shape[1]) for name in chain):
            found.append("head")
        return tuple(found)

    def prices(self, chain: Sequence[str]) -> Floats:
        """Of a millisecond, in right answers: from one that decides nothing to one that stops everything."""
        costs = [self.costs[name] + self.stage_ms for name in chain]
        least = 1e-4 / max(sum(costs), 1e-9)
        return np.concatenate([[0.0], np.geomspace(least, 2.0 / max(min(costs), 1e-9), PRICES - 1)])

    def judge(self, chain: Sequence[str], method: ScalingMethod) -> tuple[list[Floats], NDArray[np.bool_]]:
        """Out of fold: margins ``[n]`` after every stage, and whether stopping is right ``[n, K]``."""
        found = []
        for i in range(len(chain)):
            key = tuple(chain[: i + 1]), method
            if key not in self._margins:
                total = sum(
                    (self._folded(name, method) for name in chain[1 : i + 1]), self._folded(chain[0], method)
                )
                self._margins[key] = np.array(margins(total, i + 1)), self.outcomes.right_of(total)
            found.append(self._margins[key])
        return [sure for sure, _ in found], np.stack([right for _, right in found], axis=1)

    def stop_costs(self, chain: Sequence[str]) -> Floats:
        """Milliseconds of stopping after each model ``[K]``."""
        total: Floats = np.cumsum([self.costs[name] + self.stage_ms for name in chain])
        return total

    def frontier(self, chain: Sequence[str], method: ScalingMethod) -> list[Simulated]:
        """What a pool does at every price, with scalings and thresholds that did not see the sample."""
        sure, right = self.judge(chain, method)
        costs, prices, rows = self.stop_costs(chain), self.prices(chain), np.arange(len(right))
        stops = np.zeros((len(prices), len(right)), np.intp)
        if len(chain) > 1:
            for rest, held in self.folds:
                settings = joint_thresholds([s[rest] for s in sure], right[rest], costs, prices)
                for i, setting in enumerate(settings):
                    stops[i, held] = stopping([s[held] for s in sure], setting)
        else:
            prices, stops = prices[:1], stops[:1]
        return [
            Simulated(float(price), stop, right[rows, stop], costs[stop])
            for price, stop in zip(prices, stops, strict=True)
        ]

    def fit(self, chain: Sequence[str], method: ScalingMethod) -> FittedPool:
        """The pool, its scalings fitted on all samples and its thresholds out of fold."""
        sure, right = self.judge(chain, method)
        stages = []
        for i, name in enumerate(chain):
            scaling = self._fit(name, method, None)
            slope, offset = platt(sure[i], right[:, i])
            stages.append(
                PoolStage(
                    model=name,
                    scale=scaling.scale,
                    bias=() if scaling.bias is None else tuple(scaling.bias.tolist()),
                    weights=() if scaling.weights is None else tuple(map(tuple, scaling.weights.tolist())),
                    inputs="embedding" if scaling.on_embedding else "logits",
                    slope=slope,
                    offset=offset,
                )
            )
        prices = self.prices(chain)
        settings = joint_thresholds(sure, right, self.stop_costs(chain), prices)
        new = np.concatenate([[True], (settings[1:] != settings[:-1]).any(axis=1)])
        policy = PoolPolicy(
            stages=tuple(stages),
            prices=tuple(prices[new].tolist()),
            settings=tuple(map(tuple, settings[new].tolist())),
        )
        return FittedPool(policy, self.costs, stage_ms=self.stage_ms)

    def _folded(self, name: str, method: ScalingMethod) -> Floats:
        if (name, method) not in self._scaled:
            logits = self.outcomes.logits[:, self.outcomes.models.index(name)]
            scaled = np.empty(logits.shape)
            for rest, held in self.folds:
                embedding = self.outcomes.embeddings[name][held] if method == "head" else None
                scaled[held] = self._fit(name, method, rest)(logits[held], embedding)
            self._scaled[name, method] = scaled
        return self._scaled[name, method]

    def _fit(self, name: str, method: ScalingMethod, rows: NDArray[np.intp] | None) -> Scaling:
        logits, labels = self.outcomes.logits[:, self.outcomes.models.index(name)], self.outcomes.labels
        if rows is not None:
            logits, labels = logits[rows], labels[rows]
        scaling = fit_vector(logits, labels)
        if method == "head":
            embedding = self.outcomes.embeddings[name]
            return fit_embedding(scaling, logits, embedding if rows is None else embedding[rows], labels)
        return fit_matrix(scaling, logits, labels) if method == "matrix" else scaling


def pool_chains(costs: Mapping[str, float], models: Sequence[str]) -> list[tuple[str, ...]]:
    """All chains of up to four of `models`, cheapest first; one alone is recalibrated only."""
    names = by_cost(costs, models)
    return [chain for k in range(1, min(MAX_STAGES, len(names)) + 1) for chain in combinations(names, k)]
