"""Fitting cascades: which models form the chain, and what their confidence is worth."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from selector.policy import CascadePolicy, Stage, escalate, right_probability
from training.estimators import platt
from training.outcomes import Outcomes
from training.policies import Floats, Simulated, by_cost, cheapest_reaching, threshold_grid
from zoo.errors import DataError

MAX_STAGES = 4
MAX_MODELS = 12  # more are narrowed down to the most useful ones before chains are tried
MAX_ROWS = 8000


def fit_cascade(outcomes: Outcomes, costs: Mapping[str, float], target: float) -> CascadePolicy:
    """The chain that reaches the accuracy `target` at the least mean cost.

    All chains of up to four models, cheapest first, are simulated with every useful threshold. Where none
    reaches the target, the most accurate one is taken.

    Parameters
    ----------
    outcomes
        Fit and tune samples.
    costs
        Milliseconds of every model.
    target
        Accuracy to reach on `outcomes`; see :func:`accuracy_to_certify`.
    """
    if len(outcomes) > MAX_ROWS:
        chosen = np.random.default_rng(0).choice(len(outcomes), MAX_ROWS, replace=False)
        search = outcomes.rows(np.sort(chosen))
    else:
        search = outcomes
    names = _useful(search, costs)
    search = search.with_models(names)
    stages = [fit_stage(search, name) for name in names]
    probabilities = np.stack(
        [right_probability(stage, search.log_odds[:, j]) for j, stage in enumerate(stages)], axis=1
    )
    each = np.array([costs[name] for name in names])
    best: tuple[bool, float, float] | None = None
    chain: tuple[int, ...] = ()
    for length in range(1, min(MAX_STAGES, len(names)) + 1):
        for members in combinations(range(len(names)), length):
            columns = list(members)
            frontier = chain_frontier(
                probabilities[:, columns], search.right[:, columns], np.cumsum(each[columns])
            )
            point = cheapest_reaching(frontier, target)
            if point is not None:
                rank = (True, -point.mean_ms, point.accuracy)
            else:
                top = max(frontier, key=lambda item: (item.accuracy, -item.mean_ms))
                rank = (False, top.accuracy, -top.mean_ms)
            if best is None or rank > best:
                best, chain = rank, members
    return CascadePolicy(stages=tuple(fit_stage(outcomes, names[j]) for j in chain))


def refit(policy: CascadePolicy, outcomes: Outcomes) -> CascadePolicy:
    """The same chain, its confidences calibrated on other samples."""
    return CascadePolicy(stages=tuple(fit_stage(outcomes, stage.model) for stage in policy.stages))


def fit_stage(outcomes: Outcomes, name: str) -> Stage:
    """Platt scaling of one model's raw confidence."""
    column = outcomes.models.index(name)
    scale, offset = platt(outcomes.log_odds[:, column], outcomes.right[:, column])
    return Stage(model=name, scale=scale, offset=offset)


def chain_frontier(
    probabilities: Floats, right: NDArray[np.bool_], stop_costs: Floats, *, count: int = 60
) -> list[Simulated]:
    """Frontier of the cascade's rule on probabilities and correctness ``[n, K]``."""
    rows = np.arange(len(right))
    points = []
    for threshold in threshold_grid(probabilities, count=count):
        stop, answer = escalate(probabilities, float(threshold))
        points.append(Simulated(float(threshold), answer, right[rows, answer], stop_costs[stop]))
    return points


def accuracy_to_certify(precision: float, samples: int, *, delta: float = 0.05) -> float:
    """Accuracy that `samples` certify samples have to show for `precision` to be certified."""
    if samples < 1:
        raise DataError("expected certify samples, got none. Give the certify split a larger share.")
    right = int(binom.isf(delta, samples, precision)) + 1
    return min(1.0, right / samples)


def _useful(outcomes: Outcomes, costs: Mapping[str, float]) -> tuple[str, ...]:
    names = by_cost(costs, outcomes.models)
    if len(names) <= MAX_MODELS:
        return names
    accuracy = outcomes.accuracy()
    layers: list[str] = []
    left = list(names)
    while left and len(layers) < MAX_MODELS:  # peel off accuracy–cost frontiers until there are enough
        best = -1.0
        for name in tuple(left):
            if accuracy[name] > best:
                best = accuracy[name]
                layers.append(name)
                left.remove(name)
    return by_cost(costs, layers[:MAX_MODELS])
