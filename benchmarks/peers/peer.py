"""What all peers share: one interface from outcomes to answers and costs, and how settings are chosen."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Floats, Indices, Simulated, by_cost
from zoo.errors import DataError, MissingExtraError
from zoo.extras import install_command

SETTINGS = 40  # points of a frontier, where a method has a number to turn
CHOICE_ROWS = 4000  # of the samples, at most, settings of methods that learn are chosen on
NO_MODEL = -1  # in answered_by: a vote of several models


class Peer(ABC):
    """A method of the field, on the same outcomes and costs as ours.

    All settings (thresholds, chains, prices of an error) are fixed by :meth:`fit` on development samples, so
    points of :meth:`frontier` have the same meaning and order for whatever samples.

    Attributes
    ----------
    name
        As in :data:`benchmarks.peers.PEERS`.
    source
        Where the method comes from, in one line.
    folds
        Of the cross-validation that settings are chosen by, where answers to the very samples of `fit`
        would flatter the method, as with nearest neighbours; else 0.
    decides
        Whether it decides anew after every model that ran, which takes time.
    """

    name: str
    source: str
    folds: int = 0
    decides: bool = False

    def fit(
        self,
        development: Outcomes,
        costs: Mapping[str, float],
        *,
        overhead_ms: float,
        decide_ms: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Fix all settings on development samples.

        Parameters
        ----------
        costs
            Milliseconds of every model.
        overhead_ms
            Milliseconds of features and the method's own arithmetic, charged where it uses features.
        decide_ms
            Milliseconds of looking at a model's answer, charged after every model where :attr:`decides`.

        Raises
        ------
        DataError
            When there are no samples, or a model has no cost.
        MissingExtraError
            When the method is a package that is not installed.
        """
        if len(development) == 0:
            raise DataError("expected development samples, got none. Profile more images.")
        self.models = by_cost(costs, development.models)
        self.costs: Floats = np.array([costs[name] for name in self.models], dtype=np.float64)
        self.costs += decide_ms if self.decides else 0.0
        self.overhead_ms = overhead_ms
        self.seed = seed
        aligned = development.with_models(self.models)
        folds = min(self.folds, len(np.unique(development.groups)))
        if folds > 1:
            self._choice = self._cross_fit(some_rows(aligned, CHOICE_ROWS, seed), folds)
            self._settle(aligned)
        else:
            self._settle(aligned)
            self._choice = self._development_points(aligned)
        places = self._places(development)
        self._choice = [replace(point, answered_by=places[point.answered_by]) for point in self._choice]

    def frontier(self, outcomes: Outcomes) -> list[Simulated]:
        """One point per setting: who answers, whether it is right, what it costs with everything charged.

        ``threshold`` is the number of the setting, ``answered_by`` holds indices into ``outcomes.models``, or
        -1 where models vote.
        """
        places = self._places(outcomes)
        points = self._points(outcomes.with_models(self.models))
        return [replace(point, answered_by=places[point.answered_by]) for point in points]

    def accuracies(self, outcomes: Outcomes, frontier: Sequence[Simulated]) -> list[float]:
        """Accuracy at every point of :meth:`frontier`; expected ones where answers are drawn at random."""
        return [point.accuracy for point in frontier]

    def development_frontier(self) -> list[Simulated]:
        """The frontier to choose settings from: development samples, cross-validated with :attr:`folds`.

        All samples of one original are in the same fold. Where folds are fitted, there are at most 4,000.
        """
        return self._choice

    @abstractmethod
    def _settle(self, development: Outcomes) -> None:
        """Fix all settings; columns of `development` are :attr:`models`, cheapest first."""

    def _development_points(self, aligned: Outcomes) -> list[Simulated]:
        """What settings are chosen on, where :attr:`folds` is 0; a method may cross-validate by itself."""
        return self._points(aligned)

    @abstractmethod
    def _points(self, outcomes: Outcomes) -> list[Simulated]:
        """One point per setting; columns of `outcomes` and ``answered_by`` are as :attr:`models`."""

    def _cross_fit(self, aligned: Outcomes, folds: int) -> list[Simulated]:
        groups = np.unique(aligned.groups)
        parts = np.array_split(np.random.default_rng(self.seed).permutation(groups), folds)
        masks = [np.isin(aligned.groups, part) for part in parts]
        fronts = []
        for mask in masks:
            self._settle(aligned.rows(~mask))
            fronts.append(self._points(aligned.rows(mask)))
        back = np.argsort(np.concatenate([np.flatnonzero(mask) for mask in masks]))
        return [
            Simulated(
                points[0].threshold,
                np.concatenate([point.answered_by for point in points])[back],
                np.concatenate([point.right for point in points])[back],
                np.concatenate([point.cost_ms for point in points])[back],
            )
            for points in zip(*fronts, strict=True)
        ]

    def _places(self, outcomes: Outcomes) -> Indices:
        """Index into ``outcomes.models`` of every column; the last entry keeps votes what they are."""
        missing = sorted(set(self.models) - set(outcomes.models))
        if missing:
            raise DataError(
                f"expected outcomes of the models of fit, got none of {', '.join(missing)}. "
                "Fit on the models that you evaluate."
            )
        return np.array([*(outcomes.models.index(name) for name in self.models), NO_MODEL], dtype=np.intp)

    def _answer(
        self, outcomes: Outcomes, setting: float, picks: Indices, cost_ms: Floats | None = None
    ) -> Simulated:
        """Every sample is answered by its pick, at the pick's cost unless `cost_ms` says otherwise."""
        rows = np.arange(len(outcomes))
        return Simulated(
            setting, picks, outcomes.right[rows, picks], self.costs[picks] if cost_ms is None else cost_ms
        )


