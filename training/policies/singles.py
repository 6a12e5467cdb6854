"""Single models and random mixes of two of them: what can be had without looking at the input."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Floats, Simulated


class SingleModelHull:
    """The upper hull of the costs and accuracies of single models, sample by sample.

    Parameters
    ----------
    costs
        Milliseconds of every model of `outcomes`.
    """

    def __init__(self, outcomes: Outcomes, costs: Mapping[str, float]) -> None:
        prices = np.array([costs[name] for name in outcomes.models])
        hull = upper_hull(prices, outcomes.right.mean(axis=0))
        self._costs = prices[hull]
        self._right = outcomes.right[:, hull].astype(np.float64)

    def right_at(self, mean_ms: float) -> Floats:
        """Expected share of right answers ``[n]`` of the mix that takes so long, or of the nearest one."""
        last = len(self._costs) - 1
        place = float(np.interp(mean_ms, self._costs, np.arange(last + 1)))
        left = min(int(place), max(last - 1, 0))
        share = place - left
        mixed: Floats = (1 - share) * self._right[:, left]
        return mixed + share * self._right[:, left + 1] if share else mixed

    def doubt(self, point: Simulated) -> float:
        """Standard error of what a point gains over the mix that takes as long, on the same samples."""
        gain = point.right - self.right_at(point.mean_ms)
        return float(gain.std() / np.sqrt(len(gain)))


def upper_hull(costs: NDArray[np.floating], accuracy: NDArray[np.floating]) -> list[int]:
    """Indices of the vertices of the upper convex hull, from the cheapest to the most accurate model."""
    hull: list[int] = []
    for j in np.lexsort((-accuracy, costs)).tolist():
        if hull and accuracy[j] <= accuracy[hull[-1]]:
            continue
        while len(hull) > 1 and _slope(costs, accuracy, hull[-2], hull[-1]) <= _slope(
            costs, accuracy, hull[-2], j
        ):
            hull.pop()
        hull.append(j)
    return hull


def _slope(costs: NDArray[np.floating], accuracy: NDArray[np.floating], start: int, end: int) -> float:
    rise, run = float(accuracy[end] - accuracy[start]), float(costs[end] - costs[start])
    return math.inf if run <= 0 else rise / run
