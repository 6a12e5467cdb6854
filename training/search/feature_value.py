"""What scores are worth: the quality of their frontier net of their cost, and of mixing models blindly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.policies.frontier import Floats, Simulated, frontier_quality
from training.policies.singles import upper_hull

PRICE_STEPS = 80
_MIXES = 64


def price_frontier(scores: Floats, right: NDArray[np.bool_], costs: Floats) -> list[Simulated]:
    """Frontier of the rule "highest score minus cost times a price", for prices from 0 to beyond every score.

    Unlike the rule of the input policy it never picks a model that is hardly cheaper and much worse, so it
    shows what the scores are worth before such models are left out.
    """
    rows, span = np.arange(len(scores)), float(costs.max() - costs.min()) or 1.0
    prices = [0.0, *np.geomspace(1e-3, 1e3, PRICE_STEPS) / span]
    points = []
    for price in prices:
        picks = (scores - price * costs).argmax(axis=1)
        points.append(Simulated(float(price), picks, right[rows, picks], costs[picks]))
    cheapest = np.full(len(scores), costs.argmin())
    points.append(Simulated(np.inf, cheapest, right[rows, cheapest], costs[cheapest]))
    return points


def net_quality(frontier: Sequence[Simulated], costs: Floats, overhead_ms: float) -> float:
    """Frontier quality when every input also pays `overhead_ms`; the budgets are those without it."""
    charged = [replace(point, cost_ms=point.cost_ms + overhead_ms) for point in frontier]
    return frontier_quality(charged, float(costs.min()), float(costs.max()))


def blind_quality(fitted: NDArray[np.bool_], held: NDArray[np.bool_], costs: Floats) -> float:
    """Frontier quality ``[held]`` of the best random mixes of two models: what is possible without a look.

    Which pairs are worth mixing is read off `fitted`, as a policy would.
    """
    hull = upper_hull(costs, fitted.mean(axis=0))
    accuracy = held.mean(axis=0)
    points = []
    for low, high in zip(hull, hull[1:] or hull, strict=False):
        for share in np.linspace(0, 1, _MIXES):
            cost = (1 - share) * costs[low] + share * costs[high]
            points.append((cost, (1 - share) * accuracy[low] + share * accuracy[high]))
    budgets = np.geomspace(costs.min(), max(costs.max(), costs.min() * 1.0001), 16)
    times, reached = np.array(sorted(points)).T
    best = np.maximum.accumulate(reached)
    return float(best[np.searchsorted(times, budgets * (1 + 1e-9), side="right") - 1].mean())
