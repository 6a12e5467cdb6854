"""Times of the parts of a model that agree with one another: what lies between two places takes the same in
every part that holds it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def agreeing(
    heads: Sequence[float], tails: Sequence[float], whole: float, sizes: Sequence[int]
) -> tuple[Floats, Floats, float]:
    """Times of heads, tails and the whole as sums of stretches between places, each at least 0.

    Every part was measured alone, and measurements of two neighbours may be off by more than they differ. A
    head takes its call, its stretches and the coding of its tensor, a tail the same and the decoding. The
    sums that are nearest to all measurements, as shares of them, are found by non-negative least squares
    (Lawson and Hanson, Solving Least Squares Problems, 1974).

    Parameters
    ----------
    heads, tails
        Milliseconds ``[P]`` of the parts before and after each place, in the order of the model.
    whole
        Milliseconds of the model.
    sizes
        Numbers ``[P]`` in the tensor of each place.

    Examples
    --------
    >>> heads, tails, whole = agreeing([1.2, 0.9, 3.0], [4.0, 4.0, 2.0], 5.0, [10, 10, 10])
    >>> bool(heads[0] <= heads[1] <= heads[2])
    True
    """
    from scipy.optimize import nnls

    count = len(heads)
    before = np.tri(count, count + 1)  # stretches of each head; the last one lies behind all places
    share = np.array(sizes, np.float64)[:, np.newaxis] / max(sizes, default=1)
    nothing, call = np.zeros((count, 1)), np.ones((count, 1))
    parts = np.concatenate(
        [
            np.concatenate([before, share, nothing, call], axis=1),
            np.concatenate([1 - before, nothing, share, call], axis=1),
            np.concatenate([np.ones((1, count + 1)), np.zeros((1, 2)), np.ones((1, 1))], axis=1),
        ]
    )
    measured = np.array([*heads, *tails, whole])
    found, _ = nnls(parts / measured[:, np.newaxis], np.ones(len(measured)), maxiter=100 * (count + 1))
    times: Floats = parts @ found
    return times[:count], times[count:-1], float(times[-1])
