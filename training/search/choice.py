"""Choosing among candidates: how well each serves an aim, and how much a doubtful gain counts.

Of many candidates some look good by luck, so a gain counts as far as it exceeds some of its standard errors
(as in the one-standard-error rule of Breiman et al. 1984). How many is best depends on the data: where
policies gain a lot, a discount misses some of it; where they gain little, what looks best is luck. So
candidates are chosen among on half of the samples, with every discount, and judged on the other half.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from training.certificates.aim import STANDARD_ERRORS_DISCOUNTED, Aim
from training.outcomes.folds import halvings
from training.policies.frontier import Floats, Outline
from training.policies.singles import upper_hull
from training.search.candidates import Candidate

MAX_POLICIES = 8
DISCOUNTS = (0.0, 0.375, 0.75, 1.5, 2.25, 3.0, 4.5)  # standard errors
_TIMES = 40  # mean times at which choices are compared
_DIFFERENCE = 1e-4  # of a mean accuracy, that is worth another discount than the usual one


def failure_ms(candidates: Sequence[Candidate], costs: Mapping[str, float]) -> float:
    """What certifying nothing counts as: the dearest model, features included where any are looked at."""
    looking = [point.mean_ms for one in candidates if one.kind == "input" for point in one.frontier]
    return max([*costs.values(), *looking])


def standing(candidate: Candidate, aim: Aim) -> tuple[float, ...]:
    """How well a candidate serves an aim; greater is better. Of nearly equal ones, fewer models win."""
    reached, worth, *rest = aim.rank(candidate.frontier)
    per_model = 0.001 if aim.constraint.is_budget else 0.01
    return (reached, worth - per_model * len(candidate.models), *rest)


def worth_keeping(
    candidates: Sequence[Candidate],
    aim: Aim,
    most: int = MAX_POLICIES,
    local: Collection[str] = (),
) -> list[Candidate]:
    """The candidates that are the best for some set of installed models, best first.

    A candidate is of no use where a better one needs no other models. Of the rest, the best come first and
    are kept up to `most`; single models are always kept, for devices that hold nothing else, and so is the
    best of those that need `local` models alone, for the times without a network.
    """
    kept: list[Candidate] = []
    offline = False  # whether one is kept that needs no server
    for candidate in sorted(candidates, key=lambda item: standing(item, aim), reverse=True):
        if any(set(better.models) <= set(candidate.models) for better in kept):
            continue
        alone = set(candidate.models) <= set(local)
        if len(candidate.models) == 1 or len(kept) < most or (alone and not offline):
            kept.append(candidate)
            offline = offline or alone
    return kept


def discount_of(candidates: Sequence[Candidate], groups: NDArray[np.str_]) -> float:
    """The discount of :data:`DISCOUNTS` with which choices on one half are best on the other.

    Choices are points of all candidates on the upper hull of mean time and discounted accuracy; what they
    are worth is the mean of their accuracies over mean times from the cheapest to the dearest point.

    Parameters
    ----------
    groups
        Originals of the samples ``[n]`` that the candidates were compared on.
    """
    points = [point for one in candidates for point in one.frontier if isinstance(point, Outline)]
    if not points:
        return STANDARD_ERRORS_DISCOUNTED
    first = halvings(groups)
    sizes = first.sum(axis=1)
    if min(int(sizes.min()), len(groups) - int(sizes.max())) < 1:
        return STANDARD_ERRORS_DISCOUNTED
    times = np.array([point.mean_ms for point in points])
    doubts = np.array([point.doubt for point in points]) * np.sqrt(2.0)  # on half of the samples
    right, known = np.array([point.right for point in points]), np.stack([point.halves for point in points])
    wanted = np.geomspace(max(times.min(), 1e-9 * times.max()), times.max(), _TIMES)
    worth = np.zeros(len(DISCOUNTS))
    for h, size in enumerate(sizes.tolist()):
        here, there = known[:, h] / size, (right - known[:, h]) / (len(groups) - size)
        for seen, other in ((here, there), (there, here)):
            worth += [_worth(times, seen - one * doubts, other, wanted) for one in DISCOUNTS]
    worth /= 2 * len(sizes)
    best = int(worth.argmax())
    usual = DISCOUNTS.index(STANDARD_ERRORS_DISCOUNTED)
    return DISCOUNTS[best if worth[best] > worth[usual] + _DIFFERENCE else usual]


def _worth(times: Floats, seen: Floats, other: Floats, wanted: Floats) -> float:
    chosen = upper_hull(times, seen)
    return float(np.interp(wanted, times[chosen], other[chosen]).mean())