@dataclass(frozen=True)
class Scaling:
    """Features scaled to [0, 1] by the least and largest value of the samples of fit."""

    low: Floats  # [F]
    high: Floats  # [F]

    @classmethod
    def of(cls, features: NDArray[np.floating]) -> Scaling:
        """The scaling of features ``[n, F]``."""
        finite = _finite(features)
        return cls(finite.min(axis=0), finite.max(axis=0))

    @property
    def varying(self) -> NDArray[np.bool_]:
        """Which features are not constant ``[F]``."""
        varying: NDArray[np.bool_] = self.high > self.low
        return varying

    def __call__(self, features: NDArray[np.floating]) -> Floats:
        """Scaled features ``[n, V]``, only those that vary; values outside the range are cut off."""
        span = (self.high - self.low)[self.varying]
        scaled: Floats = (_finite(features)[:, self.varying] - self.low[self.varying]) / span
        return scaled.clip(0.0, 1.0)


def error_prices(costs: Floats, count: int) -> Floats:
    """Prices of an error in milliseconds, ascending: from "the cheapest model" to "whatever it takes"."""
    gaps = np.diff(np.unique(costs))
    prices: Floats = np.geomspace(2 * gaps.min(), 100 * gaps.sum(), count) if gaps.size else np.ones(count)
    return prices


def useful_models(right: NDArray[np.bool_], costs: Floats, count: int | None) -> Indices:
    """At most `count` columns, those that the fewest others beat in both cost and accuracy, in order."""
    accuracy = right.mean(axis=0)
    beaten = [
        int(((costs <= cost) & (accuracy > share)).sum()) for cost, share in zip(costs, accuracy, strict=True)
    ]
    return np.sort(np.argsort(beaten, kind="stable")[:count])


def some_rows(outcomes: Outcomes, count: int, seed: int) -> Outcomes:
    """At most `count` samples, drawn at random, in their order."""
    if len(outcomes) <= count:
        return outcomes
    chosen = np.random.default_rng(seed).choice(len(outcomes), count, replace=False)
    return outcomes.rows(np.sort(chosen))


def optional(module: str) -> Any:
    """An optional module, imported now; raises :class:`MissingExtraError` when it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"this comparison needs the package '{module.partition('.')[0]}', which cannot be imported "
            f"({error}). Install it with: {install_command('peers')}"
        ) from error


def _finite(features: NDArray[np.floating]) -> Floats:
    return np.nan_to_num(features.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
