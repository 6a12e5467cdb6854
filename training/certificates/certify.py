"""Certificates: thresholds that are proven to meet a constraint, from held-out samples.

Learn-then-Test (Angelopoulos, Bates, Candès, Jordan and Lei 2021) with fixed-sequence testing: thresholds
are tested from the most conservative one on, each by a test of "the constraint is not met" at level delta,
and the testing stops at the first that is not rejected. The last rejected threshold then meets the constraint
with probability at least 1 - delta over the draw of the certify samples, for any distribution, with no
correction
for the number of thresholds. The tests themselves are in :mod:`training.certificates.pvalues`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from selector.bundle.certificate import PrecisionTest
from selector.policies.constraint import Constraint
from training.certificates.control_variate import Control
from training.certificates.path_times import PathTimes
from training.certificates.pvalues import Costs, binomial, least_right, paired, paired_at_most, two_valued
from training.certificates.sent import Sent
from training.policies.frontier import Simulated
from zoo.errors import DataError, PrecisionError

LEVELS: tuple[float, ...] = tuple(round(0.5 + 0.005 * i, 3) for i in range(100))
DROPS: tuple[float, ...] = (0.0, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05)
TIME_BUDGETS = 16  # time budgets that are certified between the cheapest and the dearest way of answering
P95_SHARE = 0.95  # share of the answers that keep a p95 budget


@dataclass(frozen=True)
class Certified:
    """A threshold for which a constraint was proven."""

    constraint: Constraint
    threshold: float
    samples: int
    accuracy: float  # on the certify samples
    mean_ms: float
    p_value: float
    test: PrecisionTest | None = None  # of a precision
    remote_share: float | None = None  # of the certify samples that left the device
    uplink_kb: float | None = None  # that their answers sent, in the mean


class Tests:
    """What the certify samples say about a sequence of thresholds.

    Parameters
    ----------
    frontier
        What the policy does with the certify samples at thresholds that were fixed before these were looked
        at, most conservative (most accurate) first. The samples must be independent draws that nothing
        else was chosen on.
    reference
        Whether the reference model is right on each of the n samples; for ``max_drop``. Where answers are
        graded, its quality between 0 and 1; then all qualities are tested by betting.
    top_ms
        The most that an answer of the policy can cost; for ``mean_ms``.
    control
        Test precisions with the control variate; without, by the exact binomial.
    possible_ms
        All that an answer can cost, where that is known: two values are tested exactly.
    times
        How long each path takes on a clock, for budgets of time. Without, costs are what the budgets are
        about, and are taken as known.
    sent
        What each path sends to servers, in a zoo with remote models.
    by_sent
        Places in `frontier` in the order in which budgets of what is sent are tested, the least first; fixed
        before the samples were looked at.

    Raises
    ------
    DataError
        When there is no sample.
    """

    def __init__(
        self,
        frontier: Sequence[Simulated],
        *,
        reference: NDArray[np.bool_],
        top_ms: float,
        control: Control | None = None,
        possible_ms: Sequence[float] = (),
        times: PathTimes | None = None,
        sent: Sent | None = None,
        by_sent: Sequence[int] = (),
    ) -> None:
        if not len(reference):
            raise DataError("expected certify samples, got none. Give the certify split a larger share.")
        self.frontier = frontier
        self.samples = len(reference)
        self.top_ms = top_ms
        self.control = control
        self.possible_ms = tuple(sorted(set(possible_ms)))
        self.times = times
        self.sent = sent
        self.by_sent = by_sent
        self._reference = reference
        self.graded = reference.dtype != np.bool_
        if not self.graded:
            self._right = [int(point.right.sum()) for point in frontier]
            self._better = [int((point.right & ~reference).sum()) for point in frontier]
            self._worse = [int((~point.right & reference).sum()) for point in frontier]
        self._costs = lru_cache(maxsize=1)(self._costs_of)  # budgets are tested threshold by threshold
        self._lost = lru_cache(maxsize=1)(self._lost_of)
        self._behind = lru_cache(maxsize=1)(self._behind_of)
        self._controlled = lru_cache(maxsize=1000)(self._controlled_of)  # what is certified is asked again

    def p_value(self, i: int, constraint: Constraint) -> float:
        """How surprising the samples would be if the i-th threshold only just failed the constraint."""
        level = constraint.level
        if self.graded and constraint.kind in ("precision", "max_drop"):
            if constraint.kind == "precision":
                return self._lost(i).p_value(1 - level)
            return self._behind(i).p_value((1 + level) / 2)
        if constraint.kind == "precision":
            if self.control is not None:
                return self._controlled(i, level)
            return binomial(self._right[i], self.samples, level)
        if constraint.kind == "max_drop":
            return paired(self._better[i], self._worse[i], self.samples, level)
        if constraint.on_network:
            return self._on_the_network(i, constraint)
        if self.times is not None:
            return min(1.0, self._on_the_clock(i, constraint, self.times) + self.times.lost)
        if constraint.kind == "p95_ms":
            within = self.frontier[i].cost_ms <= level * (1 + 1e-9)
            return binomial(int(within.sum()), self.samples, P95_SHARE)
        if self.frontier[i].cost_ms.max() > self.top_ms * (1 + 1e-9):
            return 1.0  # an answer cost more than was taken for possible
        if len(self.possible_ms) == 2:
            return two_valued(self.frontier[i].cost_ms, self.possible_ms, level)
        return self._costs(i).p_value(level)

    @property
    def _precision_test(self) -> PrecisionTest:
        return "binomial" if self.control is None else "control-variate"

    def _on_the_clock(self, i: int, constraint: Constraint, times: PathTimes) -> float:
        """The p-value of a budget of time, if the bounds on the times of the paths hold."""
        charged = self.frontier[i].cost_ms
        if constraint.kind == "p95_ms":
            # the bounds are rounded up to two values, split where they are furthest apart; that depends on
            # the times alone, so the test of the samples is exact
            late = times.late(constraint.level)
            values = np.sort(late)
            low = float(values[int(np.diff(values).argmax())]) if len(values) > 1 else float(values[0])
            rounded = np.where(late <= low, low, float(values[-1]))
            return two_valued(times.place(charged, rounded), (low, float(values[-1])), 1 - P95_SHARE)
        means = times.means_ms
        possible = sorted(set(means.tolist()))
        placed = times.place(charged, means)
        if len(possible) <= 2:
            return two_valued(placed, (possible[0], possible[-1]), constraint.level)
        return Costs(placed, top_ms=possible[-1]).p_value(constraint.level)

    def _on_the_network(self, i: int, constraint: Constraint) -> float:
        """The p-value of a budget of what is sent."""
        if self.sent is None:
            return 1.0
        charged = self.frontier[i].cost_ms
        if constraint.kind == "max_remote":
            ends = float(self.sent.remote.min()), float(self.sent.remote.max())
            return two_valued(self.sent.remote_of(charged), ends, constraint.level)
        if not self.sent.constant:
            return 1.0
        kb, possible = self.sent.kb_of(charged), sorted(set(self.sent.kb.tolist()))
        if len(possible) <= 2:
            return two_valued(kb, (possible[0], possible[-1]), constraint.level)
        return Costs(kb, top_ms=possible[-1]).p_value(constraint.level)

    def _costs_of(self, i: int) -> Costs:
        return Costs(self.frontier[i].cost_ms, top_ms=self.top_ms)

    def _lost_of(self, i: int) -> Costs:
        """What answers lack to the best quality, as something that its mean is to be small of."""
        return Costs(1 - self.frontier[i].right.astype(np.float64), top_ms=1.0)

    def _behind_of(self, i: int) -> Costs:
        """By how much answers are worse than the reference model's, from -1 to 1, as shares of that range."""
        lead = self.frontier[i].right.astype(np.float64) - self._reference
        return Costs((1 - lead) / 2, top_ms=1.0)

    def _controlled_of(self, i: int, level: float) -> float:
        assert self.control is not None
        return self.control.p_value(i, self.frontier[i].right, level)

    def rejects(self, i: int, constraint: Constraint, delta: float) -> bool:
        """Whether the i-th threshold provably meets the constraint: its p-value is at most `delta`."""
        if self.control is not None and self.control.test.delta != delta:
            raise PrecisionError(
                f"expected the delta of the control, {self.control.test.delta}, got {delta}."
            )
        if constraint.kind == "max_drop" and not self.graded:
            counts = self._better[i], self._worse[i], self.samples
            if paired_at_most(*counts, constraint.level) <= delta:
                return True
        return self.p_value(i, constraint) <= delta

    def certify(self, constraint: Constraint, *, delta: float = 0.05) -> Certified | None:
        """The least conservative threshold that provably meets `constraint`, or None.

        Bounds on accuracy are tested from the most accurate threshold on, budgets of time from the cheapest.
        """
        found = self.certify_all([constraint], delta=delta)
        return found[0] if found else None

    def certify_all(self, constraints: Sequence[Constraint], *, delta: float = 0.05) -> list[Certified]:
        """Certificates for many constraints; of those of one kind with one threshold, the strictest stays.

        Each is valid on its own for whoever decides on the constraint beforehand; they are not valid all at
        once.
        """
        last: dict[Constraint, int] = {}
        places = range(len(self.frontier))
        if self.control is not None or not self.graded:
            precisions = [item for item in constraints if item.kind == "precision"]
            constraints = [item for item in constraints if item.kind != "precision"]
            last = (self._last_counted if self.control is None else self._last_controlled)(precisions, delta)
        orders: tuple[tuple[Sequence[Constraint], Sequence[int]], ...] = (
            ([item for item in constraints if not item.is_budget], places),
            ([item for item in constraints if item.on_time], places[::-1]),
            ([item for item in constraints if item.on_network], self.by_sent),
        )
        for wanted, order in orders:
            left = list(wanted)
            for i in order:
                left = [item for item in left if self.rejects(i, item, delta)]
                last |= dict.fromkeys(left, i)
        kept: dict[tuple[str, float], Certified] = {}
        for item in sorted(last, key=_strictest_first):
            point = self.frontier[last[item]]
            if (item.kind, point.threshold) in kept:
                continue
            used = self._precision_test if item.kind == "precision" else None
            found = Certified(
                item,
                point.threshold,
                self.samples,
                point.accuracy,
                point.mean_ms,
                self.p_value(last[item], item),
                used,
                *self._seen_sent(point),
            )
            kept[item.kind, point.threshold] = found
        return list(kept.values())

    def _seen_sent(self, point: Simulated) -> tuple[float, float] | tuple[None, None]:
        """Share of the samples that left the device, and the kilobytes that an answer sent in the mean."""
        if self.sent is None:
            return None, None
        return float(self.sent.remote_of(point.cost_ms).mean()), float(self.sent.kb_of(point.cost_ms).mean())

    def _last_counted(self, precisions: Sequence[Constraint], delta: float) -> dict[Constraint, int]:
        """The last threshold of every precision: the exact binomial asks for a number of right answers."""
        fewest = np.minimum.accumulate(self._right)  # of all thresholds up to each
        last: dict[Constraint, int] = {}
        for item in precisions:
            needed = least_right(self.samples, item.level, delta)
            count = int(np.searchsorted(-fewest, -needed, side="right"))
            if count:
                last[item] = count - 1
        return last

    def _last_controlled(self, precisions: Sequence[Constraint], delta: float) -> dict[Constraint, int]:
        """The last threshold of every precision; those laxer than one that reaches the end are left out."""
        last: dict[Constraint, int] = {}
        for item in sorted(precisions, key=_strictest_first):
            for i in range(len(self.frontier)):
                if not self.rejects(i, item, delta):
                    break
                last[item] = i
            else:
                break  # one with the same threshold stays, the strictest
        return last


