"""Bins in which a drift reference counts the values of a feature: edges of some samples, counts of others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from selector.drift.monitor import DriftFeature
from training.policies.frontier import halfway

_TAIL = (0.0, 0.002, 0.01, 0.03)  # where most changes show
_SHARES = (*_TAIL, *(i / 16 for i in range(1, 16)), *(1 - share for share in reversed(_TAIL)))
_TOLERANCE = 1e-4  # by which two computers may disagree about a feature, relative to 1 or more


def drift_feature(name: str, known: NDArray[np.floating], counted: NDArray[np.floating]) -> DriftFeature:
    """How values are spread over bins.

    Parameters
    ----------
    known
        Values ``[n]`` whose quantiles are the edges; other samples than the counted ones, see
        :class:`selector.drift.monitor.DriftFeature`.
    counted
        Values ``[n]`` of the calibration samples.
    """
    edges = bin_edges(known)
    bins = np.searchsorted(np.array(edges, np.float32), counted.astype(np.float32), side="right")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    return DriftFeature(name=name, edges=edges, counts=tuple(counts.tolist()))


def bin_edges(values: NDArray[np.floating]) -> tuple[float, ...]:
    """Ascending edges near quantiles of values ``[n]``, closer together in the tails.

    Each lies between values that occur, as far from both as computers may disagree or else :func:`halfway`,
    so that none changes its bin by that. A value that many samples share has a bin of its own.
    """
    exact = values.astype(np.float64)
    quantiles = np.quantile(exact, _SHARES, method="lower")
    shared = quantiles[:-1][np.diff(quantiles) <= 0]
    occur = np.unique(exact)
    below = halfway(quantiles, occur, _margin(occur))
    above = halfway(np.nextafter(shared, np.inf), occur, _margin(occur))
    high, low = occur[np.searchsorted(occur, below)], occur[np.searchsorted(occur, above) - 1]
    edges = [
        *np.maximum(below, high - _margin(high)),
        *np.minimum(above, low + _margin(low)),
        occur[0] - _margin(occur[0]),
        occur[-1] + _margin(occur[-1]),
    ]
    rounded: Sequence[float] = np.unique(np.array(edges, np.float32)).tolist()
    return tuple(rounded)


def _margin(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much computers may disagree about values ``[n]``."""
    return np.asarray(_TOLERANCE * np.maximum(1, np.abs(values)))
