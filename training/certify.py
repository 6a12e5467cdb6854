"""Certificates: thresholds that are proven to meet a precision, from held-out samples.

Learn-then-Test (Angelopoulos, Bates, Candès, Jordan and Lei 2021) with fixed-sequence testing: thresholds are
tested from the most conservative one on, each by an exact binomial test of "the precision is not met" at
level delta, and the testing stops at the first that is not rejected. The last rejected threshold then
meets the precision with probability at least 1 - delta over the draw of the certify samples, for any
distribution, with no correction for the number of thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from selector.policy import check_precision
from zoo.errors import DataError

LEVELS: tuple[float, ...] = tuple(round(0.5 + 0.005 * i, 3) for i in range(100))


@dataclass(frozen=True)
class Certified:
    """A threshold for which a precision was proven."""

    precision: float
    threshold: float
    samples: int
    right: int
    p_value: float


def p_value(right: int, samples: int, precision: float) -> float:
    """Probability of at least `right` of `samples` right answers if the precision were only just not met.

    The exact one-sided binomial test of "accuracy <= `precision`".
    """
    return float(binom.sf(right - 1, samples, precision))


def certify(
    right_at: Callable[[float], NDArray[np.bool_]],
    thresholds: Sequence[float],
    precision: float,
    *,
    delta: float = 0.05,
) -> Certified | None:
    """The least conservative threshold that provably meets `precision`, or None.

    Parameters
    ----------
    right_at
        Threshold → whether each certify sample is answered right, bool ``[n]``. The samples must be
        independent draws that nothing else was chosen on.
    thresholds
        From the most conservative one; fixed before the certify samples were looked at.
    delta
        Allowed probability that a certificate is wrong.

    Raises
    ------
    PrecisionError
        Unless `precision` lies strictly between 0 and 1.
    DataError
        When there is no sample.
    """
    check_precision(precision)
    last: Certified | None = None
    for threshold in thresholds:
        right = right_at(threshold)
        if not len(right):
            raise DataError("expected certify samples, got none. Give the certify split a larger share.")
        value = p_value(int(right.sum()), len(right), precision)
        if value > delta:
            break
        last = Certified(precision, threshold, len(right), int(right.sum()), value)
    return last


def certify_levels(
    right_at: Callable[[float], NDArray[np.bool_]],
    thresholds: Sequence[float],
    levels: Sequence[float] = LEVELS,
    *,
    delta: float = 0.05,
) -> list[Certified]:
    """Certificates for many precisions, highest first; of several with one threshold, the highest stays.

    Each is valid on its own for whoever decides on its precision beforehand; they are not valid all at once.
    """
    known: dict[float, NDArray[np.bool_]] = {}

    def remembered(threshold: float) -> NDArray[np.bool_]:
        if threshold not in known:
            known[threshold] = right_at(threshold)
        return known[threshold]

    kept: dict[float, Certified] = {}
    for level in sorted(set(levels), reverse=True):
        found = certify(remembered, thresholds, level, delta=delta)
        if found is not None:
            kept.setdefault(found.threshold, found)
    return list(kept.values())


def samples_needed(
    accuracy: float, precision: float, *, delta: float = 0.05, most: int = 10**6
) -> int | None:
    """Certify samples at which a policy of this true accuracy is certified in half of the cases, or None."""
    if accuracy <= precision:
        return None
    low, high = 1, most
    if p_value(int(np.floor(accuracy * high)), high, precision) > delta:
        return None
    while low < high:
        middle = (low + high) // 2
        if p_value(int(np.floor(accuracy * middle)), middle, precision) <= delta:
            high = middle
        else:
            low = middle + 1
    return low
