"""The certificates of a fitted policy: which are worth having, and what the certify samples prove."""

from __future__ import annotations

from selector.bundle.certificate import Certificate, PrecisionTest
from selector.policies.constraint import Constraint
from training.certificates.certify import Tests, usual_constraints
from training.certificates.control_variate import Control
from training.certificates.path_times import path_times
from training.outcomes.outcomes import Outcomes
from training.policies.base import FittedPolicy
from zoo.models.latency import LatencyTable

ENVIRONMENT_POLICIES = 2  # so many of the best policies get certificates for single environments


def certificates_of(
    index: int,
    policy: FittedPolicy,
    development: Outcomes,
    simulated_on: Outcomes,
    held: Outcomes,
    reference: str,
    test: PrecisionTest,
    constraint: Constraint,
    delta: float,
    digest: str,
    table: LatencyTable,
) -> list[Certificate]:
    """Certificates of the policy at place `index`, and of the best ones for single environments.

    Parameters
    ----------
    simulated_on
        The fit and tune samples that the policy was fitted on: `development` or a part of it.
    test
        For precisions; those of a single environment are always proven by the exact binomial.
    """
    worth = policy.worth_certifying(simulated_on)
    thresholds = [point.threshold for point in worth]
    control = None
    if test == "control-variate":
        control = Control.of(
            development.right, [point.right for point in worth], simulated_on.right, held.right, delta=delta
        )
    column = held.models.index(reference)
    environments: list[str | None] = [None]
    if index < ENVIRONMENT_POLICIES and len(set(held.environments.tolist())) > 1:
        environments += sorted(set(held.environments.tolist()))
    costs = policy.possible_costs_ms()
    times = path_times(policy.policy, table, costs, delta)
    certificates = []
    for environment in environments:
        samples = held if environment is None else held.rows(held.environments == environment)
        wanted = usual_constraints(costs, constraint, times)
        if environment is not None or times is None or times.busy:  # a budget needs runs of a quiet machine
            wanted = [item for item in wanted if not item.on_time]
        tests = Tests(
            policy.frontier(samples, thresholds),
            reference=samples.right[:, column],
            control=control if environment is None else None,
            top_ms=max(costs),
            possible_ms=costs,
            times=times,
        )
        found = tests.certify_all(wanted, delta=delta)
        certificates += [
            Certificate(
                **vars(item),
                confidence=1 - delta,
                policy=index,
                subject_sha256=digest,
                environment=environment,
            )
            for item in found
        ]
    return certificates
