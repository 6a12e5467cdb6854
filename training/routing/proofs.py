"""What the certify samples of a table prove: qualities and what was really paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selector.bundle.certificate import PrecisionTest
from selector.policies.constraint import Constraint
from selector.routing.constraint import RouteConstraint
from selector.routing.record import RouteCertificate, RouteTest
from training.certificates.certify import DROPS, LEVELS, TIME_BUDGETS, Certified, Tests
from training.certificates.control_variate import Control
from training.certificates.path_times import LONGEST
from training.outcomes.table_outcomes import TableOutcomes
from training.policies.base import FittedPolicy
from training.policies.frontier import Simulated

_MARGIN = 0.1  # around the qualities that were seen: levels beyond are not tried
_LOW_LEVELS = tuple(round(0.02 * i, 3) for i in range(1, 25))


@dataclass(frozen=True)
class Proofs:
    """How certificates of a table are made.

    Parameters
    ----------
    development
        Fit and tune samples, rounded.
    simulated_on
        The part of them that policies were fitted on.
    held
        Certify samples, qualities as they are.
    reference
        The best single model.
    """

    development: TableOutcomes
    simulated_on: TableOutcomes
    held: TableOutcomes
    reference: str
    test: PrecisionTest
    asked: RouteConstraint
    delta: float

    def of(self, index: int, policy: FittedPolicy, subject: str) -> list[RouteCertificate]:
        """Certificates of the policy at place `index`, which is digested as `subject`."""
        worth = policy.worth_certifying(self.simulated_on)
        control = None
        if self.test == "control-variate" and not self.held.graded:
            control = Control.of(
                self.development.right,
                [point.right for point in worth],
                self.simulated_on.right,
                self.held.right,
                delta=self.delta,
            )
        fixed = self.development.fixed_costs and self.held.fixed_costs
        possible = policy.possible_costs_ms() if fixed else []
        most = max(possible) if fixed else most_cost(policy, self.development)
        tests = Tests(
            policy.frontier(self.held, [point.threshold for point in worth]),
            reference=self.held.right[:, self.held.models.index(self.reference)],
            top_ms=most,
            control=control,
            possible_ms=possible,
        )
        found = tests.certify_all(levels_for(worth, self.asked.plain), delta=self.delta)
        return [self._certificate(one, index, subject, most, tests.graded) for one in found]

    def _certificate(
        self, found: Certified, policy: int, subject: str, most: float, graded: bool
    ) -> RouteCertificate:
        kind = found.constraint.kind
        test: RouteTest
        if kind == "precision":
            test = "betting" if graded else found.test or "binomial"
        elif kind == "max_drop":
            test = "betting" if graded else "paired"
        else:
            test = "binomial" if kind == "p95_ms" else "betting"
        return RouteCertificate(
            constraint=RouteConstraint.of(found.constraint),
            confidence=1 - self.delta,
            policy=policy,
            threshold=found.threshold,
            samples=found.samples,
            quality=found.accuracy,
            mean_cost=found.mean_ms,
            p_value=found.p_value,
            test=test,
            subject_sha256=subject,
            most_cost=most if kind == "mean_ms" else None,
        )


def most_cost(policy: FittedPolicy, development: TableOutcomes) -> float:
    """What no answer is taken to cost more than: twice the dearest of the fit and tune samples.

    A mean of costs can be proven only where they are bounded. Where a certify sample costs more, nothing is
    certified.
    """
    dearest = development.paid[:, [development.models.index(name) for name in policy.models]].sum(axis=1)
    return LONGEST * float(dearest.max())


def levels_for(worth: Sequence[Simulated], asked: Constraint) -> list[Constraint]:
    """Constraints worth certifying for a policy that does this with fit and tune samples."""
    seen = [point.accuracy for point in worth]
    low, high = min(seen) - _MARGIN, max(seen) + _MARGIN
    levels = [
        Constraint(kind="precision", level=level) for level in (*_LOW_LEVELS, *LEVELS) if low <= level <= high
    ]
    levels += [Constraint(kind="max_drop", level=level) for level in DROPS]
    means = [point.mean_ms for point in worth]
    most, least = 1.1 * max(means), max(min(means), 1e-6 * max(means))
    if most > 0:  # a model that costs nothing needs no budget
        levels += [
            Constraint(kind="mean_ms", level=float(level))
            for level in np.geomspace(least, most, TIME_BUDGETS + 1)[1:]
        ]
    late = sorted({float(np.quantile(point.cost_ms, 0.97)) for point in worth})
    chosen = {late[round(i)] for i in np.linspace(0, len(late) - 1, min(len(late), TIME_BUDGETS))}
    levels += [Constraint(kind="p95_ms", level=level) for level in sorted(chosen) if level > 0]
    return levels if asked in levels else [*levels, asked]
