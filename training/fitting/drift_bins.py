"""Bins in which a drift reference counts the values of a feature: edges of some samples, counts of others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from selector.drift.monitor import DriftFeature

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
    """Ascending edges at quantiles of values ``[n]``, closer together in the tails.

    No edge comes closer to a value that many samples share than computers may disagree: such a value has a
    bin of its own.
    """
    quantiles = np.quantile(values.astype(np.float64), _SHARES, method="lower")
    margins = _TOLERANCE * np.maximum(1, np.abs(quantiles))
    edges = [quantiles[0] - margins[0]]
    shared = False
    for i in range(1, len(quantiles)):
        if quantiles[i] - quantiles[i - 1] <= 2 * margins[i]:
            shared = True
            continue
        if shared:
            edges.append(quantiles[i - 1] + margins[i - 1])
        shared = False
        edges.append(quantiles[i] - margins[i])
    edges.append(quantiles[-1] + margins[-1])
    rounded: Sequence[float] = np.unique(np.array(edges, np.float32)).tolist()
    return tuple(rounded)