def _strictest_first(item: Constraint) -> tuple[str, float]:
    return item.kind, -item.level if item.kind == "precision" else item.level


def usual_constraints(
    costs_ms: Sequence[float],
    extra: Constraint | None = None,
    times: PathTimes | None = None,
    sent: Sent | None = None,
) -> list[Constraint]:
    """Constraints worth certifying for a policy whose answers can take `costs_ms`.

    Parameters
    ----------
    times
        Of its paths: budgets of time are about these.
    sent
        What it sends, in a zoo with remote models.
    """
    levels = [Constraint(kind="precision", level=level) for level in LEVELS]
    levels += [Constraint(kind="max_drop", level=level) for level in DROPS]
    means = costs_ms if times is None else times.means_ms.tolist()
    high = max(means)
    low = max(min(means), 1e-6 * high)  # something may cost nothing
    budgets = np.geomspace(low, high, TIME_BUDGETS + 1)[1:] if high > low else [high]
    levels += [Constraint(kind="mean_ms", level=float(level)) for level in budgets if level > 0]
    late = sorted(set(costs_ms)) if times is None else times.budgets_ms()
    levels += [Constraint(kind="p95_ms", level=level) for level in late if level > 0]
    levels += [] if sent is None else sent.constraints()
    if extra is not None and extra not in levels:
        levels.append(extra)
    return levels


def samples_needed(
    accuracy: float, precision: float, *, delta: float = 0.05, most: int = 10**6
) -> int | None:
    """Certify samples at which a policy of this true accuracy is certified in half of the cases, or None."""
    if accuracy <= precision:
        return None
    low, high = 1, most
    if binomial(int(np.floor(accuracy * high)), high, precision) > delta:
        return None
    while low < high:
        middle = (low + high) // 2
        if binomial(int(np.floor(accuracy * middle)), middle, precision) <= delta:
            high = middle
        else:
            low = middle + 1
    return low
