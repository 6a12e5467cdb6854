"""Pools as candidates: models are recalibrated out of fold, thresholds of all stages chosen together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selector.policies.pool import PoolPolicy, PoolStage, Scaling, margins, stopping
from training.calibration.scaling import (
    MAX_CLASSES,
    fit_embedding,
    fit_matrix,
    fit_vector,
    has_head,
    has_matrix,
    log_loss,
)
from training.outcomes.folds import Folds, grouped_folds
from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Floats, Simulated, by_cost, cost_at
from training.policies.joint import joint_thresholds
from training.policies.platt import platt
from training.policies.pool import FittedPool

ScalingMethod = Literal["temperature", "vector", "matrix", "head"]
MAX_STAGES = 4
PRICES = 64  # of a millisecond, each with thresholds of its own
FIT_ROWS = 12_000  # samples that a hundred numbers and a few thresholds are fitted to


@dataclass(frozen=True)
class Recalibrated:
    """How one model is recalibrated."""

    method: ScalingMethod
    fits: tuple[Scaling, ...]  # without each fold, then on all samples


class Scaled(NamedTuple):
    """One model, recalibrated out of fold in the way that is the best for it."""

    method: ScalingMethod
    logits: Floats  # [n, C], of every sample by a fit that did not see it
    fits: tuple[Scaling, ...]  # without each fold


class Pools:
    """Recalibrated models on one set of samples, computed once for all chains that share them.

    Of each model that way to recalibrate it is taken whose log loss is least out of fold.

    Parameters
    ----------
    outcomes
        Fit and tune samples.
    folds
        Pairs of row indices: to fit on, to recalibrate.
    stage_ms
        Milliseconds of recalibrating and deciding after a model ran.
    known
        Fits of an earlier search on the same samples; those of pools that are fitted are added.
    scaled
        Models that were recalibrated already on these samples; others are added.
    like
        Pools on a part of the samples: each model is recalibrated in the way that was the best there.
    """

    def __init__(
        self,
        outcomes: Outcomes,
        folds: Folds,
        costs: Mapping[str, float],
        stage_ms: float,
        *,
        known: dict[str, Recalibrated] | None = None,
        scaled: dict[str, Scaled] | None = None,
        like: Pools | None = None,
    ) -> None:
        self.outcomes, self.folds, self.costs, self.stage_ms = outcomes, folds, costs, stage_ms
        self.known: dict[str, Recalibrated] = {} if known is None else known
        self._like = like
        self._scaled: dict[str, Scaled] = {} if scaled is None else scaled
        self._judged: dict[tuple[str, ...], tuple[Floats, NDArray[np.bool_]]] = {}

    @classmethod
    def of(
        cls,
        outcomes: Outcomes,
        costs: Mapping[str, float],
        stage_ms: float,
        *,
        known: dict[str, Recalibrated] | None = None,
        like: Pools | None = None,
    ) -> Pools:
        """On as many samples as fitting gains from, with folds of their own."""
        if len(outcomes) > FIT_ROWS:
            chosen = np.random.default_rng(0).choice(len(outcomes), FIT_ROWS, replace=False)
            outcomes = outcomes.rows(np.sort(chosen))
        return cls(outcomes, grouped_folds(outcomes.groups), costs, stage_ms, known=known, like=like)

    def methods(self, name: str) -> tuple[ScalingMethod, ...]:
        """How a model can be recalibrated, the simplest way first."""
        classes, embedding = len(self.outcomes.classes), self.outcomes.embeddings.get(name)
        there: dict[ScalingMethod, bool] = {
            "temperature": classes > MAX_CLASSES,  # else biases have always been worth it
            "vector": True,
            "matrix": has_matrix(classes),
            "head": embedding is not None and has_head(classes, embedding.shape[1], len(embedding)),
        }
        return tuple(method for method, usable in there.items() if usable)

    def scaled(self, name: str) -> Scaled:
        """A model, recalibrated in the best way."""
        if name in self._scaled:
            return self._scaled[name]
        if name in self.known:
            method, fits = self.known[name].method, self.known[name].fits[:-1]
            self._scaled[name] = Scaled(method, self._folded(name, method, fits), fits)
        else:
            methods = self.methods(name) if self._like is None else (self._like.scaled(name).method,)
            found = []
            for method in methods:
                fits = tuple(self._fit(name, method, rest) for rest, _ in self.folds)
                found.append(Scaled(method, self._folded(name, method, fits), fits))
            self._scaled[name] = min(found, key=lambda one: log_loss(one.logits, self.outcomes.labels))
        return self._scaled[name]

    def recalibrated(self, name: str) -> Recalibrated:
        """The best way to recalibrate a model, with all its fits."""
        if name not in self.known:
            method, _, fits = self.scaled(name)
            self.known[name] = Recalibrated(method, (*fits, self._fit(name, method, None)))
        return self.known[name]

    def judge(self, chain: Sequence[str]) -> tuple[list[Floats], NDArray[np.bool_]]:
        """Out of fold: margins ``[n]`` after every stage, and whether stopping is right ``[n, K]``."""
        found = []
        for i in range(len(chain)):
            key = tuple(chain[: i + 1])
            if key not in self._judged:
                total = self.scaled(key[0]).logits
                for name in key[1:]:  # in the order in which they run, as on a device
                    total = total + self.scaled(name).logits
                self._judged[key] = np.array(margins(total, i + 1)), self.outcomes.right_of(total)
            found.append(self._judged[key])
        return [sure for sure, _ in found], np.stack([right for _, right in found], axis=1)

    def frontier(self, chain: Sequence[str]) -> list[Simulated]:
        """What a pool does at every price, with scalings that did not see the sample."""
        sure, right = self.judge(chain)
        paths = [chain[: i + 1] for i in range(len(chain))]
        costs, rows = self.outcomes.charge(paths, self._stop_costs(chain)), np.arange(len(right))
        points = []
        for price, setting in zip(*self._settings(chain), strict=True):
            stop = stopping(sure, setting)
            points.append(Simulated(price, stop, right[rows, stop], cost_at(costs, stop)))
        return points

    def fit(self, chain: Sequence[str]) -> FittedPool:
        """The pool, its scalings fitted on all samples and its thresholds out of fold."""
        sure, right = self.judge(chain)
        stages = []
        for i, name in enumerate(chain):
            scaling = self.recalibrated(name).fits[-1]
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
        prices, settings = self._settings(chain)
        policy = PoolPolicy(stages=tuple(stages), prices=prices, settings=settings)
        return FittedPool(policy, self.costs, stage_ms=self.stage_ms)

    def _settings(self, chain: Sequence[str]) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
        """Prices of a millisecond from one that decides nothing to one that stops everything; thresholds."""
        costs = [self.costs[name] + self.stage_ms for name in chain]
        least, most = 1e-4 / max(sum(costs), 1e-9), 2.0 / max(min(costs), 1e-9)
        prices = np.concatenate([[0.0], np.geomspace(least, most, PRICES - 1)])
        sure, right = self.judge(chain)
        settings = joint_thresholds(sure, right, self._stop_costs(chain), prices)
        new = np.concatenate([[True], (settings[1:] != settings[:-1]).any(axis=1)])
        return tuple(prices[new].tolist()), tuple(map(tuple, settings[new].tolist()))

    def _stop_costs(self, chain: Sequence[str]) -> Floats:
        total: Floats = np.cumsum([self.costs[name] + self.stage_ms for name in chain])
        return total

    def _folded(self, name: str, method: ScalingMethod, fits: Sequence[Scaling]) -> Floats:
        logits = self.outcomes.logits[:, self.outcomes.models.index(name)]
        scaled = np.empty(logits.shape)
        for (_, held), fit in zip(self.folds, fits, strict=True):
            embedding = self.outcomes.embeddings[name][held] if method == "head" else None
            scaled[held] = fit(logits[held], embedding)
        return scaled

    def _fit(self, name: str, method: ScalingMethod, rows: NDArray[np.intp] | None) -> Scaling:
        chosen = slice(None) if rows is None else rows
        logits = self.outcomes.logits[chosen, self.outcomes.models.index(name)]
        labels = self.outcomes.labels[chosen]
        scaling = fit_vector(logits, labels, biases=method != "temperature")
        if method == "head":
            return fit_embedding(scaling, logits, self.outcomes.embeddings[name][chosen], labels)
        return fit_matrix(scaling, logits, labels) if method == "matrix" else scaling


def pool_chains(costs: Mapping[str, float], models: Sequence[str]) -> list[tuple[str, ...]]:
    """All chains of two to four of `models`, cheapest first."""
    names = by_cost(costs, models)
    return [chain for k in range(2, min(MAX_STAGES, len(names)) + 1) for chain in combinations(names, k)]
