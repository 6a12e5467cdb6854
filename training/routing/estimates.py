"""How likely each model is right, from given features alone: scores that policies decide by, or begin with.

Samples that policies learn from get scores of estimators that did not see them (stacking: Wolpert 1992), so
a policy trusts scores as far as they will deserve it later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from selector.policies.rules import sigmoid
from selector.routing.evidence import odds_of_scores
from selector.routing.record import estimate_names
from training.outcomes.folds import grouped_folds
from training.outcomes.outcomes import with_features
from training.outcomes.table_outcomes import TableOutcomes
from training.policies.frontier import by_cost
from training.policies.platt import platt
from training.search.input_fit import InputFit
from training.search.selector_graph import checked_scores
from training.search.tuning import tune_and_score
from zoo.models.session import open_session

MAX_ROWS = 20_000  # that an estimator learns from: more only take time
FOLDS = 5
_CHUNK = 20_000


def fit_estimates(
    development: TableOutcomes, compared: TableOutcomes, costs: Mapping[str, float], *, seed: int
) -> tuple[InputFit, NDArray[np.float32]]:
    """Choose features and an estimator, fit it, and score every sample by one that did not learn from it.

    Parameters
    ----------
    development
        Fit and tune samples.
    compared
        A part of them, or all: what is chosen is chosen on these.

    Returns
    -------
    tuple
        The fit, and scores ``[n, M]`` of the development samples, models as there.

    Raises
    ------
    DataError
        When there are fewer than eight originals.
    ParityError
        When the graph and the estimator differ.
    """
    from training.policies.estimators import CorrectnessEstimator  # here: a kept search needs none

    order = by_cost(costs, development.models)
    ordered, part = development.with_models(order), compared.with_models(order)
    tuned, _ = tune_and_score(
        part.features,
        part.feature_names,
        part.right,
        part.groups,
        np.array([costs[name] for name in order]),
        given=True,
        seed=seed,
    )
    features, right = ordered.feature_columns(tuned.features), ordered.right
    rng = np.random.default_rng(seed)

    def fitted(rows: NDArray[np.intp]) -> CorrectnessEstimator:
        some = rows if len(rows) <= MAX_ROWS else np.sort(rng.choice(rows, MAX_ROWS, replace=False))
        return CorrectnessEstimator(tuned.estimator, seed=seed).fit(features[some], right[some])

    odds = np.empty(right.shape)
    for rest, held in grouped_folds(ordered.groups, FOLDS):
        odds[held] = odds_of_scores(fitted(rest).scores(features[held]))
    lines = np.array([platt(odds[:, j], right[:, j]) for j in range(len(order))])
    estimator = fitted(np.arange(len(ordered))).recalibrate(lines[:, 0], lines[:, 1])
    scores = checked_scores(estimator, features[:MAX_ROWS])
    folded = sigmoid(odds * lines[:, 0] + lines[:, 1]).astype(np.float32)
    place = {name: i for i, name in enumerate(ordered.ids.tolist())}
    of_compared = folded[[place[name] for name in part.ids.tolist()]].astype(np.float64)
    content: bytes = scores.SerializeToString(deterministic=True)
    fit = InputFit(order, tuned, b"", content, 0.0, None, of_compared, estimate_names(order))
    return fit, folded[:, [order.index(name) for name in development.models]]


def with_estimates(
    outcomes: TableOutcomes,
    order: Sequence[str],
    scores: bytes,
    features: Sequence[str],
    known: tuple[NDArray[np.str_], NDArray[np.float32]] | None = None,
) -> TableOutcomes:
    """Outcomes with the scores of a graph, and their log-odds as further features.

    Parameters
    ----------
    order
        Models that the columns of the scores are about.
    known
        Ids of samples that the estimator learned from, and their scores by others, models as in the outcomes.
    """
    session, columns = open_session(scores, name="scores"), [order.index(name) for name in outcomes.models]
    given, found = outcomes.feature_columns(features), np.empty(outcomes.right.shape, np.float32)
    for first in range(0, len(outcomes), _CHUNK):
        some = given[first : first + _CHUNK]
        found[first : first + _CHUNK] = session.run(["scores"], {"features": some})[0][:, columns]
    if known is not None:
        place = {name: i for i, name in enumerate(known[0].tolist())}
        rows = [(i, place[name]) for i, name in enumerate(outcomes.ids.tolist()) if name in place]
        found[[i for i, _ in rows]] = known[1][[j for _, j in rows]]
    back = [outcomes.models.index(name) for name in order]
    more = with_features(outcomes, estimate_names(order), odds_of_scores(found[:, back]))
    return replace(more, estimated=found)
