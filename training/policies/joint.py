"""Thresholds of all stages of a cascade, chosen together for each of many prices of a millisecond."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.policies.frontier import Floats

SWEEPS = 3


def joint_thresholds(
    scores: Sequence[Floats], right: NDArray[np.bool_], stop_costs: Floats, prices: Floats
) -> Floats:
    """Thresholds ``[P, K - 1]``: what a stage's score must reach for its answer to count.

    Right answers minus price times milliseconds is raised by coordinate ascent: the threshold of one stage
    after the other, from the last to the first, is set to its best while the others stay. Of a stage every
    threshold is tried that lies halfway between two adjacent scores.

    Parameters
    ----------
    scores
        Of every stage ``[n]``; that of the last is not looked at.
    right
        Whether stopping at each stage is right ``[n, K]``.
    stop_costs
        Milliseconds of stopping at each stage ``[K]``.
    prices
        ``[P]``.
    """
    count = len(stop_costs)
    worth = [right[:, k] - prices[:, np.newaxis] * stop_costs[k] for k in range(count)]  # each [P, n]
    thresholds = np.full((len(prices), count - 1), np.inf)
    orders = [np.argsort(-score, kind="stable") for score in scores[: count - 1]]
    cuts = [_cuts(score[order]) for score, order in zip(scores, orders, strict=False)]
    for sweep in range(SWEEPS if count > 2 else 1):
        before = thresholds.copy()
        later = worth[-1]
        for i in reversed(range(count - 1)):
            gain = worth[i] - later
            if sweep:  # at first as if every sample came to every stage
                for k in range(i):
                    gain[scores[k] >= thresholds[:, k : k + 1]] = 0.0
            places, levels = cuts[i]
            summed = np.cumsum(gain[:, orders[i]], axis=1)
            gained = np.concatenate([np.zeros((len(prices), 1)), summed[:, places]], axis=1)
            thresholds[:, i] = levels[gained.argmax(axis=1)]
            later = np.where(scores[i] >= thresholds[:, i : i + 1], worth[i], later)
        if (thresholds == before).all():
            break
    return thresholds


def _cuts(ranked: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Where descending scores may be cut after (``[m]``), and the thresholds ``[1 + m]``, none first."""
    changes = np.flatnonzero(ranked[:-1] > ranked[1:])
    middles = ranked[changes + 1] + (ranked[changes] - ranked[changes + 1]) / 2
    middles = np.where(middles > ranked[changes + 1], middles, ranked[changes])
    ends = [ranked[0] + 1.0], [ranked[-1] - 1.0]
    return np.append(changes, len(ranked) - 1), np.concatenate([ends[0], middles, ends[1]])
