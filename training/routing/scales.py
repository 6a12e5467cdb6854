"""What scores are worth: a rising line from any number that grows with confidence to log-odds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from selector.routing.evidence import filled, log_odds_of_each
from selector.routing.record import GivenFeature, ScoreScale, estimate_names, given_columns
from training.outcomes.table_outcomes import TableOutcomes
from training.outcomes.table_profile import TableFeature
from training.policies.frontier import Floats
from training.policies.platt import platt
from zoo.errors import DataError

BINS = 20  # of a score, with equally many samples
LEAST_IN_BIN = 40  # samples
STRAIGHT = 0.2  # share of the straight line in the mean of both, so that no two scores are worth the same


def score_scale(scores: Floats, right: NDArray[np.bool_]) -> ScoreScale | None:
    """The line for one model, from fit and tune samples ``[n]``; None where scores say nothing.

    Shares of right answers in bins of the score rise after isotonic regression (Zadrozny and Elkan 2002), and
    a straight line of log-odds (Platt 1999) tells apart what that leaves equal.
    """
    from sklearn.isotonic import IsotonicRegression  # here: scales are read far more often than made

    scale, offset = platt(scores, right)
    if scale == 0:
        return None
    count = max(2, min(BINS, len(scores) // LEAST_IN_BIN))
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, count + 1)[1:-1]))
    place = np.searchsorted(edges, scores, side="right")
    sizes = np.bincount(place, minlength=len(edges) + 1).astype(np.float64)
    kept = sizes > 0
    middles = np.bincount(place, scores, minlength=len(sizes))[kept] / sizes[kept]
    share = (right.sum() + 1) / (len(right) + 2)
    smoothed = (np.bincount(place, right, minlength=len(sizes))[kept] + 2 * share) / (sizes[kept] + 2)
    rising = IsotonicRegression().fit(middles, smoothed, sample_weight=sizes[kept]).predict(middles)
    odds = np.log(rising / (1 - rising))
    points = np.concatenate([[scores.min()], middles, [scores.max()]])
    odds = np.concatenate([odds[:1], odds, odds[-1:]])
    both = (1 - STRAIGHT) * odds + STRAIGHT * (scale * points + offset)
    new = np.concatenate([[True], np.diff(points) > 0])
    return ScoreScale(
        scores=tuple(points[new].tolist()), log_odds=tuple(np.maximum.accumulate(both[new]).tolist())
    )


def score_scales(development: TableOutcomes) -> dict[str, ScoreScale | None]:
    """The line of every model; none where policies see logits."""
    if development.combinable:
        return dict.fromkeys(development.models)
    return {
        name: score_scale(development.scores[:, j], development.right[:, j])
        for j, name in enumerate(development.models)
    }


def given_features(development: TableOutcomes, features: Sequence[TableFeature]) -> tuple[GivenFeature, ...]:
    """What stands in for features that are missing: the median of the fit and tune samples.

    Raises
    ------
    DataError
        When a feature has the name of a column that is worked out from others.
    """
    found = []
    for j, feature in enumerate(features):
        known = development.features[:, j]
        known = known[~np.isnan(known)]
        fill = float(np.median(known)) if len(known) else 0.0
        found.append(GivenFeature(name=feature.name, fill=fill, gaps=feature.gaps))
    names = (*given_columns(found), *estimate_names(development.models))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"expected features of other names than {twice[0]!r}, which is worked out from other columns, "
            "got one. Rename it, or leave it out with --ignore."
        )
    return tuple(found)


def scaled(
    outcomes: TableOutcomes, scales: Mapping[str, ScoreScale | None], given: Sequence[GivenFeature]
) -> TableOutcomes:
    """Outcomes as a router sees them: scores as log-odds float32, features without gaps."""
    logits = outcomes.logits
    if not outcomes.combinable:
        logits = np.zeros_like(logits)
        for j, name in enumerate(outcomes.models):
            scale = scales[name]
            if scale is not None:
                logits[:, j, 0] = log_odds_of_each(scale, outcomes.scores[:, j])
    features, names = filled(given, outcomes.features), given_columns(given)
    return replace(outcomes, logits=logits, features=features, feature_names=names)
