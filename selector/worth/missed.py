"""Unmet demand: which models the best policy would have taken, had they been installed.

Recording an answer costs one append to a ring. What it means is worked out when somebody asks, for the models
that are installed by then.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from msgspec import UNSET, UnsetType

from selector.answering.recent import Answered, Question
from selector.bundle.bundle import Bundle, valid_certificates
from selector.bundle.certificate import Certificate, covering
from selector.policies.input import InputPolicy
from selector.policies.policy import Policy
from selector.telemetry.demand import MAX_QUESTION_KINDS, AskedDemand, Demand, RemoteUse, version_for


@dataclass(frozen=True, slots=True)
class Missed:
    """Models that an answer would have taken, and by how much its probability of being right fell short."""

    models: tuple[str, ...]
    shortfall: float  # not positive where only time is lost, NaN where nothing estimates it


def demand_of(
    answers: Sequence[Answered],
    bundle: Bundle,
    installed: Collection[str],
    *,
    name: str,
    since: float,
    remote: RemoteUse | UnsetType = UNSET,
) -> Demand:
    """Demand for models that are not installed, by the best policy of the bundle.

    Parameters
    ----------
    answers
        Recent ones, of this bundle.
    name
        Of the bundle's task on devices.
    since
        When counting began, in seconds since 1970.
    remote
        What was sent to servers; left out where no model is on one.
    """
    best: dict[Question, Certificate | None] = {}
    models: Counter[str] = Counter()
    asked: Counter[Question] = Counter()
    unmet: Counter[Question] = Counter()
    shortfalls: list[float] = []
    certificates = valid_certificates(bundle, 0)
    for answer in answers:
        asked[answer.asked] += 1
        if answer.asked not in best:
            wanted = answer.asked
            best[wanted] = covering(certificates, wanted.constraint, policy=0, environment=wanted.environment)
        lost = missed(answer, bundle, best[answer.asked], installed)
        if lost is not None:
            unmet[answer.asked] += 1
            models.update(lost.models)
            if not math.isnan(lost.shortfall):
                shortfalls.append(min(max(lost.shortfall, 0.0), 1.0))
    questions = tuple(
        AskedDemand(
            kind=question.constraint.kind,
            level=question.constraint.level,
            environment=question.environment,
            answers=count,
            unmet=unmet[question],
        )
        for question, count in asked.most_common(MAX_QUESTION_KINDS)
    )
    return Demand(
        schema_version=version_for(questions, remote),
        bundle=name,
        since=since,
        answers=max((answer.number for answer in answers), default=0),
        window=len(answers),
        unmet=unmet.total(),
        uncertified=sum(not answer.certified for answer in answers),
        models=dict(sorted(models.items(), key=lambda item: (-item[1], item[0]))),
        shortfall=sum(shortfalls) / len(shortfalls) if shortfalls else 0.0,
        asked=questions,
        remote=remote,
    )


def missed(
    answer: Answered, bundle: Bundle, certificate: Certificate | None, installed: Collection[str]
) -> Missed | None:
    """What the best policy, the bundle's first, would have taken that is not installed; None: nothing.

    An input policy's scores tell it exactly. Of a chain it is known only as far as the installed models tell:
    a missing model counts when all that is known says that the chain would have come to it.

    Parameters
    ----------
    certificate
        Of the best policy for what was asked; None where it has none, and the reference model would answer.
    """
    policy = bundle.policies[0]
    if certificate is None:
        lacking = not answer.certified and bundle.reference not in installed
        return Missed((bundle.reference,), math.nan) if lacking else None
    if all(name in installed for name in policy.models):
        return None
    # A price is no probability: unsure is then what lies below what the policy reaches on average.
    wanted = certificate.threshold if policy.threshold_is_probability else certificate.accuracy
    if not isinstance(policy, InputPolicy):
        names = _along(policy.models, answer, wanted, installed)
    elif answer.scores is not None and len(answer.scores) == len(policy.order):
        return _picked(policy, answer.path[-1], answer.scores, certificate.threshold, installed)
    else:
        names = () if answer.probability >= wanted else _dearer(policy, answer.path[-1], installed)
    shortfall = wanted - answer.probability  # NaN stays NaN
    return Missed(names, shortfall) if names else None


def _picked(
    policy: InputPolicy,
    answered_by: str,
    scores: Sequence[float],
    threshold: float,
    installed: Collection[str],
) -> Missed | None:
    columns = [policy.order.index(name) for name in policy.models]
    among = [scores[column] for column in columns]
    pick = policy.pick(among, threshold)
    if policy.models[pick] in installed:
        return None
    known = scores[policy.order.index(answered_by)] if answered_by in policy.order else math.nan
    return Missed((policy.models[pick],), among[pick] - known)


def _along(
    chain: Sequence[str], answer: Answered, wanted: float, installed: Collection[str]
) -> tuple[str, ...]:
    """Missing models that the answer would have come to on its way along `chain`."""
    lost: list[str] = []
    last = answer.path[-1]
    told = chain.index(last) if last in chain else -1  # how far along something is known
    for i, name in enumerate(chain):
        if name == last and answer.probability >= wanted:
            break
        if name not in installed:
            lost.append(name)
            if i > told:
                break
    return tuple(lost)


def _dearer(policy: Policy, answered_by: str, installed: Collection[str]) -> tuple[str, ...]:
    """The next dearer model that is missing: the best guess without scores."""
    order = policy.models
    after = order[order.index(answered_by) + 1 :] if answered_by in order else order
    return next(((name,) for name in after if name not in installed), ())
