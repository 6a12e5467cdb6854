"""Mixes: a coin that picks one of two settings for every input, for ours and for peers alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.policies.frontier import Point as FrontierPoint
from training.policies.frontier import Simulated
from training.policies.singles import upper_hull


@dataclass(frozen=True)
class Point:
    """One method at one setting, or a mix of two, on the test samples of one repetition."""

    accuracy: float
    mean_ms: float
    p95_ms: float


def point_of(setting: Simulated) -> Point:
    """A setting alone."""
    return Point(setting.accuracy, setting.mean_ms, float(np.quantile(setting.cost_ms, 0.95)))


def worth_mixing(chosen_on: Sequence[FrontierPoint]) -> list[int]:
    """Which settings no mix of others beats on the samples that settings are chosen on, cheapest first."""
    times = np.array([point.mean_ms for point in chosen_on])
    accuracy = np.array([point.accuracy for point in chosen_on])
    return upper_hull(times, accuracy)


def reaching(
    level: float,
    chosen_on: Sequence[FrontierPoint],
    settings: Sequence[Simulated],
    accuracies: Sequence[float] | None = None,
) -> Point | None:
    """The cheapest mix of two settings that reaches an accuracy where settings are chosen, on other samples.

    Parameters
    ----------
    chosen_on, settings
        The same settings on the samples that they are chosen on, and on those that the result is about.
    accuracies
        Of `settings`, where expected ones are known.

    Returns
    -------
    Point or None
        None where no setting reaches the level.

    Examples
    --------
    >>> import numpy as np
    >>> def setting(cost, right):
    ...     return Simulated(0.0, np.zeros(10, int), np.arange(10) < right, np.full(10, cost))
    >>> known, tested = [setting(1.0, 5), setting(3.0, 9)], [setting(1.0, 4), setting(3.0, 8)]
    >>> found = reaching(0.7, known, tested)
    >>> round(found.accuracy, 3), round(found.mean_ms, 3)
    (0.6, 2.0)
    """
    hull = worth_mixing(chosen_on)
    known = [chosen_on[i].accuracy for i in hull]
    if level > known[-1]:
        return None
    place = float(np.interp(level, known, np.arange(len(hull))))
    left = min(int(place), max(len(hull) - 2, 0))
    share = place - left
    shown = [setting.accuracy for setting in settings] if accuracies is None else accuracies
    cheap, dear = hull[left], hull[min(left + 1, len(hull) - 1)]
    costs = np.concatenate([settings[cheap].cost_ms, settings[dear].cost_ms])
    weights = np.repeat([1 - share, share], [len(settings[cheap].cost_ms), len(settings[dear].cost_ms)])
    order = np.argsort(costs, kind="stable")
    counted = np.cumsum(weights[order]) / weights.sum()
    return Point(
        accuracy=(1 - share) * shown[cheap] + share * shown[dear],
        mean_ms=(1 - share) * settings[cheap].mean_ms + share * settings[dear].mean_ms,
        p95_ms=float(costs[order][np.searchsorted(counted, 0.95 - 1e-9)]),
    )
