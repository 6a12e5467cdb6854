"""Automatic tuning: which features and which estimator give the best frontier, by grouped
cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.model_selection import GroupKFold

from selector.policy import choose
from training.estimators import KINDS, CorrectnessEstimator
from training.policies import Floats, Simulated, frontier_quality, threshold_grid
from zoo.errors import DataError

MAX_CORRELATION = 0.75
MAX_ROWS = 8000  # more do not change which feature is useful, only how long the search takes
FOLDS = 4


@dataclass(frozen=True)
class FeatureVerdict:
    """Whether a feature was kept, and why."""

    name: str
    kept: bool
    reason: str


@dataclass(frozen=True)
class Tuned:
    """What the search settled on."""

    features: tuple[str, ...]
    estimator: str
    verdicts: tuple[FeatureVerdict, ...]
    quality: dict[str, tuple[float, float]]  # estimator → mean and standard error of its frontier quality


def tune(
    features: NDArray[np.float32],
    names: Sequence[str],
    right: NDArray[np.bool_],
    groups: NDArray[np.str_],
    costs: Floats,
    *,
    seed: int = 0,
) -> Tuned:
    """Choose features and an estimator.

    Features: constants go; of each pair with a rank correlation beyond 0.75 the one that tells less about
    correctness goes; then the weakest fifth goes again and again, and the smallest set whose cross-validated
    frontier quality is as good as the best stays: the mean difference over the folds is within its standard
    error. Estimators: the simplest that is as good as the best, likewise.

    Parameters
    ----------
    features
        ``[n, F]``.
    right
        Correctness ``[n, M]``, models from cheapest to dearest.
    groups
        Originals ``[n]``; variants of one never fall into two folds.
    costs
        Milliseconds ``[M]`` of each model.

    Raises
    ------
    DataError
        When features are not finite or there are fewer than eight originals.
    """
    if not np.isfinite(features).all():
        column = int((~np.isfinite(features)).any(axis=0).argmax())
        raise DataError(f"expected finite features, got NaN or infinity in {names[column]!r}. Profile again.")
    if len(set(groups.tolist())) < 2 * FOLDS:
        raise DataError(
            f"expected at least {2 * FOLDS} originals to fit on, got {len(set(groups.tolist()))}. "
            "Give more labelled images."
        )
    if len(features) > MAX_ROWS:
        chosen = np.random.default_rng(seed).choice(len(features), MAX_ROWS, replace=False)
        features, right, groups = features[chosen], right[chosen], groups[chosen]
    verdicts: dict[str, FeatureVerdict] = {}
    alive = _drop_constants(features, names, verdicts)
    alive = _drop_correlated(features, names, right, alive, verdicts)
    alive = _eliminate(features, names, right, groups, costs, alive, verdicts)
    if not alive:  # nothing varies: any one feature carries the constant estimate
        alive = [0]
        verdicts[names[0]] = FeatureVerdict(names[0], True, "no feature varies; kept as a placeholder")
    scores = {
        kind: _folded_quality(kind, features[:, alive], right, groups, costs, seed=seed) for kind in KINDS
    }
    best = max(scores.values(), key=np.mean)
    estimator = next(kind for kind in KINDS if _as_good(scores[kind], best))
    for column in alive:
        verdicts.setdefault(names[column], FeatureVerdict(names[column], True, "kept"))
    return Tuned(
        features=tuple(names[column] for column in alive),
        estimator=estimator,
        verdicts=tuple(verdicts[name] for name in names),
        quality={kind: _mean_and_error(values) for kind, values in scores.items()},
    )


def _drop_constants(
    features: NDArray[np.float32], names: Sequence[str], verdicts: dict[str, FeatureVerdict]
) -> list[int]:
    alive = []
    for column, name in enumerate(names):
        values = features[:, column].astype(np.float64)
        if values.std() <= 1e-6 * max(1.0, float(np.abs(values).max())):
            verdicts[name] = FeatureVerdict(name, False, "constant on these images")
        else:
            alive.append(column)
    return alive


def _drop_correlated(
    features: NDArray[np.float32],
    names: Sequence[str],
    right: NDArray[np.bool_],
    alive: list[int],
    verdicts: dict[str, FeatureVerdict],
) -> list[int]:
    if not alive:
        return []
    ranks = rankdata(features[:, alive], axis=0)
    ranks = (ranks - ranks.mean(axis=0)) / ranks.std(axis=0)
    varying = right[:, (right.any(axis=0)) & (~right.all(axis=0))].astype(np.float64)
    if varying.shape[1]:
        centred = (varying - varying.mean(axis=0)) / varying.std(axis=0)
        told = np.abs(ranks.T @ centred / len(ranks)).max(axis=1)
    else:
        told = np.zeros(len(alive))
    correlation = np.abs(ranks.T @ ranks / len(ranks))
    kept: list[int] = []
    for i in np.argsort(-told, kind="stable"):
        rival = next((k for k in kept if correlation[i, k] > MAX_CORRELATION), None)
        if rival is None:
            kept.append(int(i))
        else:
            name, other = names[alive[i]], names[alive[rival]]
            value = correlation[i, rival]
            verdicts[name] = FeatureVerdict(name, False, f"correlation {value:.2f} with {other}")
    return sorted(alive[i] for i in kept)


def _eliminate(
    features: NDArray[np.float32],
    names: Sequence[str],
    right: NDArray[np.bool_],
    groups: NDArray[np.str_],
    costs: Floats,
    alive: list[int],
    verdicts: dict[str, FeatureVerdict],
) -> list[int]:
    if len(alive) <= 2:
        return alive
    current = list(alive)
    steps: list[tuple[list[int], list[float]]] = []
    while True:
        scores = _folded_quality("logistic", features[:, current], right, groups, costs)
        steps.append((list(current), scores))
        if len(current) <= 2:
            break
        importance = _importance(features[:, current], right)
        drop = max(1, len(current) // 5)
        keep = np.sort(np.argsort(-importance, kind="stable")[: len(current) - drop])
        current = [current[i] for i in keep]
    best = max((scores for _, scores in steps), key=np.mean)
    chosen = min((step for step in steps if _as_good(step[1], best)), key=lambda step: len(step[0]))
    reason = f"the frontier is as good without it ({np.mean(chosen[1]):.4f}, best {np.mean(best):.4f})"
    for column in alive:
        if column not in chosen[0]:
            name = names[column]
            verdicts[name] = FeatureVerdict(name, False, reason)
    return chosen[0]


def _importance(features: NDArray[np.float32], right: NDArray[np.bool_]) -> Floats:
    fitted = CorrectnessEstimator("logistic").fit(features, right)
    if fitted.pipeline is None:
        return np.zeros(features.shape[1])
    lines = fitted.pipeline[-1].estimators_
    weights: Floats = np.max([np.abs(line.coef_[0]) for line in lines], axis=0)
    return weights


def _folded_quality(
    kind: str,
    features: NDArray[np.float32],
    right: NDArray[np.bool_],
    groups: NDArray[np.str_],
    costs: Floats,
    *,
    seed: int = 0,
) -> list[float]:
    """Frontier quality on each held-out fold."""
    qualities = []
    for fitted, held in GroupKFold(FOLDS).split(features, groups=groups):
        estimator = CorrectnessEstimator(kind, seed=seed).fit(features[fitted], right[fitted])
        frontier = input_frontier(estimator.scores(features[held]), right[held], costs)
        qualities.append(frontier_quality(frontier, float(costs.min()), float(costs.max())))
    return qualities


def input_frontier(
    scores: Floats, right: NDArray[np.bool_], costs: Floats, *, count: int = 60
) -> list[Simulated]:
    """Frontier of the input policy's rule on scores ``[n, M]``."""
    rows = np.arange(len(scores))
    points = []
    for threshold in threshold_grid(scores, count=count):
        picks = choose(scores, float(threshold))
        points.append(Simulated(float(threshold), picks, right[rows, picks], costs[picks]))
    return points


def _as_good(scores: Sequence[float], best: Sequence[float]) -> bool:
    """Whether the mean over the folds lies within one standard error of the paired difference to the best."""
    behind, error = _mean_and_error(np.subtract(best, scores).tolist())
    return behind <= error


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
