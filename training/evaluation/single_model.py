"""Whether a single model is as good as what was made: as often right on the same inputs, in no more time."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from training.evaluation.records import SingleAsGood

_Z = 1.959963984540054  # of a 95 % interval


def paired_interval(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[float, float]:
    """95 % confidence interval of the accuracy of `one` minus that of `other` on the same inputs ``[n]``.

    Agresti and Min, Simple Improved Confidence Intervals for Comparing Matched Proportions (Statistics in
    Medicine 24, 2005): Wald's interval after half an input is added to each of the four cells.
    """
    more, fewer = float((one & ~other).sum()), float((other & ~one).sum())
    n = len(one) + 2
    centre = (more - fewer) / n
    half = _Z * math.sqrt(max(0.0, more + fewer + 1 - (more - fewer) ** 2 / n)) / n
    return max(-1.0, centre - half), min(1.0, centre + half)


def single_as_good(
    ours: tuple[NDArray[np.bool_], float],
    singles: Mapping[str, tuple[NDArray[np.bool_], float]],
    *,
    times_known: bool = True,
    alone: str | None = None,
) -> SingleAsGood | None:
    """The most accurate single model that is as good, or None.

    A model is as good when its accuracy may be as high, which is when the 95 % interval of the difference on
    the same inputs reaches 0, and when its time is no longer.

    Parameters
    ----------
    ours
        Whether each answer is right ``[n]``, and milliseconds of an answer.
    singles
        The same of every single model, on the same inputs in the same order.
    times_known
        Whether times can be trusted; otherwise what is found is said with reserve.
    alone
        The model that answers every input, where the selector uses one only; it counts whatever its time.
    """
    right, time = ours
    found = []
    for name, (model, taken) in singles.items():
        low, high = paired_interval(model, right)
        if name == alone or (high >= 0 and taken <= time):
            found.append(
                SingleAsGood(
                    name=name,
                    accuracy=float(model.mean()),
                    difference=float(model.mean() - right.mean()),
                    difference_low=low,
                    difference_high=high,
                    time_ms=taken,
                    selector_ms=time,
                    inputs=len(right),
                    times_known=times_known,
                    alone=name == alone,
                )
            )
    return max(found, key=lambda one: (one.accuracy, one.alone, -one.time_ms), default=None)
