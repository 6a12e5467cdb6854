"""The certificates of a fitted policy: which are worth having, and what the certify samples prove."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from selector.bundle.certificate import Certificate, PrecisionTest
from selector.policies.constraint import Constraint
from training.certificates.certify import Tests, usual_constraints
from training.certificates.control_variate import Control
from training.certificates.path_times import path_times, tails_known
from training.certificates.sent import Sent
from training.outcomes.outcomes import Outcomes
from training.policies.base import FittedPolicy
from training.policies.frontier import Simulated, pareto_places
from zoo.models.card import ModelCard
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
    cards: Sequence[ModelCard] = (),
) -> list[Certificate]:
    """Certificates of the policy at place `index`, and of the best ones for single environments.

    Parameters
    ----------
    simulated_on
        The fit and tune samples that the policy was fitted on: `development` or a part of it.
    test
        For precisions; those of a single environment are always proven by the exact binomial.
    cards
        Of the zoo: what remote models are sent.
    """
    costs = policy.possible_costs_ms()
    sent = Sent.of(policy.policy, cards, costs)
    worth, by_sent = _worth_certifying(policy, simulated_on, constraint, sent)
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
    computed = any(table.models[name].network is not UNSET for name in policy.models)
    # means of a network table are taken as known, and nothing is known of their tails
    times = None if computed else path_times(policy.policy, table, costs, delta)
    tails = sent is None or tails_known(policy.policy, table, cards)
    certificates = []
    for environment in environments:
        samples = held if environment is None else held.rows(held.environments == environment)
        wanted = usual_constraints(costs, constraint, times, sent)
        # a budget needs single runs, of a machine that was quiet
        if environment is not None or (not computed and (times is None or times.busy)):
            wanted = [item for item in wanted if not item.on_time]
        if computed or not tails:
            wanted = [item for item in wanted if item.kind != "p95_ms"]
        tests = Tests(
            policy.frontier(samples, thresholds),
            reference=samples.right[:, column],
            control=control if environment is None else None,
            top_ms=max(costs),
            possible_ms=costs,
            times=times,
            sent=sent,
            by_sent=by_sent,
        )
        found = tests.certify_all(wanted, delta=delta)
        certificates += [
            Certificate(
                **{name: value for name, value in vars(item).items() if value is not None},
                confidence=1 - delta,
                policy=index,
                subject_sha256=digest,
                environment=environment,
            )
            for item in found
        ]
    return certificates


def _worth_certifying(
    policy: FittedPolicy, samples: Outcomes, constraint: Constraint, sent: Sent | None
) -> tuple[list[Simulated], list[int]]:
    """Points whose thresholds are tested, most accurate first, and their places from the least sent on.

    Under a budget of what is sent, the points that no other beats in accuracy and kilobytes; otherwise in
    accuracy and time. `samples` are those that the policy was fitted on, so both orders are fixed.
    """
    if sent is None:
        return policy.worth_certifying(samples), []
    if constraint.on_network:
        every = policy.frontier(samples, policy.thresholds(samples))
        kb = [_sent(sent, constraint, point) for point in every]
        kept = [every[i] for i in pareto_places(kb, [point.accuracy for point in every])]
    else:
        kept = policy.worth_certifying(samples)
    least = [_sent(sent, constraint, point) for point in kept]
    return kept, sorted(range(len(kept)), key=lambda i: (least[i], kept[i].accuracy))


def _sent(sent: Sent, constraint: Constraint, point: Simulated) -> float:
    """What a point sends in the mean: the share of inputs where that is bounded, else kilobytes."""
    of = sent.remote_of if constraint.kind == "max_remote" or not sent.kb.any() else sent.kb_of
    return float(of(point.cost_ms).mean())
