"""Average improvement in quality: the one number by which RouterBench compares routers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.selection.mixes import Point
from training.policies.singles import upper_hull


def aiq(points: Sequence[Point], low: float, high: float) -> float:
    """Mean quality over costs from `low` to `high` on the upper hull of what a method does.

    Between two settings a coin mixes them; beyond the dearest, its quality stays (Hu et al., RouterBench,
    2024).
    The points should hold the cheapest model alone, which every method can mix with its own settings.

    Examples
    --------
    >>> from benchmarks.tables.aiq import aiq
    >>> round(aiq([Point(0.5, 1.0, 1.0), Point(0.9, 3.0, 3.0)], 1.0, 3.0), 3)
    0.7
    """
    costs = np.array([point.mean_ms for point in points])
    quality = np.array([point.accuracy for point in points])
    hull = upper_hull(costs, quality)
    grid = np.linspace(low, high, 1001)
    return float(np.trapezoid(np.interp(grid, costs[hull], quality[hull]), grid) / (high - low))
