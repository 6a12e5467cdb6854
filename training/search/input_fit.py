"""Fitting what an input policy needs: chosen features, an estimator of correctness, and their graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from selector.policies.input import InputPolicy
from training.cluster.processes import Processes
from training.data.splits import FIT, TUNE
from training.features.costs import FeatureCosts, measure_costs
from training.features.feature_kind import Readings, ScoutLike
from training.features.kinds import features_of
from training.outcomes.folds import Folds, grouped_folds
from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Floats, by_cost
from training.policies.input import FittedInputPolicy
from training.search.selector_graph import checked_scores, selector_cost_ms, selector_graph
from training.search.tuning import Tuned, tune_and_score
from zoo.errors import DataError
from zoo.inputs.kind import InputKind
from zoo.inputs.kinds import IMAGE
from zoo.models.latency import LatencyTable
from zoo.models.zoo import Zoo

PixelsOf = Callable[[NDArray[np.str_]], Readings]  # ids of samples â what features read
SCOUT_FOLDS = 3
_CHUNK = 50_000


@dataclass(frozen=True)
class InputFit:
    """Features, estimator and graph, fitted; and scores out of fold for honest comparisons."""

    order: tuple[str, ...]  # models, cheapest first; the columns of the scores
    tuned: Tuned
    graph: bytes  # image → features, scores
    scores: bytes  # features → scores
    cost_ms: float  # of the graph
    scout: ScoutLike | None  # where one of its log-odds is among the features
    folded: Floats  # scores ``[n, M]`` of the compared samples, from estimators that did not see them
    estimates: tuple[str, ...] = ()  # features of the outcomes that are the log-odds of such scores, if any

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the kept features."""
        return self.tuned.features

    def policy(self, policy: InputPolicy, costs: Mapping[str, float]) -> FittedInputPolicy:
        """A policy on these scores."""
        return FittedInputPolicy(policy, self.scores, self.features, costs, overhead_ms=self.cost_ms)


def scout_log_odds(
    outcomes: Outcomes,
    compared: Outcomes,
    pixels: PixelsOf,
    *,
    seed: int,
    kind: InputKind = IMAGE,
    processes: Processes | None = None,
) -> tuple[NDArray[np.float32], ScoutLike]:
    """A scout that learned from the compared samples, and its log-odds ``[n, M]`` of all outcomes.

    For the compared samples they come from scouts that did not see the sample's original (stacking).

    Raises
    ------
    DataError
        When there are fewer than three originals.
    """
    seen = pixels(compared.ids)
    known, scout = out_of_fold(
        seen,
        compared.right,
        compared.groups,
        compared.models,
        seed=seed,
        kind=kind,
        processes=processes,
    )
    place = {name: i for i, name in enumerate(compared.ids.tolist())}
    values = np.empty((len(outcomes), len(scout.names)), np.float32)
    for first in range(0, len(outcomes), _CHUNK):
        ids = outcomes.ids[first : first + _CHUNK]
        values[first : first + _CHUNK] = scout.log_odds(pixels(ids))
    for i, name in enumerate(outcomes.ids.tolist()):
        if name in place:
            values[i] = known[place[name]]
    return values, scout


def out_of_fold(
    pixels: Readings,
    right: NDArray[np.bool_],
    groups: NDArray[np.str_],
    models: Sequence[str],
    *,
    seed: int = 0,
    kind: InputKind = IMAGE,
    processes: Processes | None = None,
) -> tuple[NDArray[np.float32], ScoutLike]:
    """Log-odds ``[n, M]`` of samples, each from a scout that did not learn from its original; a scout of all.

    Parameters
    ----------
    pixels, right, models
        See :func:`training.features.scout_network.fit_network`.
    groups
        Originals ``[n]``; variants of one never fall into two folds.
    kind
        Of the inputs, with a scout.
    processes
        That train the scouts; by default this one.

    Raises
    ------
    DataError
        When there are fewer than three originals.
    """
    if len(set(groups.tolist())) < SCOUT_FOLDS:
        raise DataError(f"expected at least {SCOUT_FOLDS} originals to fit on. Give more labelled images.")
    folds = grouped_folds(groups, SCOUT_FOLDS)
    lessons = pixels, right, tuple(models), seed, kind
    scout: ScoutLike | None = None
    odds = np.empty(right.shape, np.float32)
    every = [None, *folds]
    for fold, found in zip(every, (processes or Processes(1)).run(_taught, lessons, every), strict=True):
        if fold is not None:
            odds[fold[1]] = found
        else:
            scout = found
    assert scout is not None
    return odds, scout


