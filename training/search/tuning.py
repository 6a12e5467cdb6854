"""Automatic tuning: which features and which estimator give the best frontier for their cost, by grouped
cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.cluster.processes import Processes
from training.features.costs import FeatureCosts
from training.outcomes.folds import FOLDS, Folds, grouped_folds
from training.policies.frontier import Floats
from training.policies.logistic import fit_logistic, log_odds, sigmoid
from training.search.feature_value import blind_quality, net_quality, price_frontier
from zoo.errors import DataError

MAX_CORRELATION = 0.75
MAX_CORRELATION_GIVEN = 0.95  # of features that cost nothing
MAX_ROWS = 8000  # more do not change which feature is useful, only how long the search takes
LEAST_CHANCE = 1e-3  # that something is given which came all the same
BUDGET_SHARE = 0.05  # of the time of a model that a user would be content with
_PENALTY = 1 / 0.3  # of the logistic estimator


@dataclass(frozen=True)
class FeatureVerdict:
    """Whether a feature was kept, and why."""

    name: str
    kept: bool
    reason: str
    cost_us: float = 0.0  # measured, of this feature alone; 0 where nothing was measured


@dataclass(frozen=True)
class Tuned:
    """What the search settled on."""

    features: tuple[str, ...]
    estimator: str
    verdicts: tuple[FeatureVerdict, ...]
    quality: dict[str, tuple[float, float]]  # estimator → mean and standard error of its frontier quality
    cost_us: float = 0.0  # measured, of the kept features together; charged in `quality`
    # frontier quality of the kept features, with their cost, minus that of mixing single models blindly
    gain: tuple[float, float] = (0.0, 0.0)  # mean and standard error


@dataclass(frozen=True)
class _Search:
    """What every set of features is judged on."""

    features: Floats  # standardised
    right: NDArray[np.bool_]
    folds: Folds
    costs: Floats
    prices: FeatureCosts | None
    names: tuple[str, ...]

    def cost_us(self, columns: Sequence[int]) -> float:
        """Measured cost of a set."""
        return self.prices.of([self.names[i] for i in columns]) if self.prices else 0.0

    def quality(self, columns: Sequence[int]) -> list[float]:
        """Frontier quality of a set on each held-out fold, by logistic regression, its cost charged."""
        found = []
        chosen, overhead = self.features[:, columns], self.cost_us(columns) / 1000
        for rest, held in self.folds:
            weights = fit_logistic(chosen[rest], self.right[rest], penalty=_PENALTY)
            scores = sigmoid(log_odds(weights, chosen[held]))
            found.append(
                net_quality(price_frontier(scores, self.right[held], self.costs), self.costs, overhead)
            )
        return found

    def without_features(self) -> list[float]:
        """The same of mixing single models at random, which needs no features."""
        return [blind_quality(self.right[rest], self.right[held], self.costs) for rest, held in self.folds]

    def values(self, columns: Sequence[int]) -> Floats:
        """For each of a set, how much the likelihood falls without it (Wald), per microsecond."""
        chosen = self.features[:, columns]
        design = np.concatenate([chosen, np.ones((len(chosen), 1))], axis=1)
        weights = fit_logistic(chosen, self.right, penalty=_PENALTY)
        ridge = np.diag([*[_PENALTY] * len(columns), 1e-6])
        falls = np.zeros(len(columns))
        for model in range(self.right.shape[1]):
            chance = sigmoid(log_odds(weights[:, [model]], chosen))
            inverse = np.linalg.inv((design * (chance * (1 - chance))).T @ design + ridge)
            falls += weights[:-1, model] ** 2 / np.diag(inverse)[:-1]
        names = [self.names[i] for i in columns]
        return falls / np.array(self.prices.shares_us(names)) if self.prices else falls


def tune(
    features: NDArray[np.float32],
    names: Sequence[str],
    right: NDArray[np.bool_],
    groups: NDArray[np.str_],
    costs: Floats,
    *,
    prices: FeatureCosts | None = None,
    budget_us: float | None = None,
    seed: int = 0,
    processes: Processes | None = None,
) -> Tuned:
    """Choose features and an estimator.

    Features: constants go; of each pair with a rank correlation beyond 0.75 the one that tells less about
    correctness goes; then the fifth that tells least per microsecond goes, again and again. Every set on the
    way is judged by its cross-validated frontier quality, with its measured cost charged to every input. Of
    the sets within the budget that are as good as the best of them (the mean difference over the folds is
    within its standard error), the cheapest stays. Where no set is within the budget, the same holds of all.
    Estimators: the simplest that is as good as the best, likewise.

    Parameters
    ----------
    features
        ``[n, F]``; a scout's log-odds among them must be out of fold.
    right
        Correctness ``[n, M]``, models from cheapest to dearest.
    groups
        Originals ``[n]``; variants of one never fall into two folds.
    costs
        Milliseconds ``[M]`` of each model.
    prices
        What features cost; without, they cost nothing, and the smallest set stays instead of the cheapest.
    budget_us
        What the kept features may cost together; see :func:`default_budget_us`.
    processes
        That fit the estimators; by default this one.

    Raises
    ------
    DataError
        When features are not finite or there are fewer than eight originals.
    """
    return tune_and_score(
        features,
        names,
        right,
        groups,
        costs,
        prices=prices,
        budget_us=budget_us,
        seed=seed,
        processes=processes,
    )[0]


def tune_and_score(
    features: NDArray[np.float32],
    names: Sequence[str],
    right: NDArray[np.bool_],
    groups: NDArray[np.str_],
    costs: Floats,
    *,
    prices: FeatureCosts | None = None,
    budget_us: float | None = None,
    given: bool = False,
    seed: int = 0,
    processes: Processes | None = None,
) -> tuple[Tuned, Floats | None]:
    """:func:`tune`, and scores ``[n, M]`` of the chosen estimator, each by one that did not see the sample.

    There are no scores where the estimators were compared on a part of the samples. Where features are
    `given` with every input, neither they nor some microseconds matter: all of them are in the race, of the
    sets that are as good as the best the largest stays, and larger estimators are tried as well. Estimators
    are then compared by their log loss, which tells them apart with fewer samples than frontiers do.
    """
    if not np.isfinite(features).all():
        column = int((~np.isfinite(features)).any(axis=0).argmax())
        raise DataError(f"expected finite features, got NaN or infinity in {names[column]!r}. Profile again.")
    if len(set(groups.tolist())) < 2 * FOLDS:
        raise DataError(
            f"expected at least {2 * FOLDS} originals to fit on, got {len(set(groups.tolist()))}. "
            "Give more labelled images."
        )
    budget = default_budget_us(right, costs) if budget_us is None else budget_us
    count = len(features)
    features, right, groups = _sample(seed, features, right, groups)
    verdicts: dict[str, FeatureVerdict] = {}
    alive = _drop_constants(features, names, verdicts)
    most = MAX_CORRELATION_GIVEN if given else MAX_CORRELATION
    alive = _drop_correlated(features, names, right, alive, verdicts, most)
    if not alive:  # nothing varies: any one feature carries the constant estimate
        alive = [0]
        verdicts[names[0]] = FeatureVerdict(names[0], True, "no feature varies; kept as a placeholder")
    search = _Search(_standardised(features), right, grouped_folds(groups), costs, prices, tuple(names))
    sets, why = _eliminate(search, alive, budget, given=given)
    processes = processes or Processes(1)
    trials = [_Trial(features[:, one.columns], right, costs, one.cost_us / 1000, seed, given) for one in sets]
    tried = [_Tried.of(processes.run(_try_estimators, one, search.folds), search, given) for one in trials]
    best = max((one.best for one in tried), key=np.mean)
    place = next(i for i, one in enumerate(tried) if one.best is best or _as_good(one.best, best))
    chosen, found = sets[place], tried[place]
    for column in alive:
        kept = column in chosen.columns
        verdicts.setdefault(names[column], FeatureVerdict(names[column], kept, "kept" if kept else why))
    kind = found.simplest
    folded = np.empty(right.shape)
    for (_, held), values in zip(search.folds, found.scores[kind], strict=True):
        folded[held] = values
    alone = prices.alone_us if prices else {}
    tuned = Tuned(
        features=tuple(names[column] for column in chosen.columns),
        estimator=kind,
        verdicts=tuple(replace(verdicts[name], cost_us=alone.get(name, 0.0)) for name in names),
        quality={kind: _mean_and_error(values) for kind, values in found.quality.items()},
        cost_us=chosen.cost_us,
        gain=_mean_and_error(np.subtract(chosen.quality, search.without_features()).tolist()),
    )
    return tuned, folded if len(folded) == count else None


def default_budget_us(right: NDArray[np.bool_], costs: Floats) -> float:
    """5 % of the time of the cheapest model that is no less accurate than the median one, in microseconds."""
    accuracy = right.mean(axis=0)
    return float(BUDGET_SHARE * 1000 * costs[accuracy >= np.median(accuracy)].min())


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
    most: float,
) -> list[int]:
    if not alive:
        return []
    from scipy.stats import rankdata

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
        rival = next((k for k in kept if correlation[i, k] > most), None)
        if rival is None:
            kept.append(int(i))
        else:
            name, other = names[alive[i]], names[alive[rival]]
            value = correlation[i, rival]
            verdicts[name] = FeatureVerdict(name, False, f"correlation {value:.2f} with {other}")
    return sorted(alive[i] for i in kept)


@dataclass(frozen=True)
class _Set:
    """A set of features."""

    columns: list[int]
    cost_us: float
    quality: list[float]  # of a logistic regression's frontier, on every fold


def _eliminate(search: _Search, alive: list[int], budget_us: float, *, given: bool) -> tuple[list[_Set], str]:
    """The sets that estimators are tried on, the preferred one first, and why others of `alive` are left.

    Where features are given all of them are tried, too: a logistic regression does not see what neighbours
    or trees make of one.
    """
    current = list(alive)
    steps: list[_Set] = []
    while True:
        steps.append(_Set(current, search.cost_us(current), search.quality(current)))
        if len(current) == 1:
            break
        value = search.values(current)
        drop = max(1, len(current) // 5)
        keep = np.sort(np.argsort(-value, kind="stable")[: len(current) - drop])
        current = [current[i] for i in keep]
    affordable = [step for step in steps if step.cost_us <= budget_us] or steps
    best = max((step.quality for step in affordable), key=np.mean)
    good = [step for step in affordable if step.quality is best or _as_good(step.quality, best)]
    sign = -1 if given else 1
    chosen = min(good, key=lambda step: (step.cost_us, sign * len(step.columns)))
    why = f"the frontier is as good without it ({np.mean(chosen.quality):.4f}, best {np.mean(best):.4f})"
    if search.prices:
        why += f" at {chosen.cost_us:.0f} instead of {steps[0].cost_us:.0f} µs"
    return [chosen] if not given or chosen is steps[0] else [steps[0], chosen], why


@dataclass(frozen=True)
class _Trial:
    """What every kind of estimator is tried on."""

    features: NDArray[np.float32]  # the chosen ones
    right: NDArray[np.bool_]
    costs: Floats
    overhead_ms: float
    seed: int
    given: bool  # whether larger estimators are worth a try


_OfFold = dict[str, tuple[float, Floats]]  # kind → frontier quality on the held-out rows, and their scores


def _try_estimators(trial: _Trial, fold: tuple[NDArray[np.intp], NDArray[np.intp]]) -> _OfFold:
    from training.policies.estimators import KINDS, SMALL, CorrectnessEstimator  # not for a kept search

    rest, held = fold
    found = {}
    for kind in KINDS if trial.given else SMALL:
        estimator = CorrectnessEstimator(kind, seed=trial.seed)
        scores = estimator.fit(trial.features[rest], trial.right[rest]).scores(trial.features[held])
        frontier = price_frontier(scores, trial.right[held], trial.costs)
        found[kind] = net_quality(frontier, trial.costs, trial.overhead_ms), scores
    return found


@dataclass(frozen=True)
class _Tried:
    """Kinds of estimators on a set of features, simplest first: kind → what it did on every fold."""

    quality: dict[str, list[float]]  # of its frontier
    scores: dict[str, list[Floats]]  # of the held-out rows
    judged: dict[str, list[float]]  # what kinds are compared by

    @classmethod
    def of(cls, folds: Sequence[_OfFold], search: _Search, given: bool) -> _Tried:
        quality = {kind: [fold[kind][0] for fold in folds] for kind in folds[0]}
        scores = {kind: [fold[kind][1] for fold in folds] for kind in folds[0]}
        if not given:
            return cls(quality, scores, quality)
        targets = [search.right[held] for _, held in search.folds]
        judged = {kind: list(map(_log_likelihood, found, targets)) for kind, found in scores.items()}
        return cls(quality, scores, judged)

    @property
    def best(self) -> list[float]:
        """What the best kind did."""
        return max(self.judged.values(), key=np.mean)

    @property
    def simplest(self) -> str:
        """The simplest kind that is as good as the best."""
        best = self.best
        return next(kind for kind, found in self.judged.items() if found is best or _as_good(found, best))


def _sample(
    seed: int,
    features: NDArray[np.float32],
    right: NDArray[np.bool_],
    groups: NDArray[np.str_],
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.str_]]:
    if len(features) <= MAX_ROWS:
        return features, right, groups
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(features), MAX_ROWS, replace=False)
    if len(set(groups[chosen].tolist())) < 2 * FOLDS:  # a few originals with very many variants
        return features, right, groups
    return features[chosen], right[chosen], groups[chosen]


def _standardised(features: NDArray[np.float32]) -> Floats:
    wide = features.astype(np.float64)
    spread = wide.std(axis=0)
    standardised: Floats = (wide - wide.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return standardised


def _log_likelihood(scores: Floats, right: NDArray[np.bool_]) -> float:
    """Mean logarithm of the probability of what came, over samples and models."""
    return float(np.log(np.maximum(np.where(right, scores, 1 - scores), LEAST_CHANCE)).mean())


def _as_good(scores: Sequence[float], best: Sequence[float]) -> bool:
    """Whether the mean over the folds lies within one standard error of the paired difference to the best."""
    behind, error = _mean_and_error(np.subtract(best, scores).tolist())
    return behind <= error


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
