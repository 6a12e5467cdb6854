"""Aims: which point of a frontier serves a constraint best, allowing for what a certificate will ask for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from selector.bundle.certificate import PrecisionTest
from selector.policies.constraint import Constraint
from training.certificates.certify import P95_SHARE
from training.certificates.control_variate import CORRELATION
from training.certificates.pvalues import least_right
from training.policies.frontier import Point
from zoo.errors import DataError

# Of hundreds of candidates some look good by luck, with few samples above all. As in the one-standard-error
# rule of Breiman et al. (1984), a gain within a budget counts as far as it exceeds so many of its standard
# errors.
STANDARD_ERRORS_DISCOUNTED = 1.5
# Under a bound on accuracy one is taken off, and the expected time is over what is left of the doubt. With a
# larger discount any single model, however dear, would be better than a cascade that may just fail.
STANDARD_ERRORS_TAKEN_OFF = 1.0
MANY = 1000  # candidates that all of this is for: the best of few is less lucky
ACCURACY_NOISE = 0.005  # of an accuracy: where nothing is good enough, less than this is not paid for
# What certify samples show varies, and so does what frontiers show. Policies are compared at the middles of
# equally likely parts of both, in standard deviations: of many of the former, or a policy that fails to be
# certified once in twenty times would seem as good as one that never does; of few of the latter, only so that
# a lucky point decides little.
LUCK: tuple[float, ...] = tuple(float(ndtri((part + 0.5) / 40)) for part in range(40))
SMOOTHING: tuple[float, ...] = tuple(ACCURACY_NOISE / 2 * float(ndtri(0.1 + 0.2 * part)) for part in range(5))
LEAST_CERTIFIED = 0.25  # of the draws: where no policy is certified so often, the most accurate one is best


def accuracy_to_certify(precision: float, samples: int, *, delta: float = 0.05) -> float:
    """Accuracy that `samples` certify samples have to show for `precision` to be certified."""
    if samples < 1:
        raise DataError("expected certify samples, got none. Give the certify split a larger share.")
    return min(1.0, least_right(samples, precision, delta) / samples)


def share_of_margin(test: PrecisionTest, *, development: int, certify: int) -> float:
    """What a test of a precision asks for above it, roughly, as a share of what the exact binomial does.

    The control variate takes out what a correlation of CORRELATION explains, as far as fit and tune samples
    know the mean.
    """
    if test == "binomial":
        return 1.0
    return math.sqrt(1 - development / (development + certify) * CORRELATION**2)


def share_of_luck(candidates: int) -> float:
    """By how much the best of so many candidates looks better by luck, as a share of what the best of
    :data:`MANY` does; 1 at most.

    What the largest of n normal draws is expected to be (Blom 1958) stands for it.

    Examples
    --------
    >>> [round(share_of_luck(count), 2) for count in (1, 11, 100, 1000, 5000)]
    [0.0, 0.49, 0.77, 1.0, 1.0]
    """
    largest, of_many = (float(ndtri((n - 0.375) / (n + 0.25))) for n in (max(candidates, 1), MANY))
    return min(1.0, largest / of_many)


@dataclass(frozen=True)
class Aim:
    """A constraint, and what must be seen elsewhere for it to be provable on `samples` certify samples.

    Parameters
    ----------
    reference
        Whether the reference model is right on each of the samples that frontiers are computed on.
    failure_ms
        What an outcome counts as that certifies nothing: see
        :func:`training.search.candidates.failure_ms`. With less, such as the time of the reference model,
        which answers then, failing would pay where that one is fast.
    share_of_margin
        What the test of a precision asks for above it, as a share of what the exact binomial does: see
        :func:`share_of_margin`.
    candidates
        How many policies are compared.
    discount
        Standard errors by which a gain has to exceed what can be luck: see
        :func:`training.search.choice.discount_of`.
    """

    constraint: Constraint
    samples: int
    delta: float
    reference: NDArray[np.bool_]
    failure_ms: float
    share_of_margin: float = 1.0
    candidates: int = MANY
    discount: float = STANDARD_ERRORS_DISCOUNTED
    # of what is charged for one more unit sent, and how much of the budget that is: see
    # training.search.charges
    unit_ms: float | None = None
    per_unit: float = 1.0
    tail: float = 1.0  # 99th percentile of an answer on one path, over its mean: a p95 budget is about these

    def slack(self, point: Point) -> float:
        """By how much a point exceeds what is asked, in shares of answers or of the budget."""
        level = self.constraint.level
        if self.constraint.kind == "precision":
            margin = accuracy_to_certify(level, self.samples, delta=self.delta) - level
            return point.accuracy - level - margin * self.share_of_margin
        if self.constraint.kind == "p95_ms":
            kept = point.share_within(level / self.tail * (1 + 1e-9))
            return kept - accuracy_to_certify(P95_SHARE, self.samples, delta=self.delta)
        if self.constraint.on_network:
            return self._network_slack(point)
        if self.constraint.kind == "max_drop":
            lead, spread = point.lead(self.reference)
            return lead + level - self._margin(spread)
        return (level - point.mean_ms - self._margin(point.spread_ms)) / level

    def _network_slack(self, point: Point) -> float:
        if self.unit_ms is None:
            return 0.0
        level = self.constraint.level
        if self.constraint.kind == "max_remote":
            kept = point.share_within(self.unit_ms * (1 - 1e-9))
            return kept - accuracy_to_certify(1 - level, self.samples, delta=self.delta)
        per_ms = self.per_unit / self.unit_ms
        return (level - per_ms * (point.mean_ms + self._margin(point.spread_ms))) / level

    def time_ms(self, point: Point) -> float:
        """Mean time of a point, without what is charged for sending."""
        return point.mean_ms if self.unit_ms is None else point.rest_ms(self.unit_ms)

    def best(self, frontier: Sequence[Point], shift: float = 0.0) -> Point | None:
        """The cheapest point that meets a bound on accuracy, or the most accurate one within a budget."""
        enough = [point for point in frontier if self.slack(point) >= shift]
        if not enough:
            return None
        if self.constraint.is_budget:
            return max(enough, key=lambda point: (point.accuracy, -point.mean_ms))
        return min(enough, key=lambda point: (point.mean_ms, -point.accuracy))

    def nearest(self, frontier: Sequence[Point]) -> Point:
        """:meth:`best`, or where no point is good enough the cheapest of those that come closest."""
        best = self.best(frontier)
        if best is not None:
            return best
        enough = max(self.slack(point) for point in frontier) - ACCURACY_NOISE
        return min(
            (point for point in frontier if self.slack(point) >= enough), key=lambda point: point.mean_ms
        )

    def rank(self, frontier: Sequence[Point]) -> tuple[float, ...]:
        """Greater is better. What a frontier gains over single models counts less the more doubtful it is."""
        if self.constraint.is_budget:
            enough = [point for point in frontier if self.slack(point) >= 0]
            if not enough:
                return (0.0, max(self.slack(p) for p in frontier))
            return max(
                (1.0, point.accuracy - self.discount * point.doubt, -point.mean_ms) for point in enough
            )
        doubts = np.array([point.doubt for point in frontier])
        costs = np.array([point.mean_ms for point in frontier])
        slacks = np.array([self.slack(point) for point in frontier]) - self._taken_off * doubts
        spreads = np.sqrt(self._spread(frontier) ** 2 + doubts**2)
        luck = np.add.outer(np.outer(spreads, LUCK), SMOOTHING).reshape(len(frontier), -1)
        reached = slacks[:, np.newaxis] >= luck
        certified = reached.any(axis=0)
        if certified.mean() < LEAST_CERTIFIED:
            # a lead within the noise is not worth any time
            near = costs[slacks >= slacks.max() - ACCURACY_NOISE].min()
            return (0.0, 100 * round(slacks.max() / ACCURACY_NOISE) - float(np.log(near)))
        cheapest = np.where(reached, costs[:, np.newaxis], np.inf).min(axis=0)
        expected = np.where(certified, cheapest, self.failure_ms).mean()
        return (1.0, -float(np.log(expected)))

    @property
    def _taken_off(self) -> float:
        share = self.discount / STANDARD_ERRORS_DISCOUNTED
        return STANDARD_ERRORS_TAKEN_OFF * share * share_of_luck(self.candidates)

    def _spread(self, frontier: Sequence[Point]) -> float:
        """Standard deviation of what the certify samples show of the frontier's most accurate point."""
        best = max(frontier, key=lambda point: point.accuracy)
        counted = self.constraint.kind == "max_drop"
        _, spread = best.lead(self.reference if counted else np.zeros_like(self.reference))
        share = self.share_of_margin if self.constraint.kind == "precision" else 1.0
        return share * spread / math.sqrt(max(1, self.samples))

    def _margin(self, deviation: float) -> float:
        return self._sureness * deviation / math.sqrt(max(1, self.samples))

    @cached_property
    def _sureness(self) -> float:
        """Standard deviations that a normal variable exceeds with probability delta."""
        return -float(ndtri(self.delta))