def _taught(
    lessons: tuple[Readings, NDArray[np.bool_], tuple[str, ...], int, InputKind],
    fold: tuple[NDArray[np.intp], NDArray[np.intp]] | None,
) -> Any:
    """A scout that learned from all rows; of a fold the log-odds of the rows that are held out."""
    pixels, right, models, seed, kind = lessons
    fit_scout = features_of(kind).fit_scout
    if fold is None:
        return fit_scout(pixels, right, models, seed=seed)
    rest, held = fold
    return fit_scout(pixels[rest], right[rest], models, seed=seed).log_odds(pixels[held])


def fit_input(
    development: Outcomes,
    compared: Outcomes,
    folds: Folds,
    costs: Mapping[str, float],
    zoo: Zoo,
    table: LatencyTable,
    *,
    grid: int,
    scout: ScoutLike | None = None,
    seed: int,
    processes: Processes | None = None,
) -> InputFit:
    """Choose features and an estimator, fit and calibrate them, and make the graph.

    Parameters
    ----------
    development
        Fit and tune samples.
    compared, folds
        These or a part of them, and how to score them out of fold.
    scout
        Whose log-odds are among the features of the outcomes; see :func:`scout_log_odds`.
    processes
        That fit the estimators; by default this one.

    Raises
    ------
    ParityError
        When the graph and scikit-learn differ.
    """
    prices = measure_costs(grid, scout=scout, kind=zoo.kind)
    order, tuned, scores, folded = _fit_scores(
        development, compared, folds, costs, prices, seed, processes=processes
    )
    scout = scout if scout is not None and set(scout.names) & set(tuned.features) else None
    graph = selector_graph(tuned.features, scores, grid=grid, scout=scout, kind=zoo.kind)
    cost_ms = selector_cost_ms(graph, zoo, table)
    content: bytes = scores.SerializeToString(deterministic=True)
    return InputFit(order, tuned, graph, content, cost_ms, scout, folded)


def _fit_scores(
    development: Outcomes,
    compared: Outcomes,
    folds: Folds,
    costs: Mapping[str, float],
    prices: FeatureCosts,
    seed: int,
    *,
    processes: Processes | None = None,
) -> tuple[tuple[str, ...], Tuned, onnx.ModelProto, Floats]:
    """Models cheapest first, what was settled on, the graph features → scores, and scores out of fold."""
    from training.policies.estimators import CorrectnessEstimator  # here: a kept search needs none

    order = by_cost(costs, development.models)
    ordered, part = development.with_models(order), compared.with_models(order)
    tuned, folded = tune_and_score(
        part.features,
        part.feature_names,
        part.right,
        part.groups,
        np.array([costs[name] for name in order]),
        prices=prices,
        seed=seed,
        processes=processes,
    )
    if folded is None:
        some, folded = part.feature_columns(tuned.features), np.empty((len(part), len(order)))
        for rest, held in folds:
            estimator = CorrectnessEstimator(tuned.estimator, seed=seed).fit(some[rest], part.right[rest])
            folded[held] = estimator.scores(some[held])
    features = ordered.feature_columns(tuned.features)
    fitting, tuning = ordered.splits == FIT, ordered.splits == TUNE
    estimator = CorrectnessEstimator(tuned.estimator, seed=seed)
    estimator.fit(features[fitting], ordered.right[fitting])
    if tuning.any():
        estimator.calibrate(features[tuning], ordered.right[tuning])
    return order, tuned, checked_scores(estimator, features), folded
