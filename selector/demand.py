"""Unmet demand: which models the best policy would have taken, had they been installed.

Recording an answer costs one append to a ring. What it means is worked out when somebody asks, for the models
that are installed by then.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from selector.bundle import Bundle, Certificate, covering, valid_certificates
from selector.constraint import Constraint
from selector.drift import DriftStatus
from selector.engine import Outcome
from selector.policy import CascadePolicy, InputPolicy, LookaheadPolicy, Policy, next_action_of
from zoo.card import Name, Sha256
from zoo.demand import MOST_ASKED, SCHEMA_VERSION, AskedDemand, Demand

WINDOW = 1024  # recent answers that are kept, without their inputs


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked of an answer."""

    constraint: Constraint
    environment: str | None = None


class Answered(NamedTuple):
    """What is remembered of one answer."""

    number: int  # counts up
    asked: Question
    certified: bool
    path: tuple[str, ...]
    probability: float
    scores: Sequence[float] | None  # of all models, in the order of the bundle's input policy


_Noted = tuple[int, Question, bool, tuple[str, ...], float | None, Sequence[float | None] | None]


class Recalled(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The latest answers of one installed bundle, in a form that travels between processes."""

    task: Name
    record: Sha256  # of the bundle that gave them
    since: float  # when counting began, in seconds since 1970
    drift: DriftStatus | None = None  # of its inputs; None: nobody watches them
    left: bool = False  # after an alarm, another variant of the task answers now
    noted: Annotated[list[_Noted], Meta(max_length=WINDOW)]  # oldest first; JSON has null for NaN

    @property
    def answers(self) -> list[Answered]:
        """The answers, oldest first."""
        return [
            Answered(
                number,
                asked,
                certified,
                path,
                _number(probability),
                None if scores is None else _numbers(scores),
            )
            for number, asked, certified, path, probability, scores in self.noted
        ]


def questions(answers: Iterable[Answered]) -> list[Answered]:
    """What was asked, as if nothing had answered yet: for a bundle that is to answer the like."""
    return [Answered(one.number, one.asked, False, (), math.nan, None) for one in answers]


class Recent:
    """The latest answers of one bundle, in constant memory. Safe to use from several threads."""

    def __init__(self, window: int = WINDOW) -> None:
        self.since = time.time()
        self._number = itertools.count(1)
        self._told = 0
        self._ring: deque[tuple[int, Question, bool, tuple[str, ...], float, Sequence[float] | None]] = deque(
            maxlen=window
        )

    def note(self, asked: Question, certified: bool, outcome: Outcome) -> None:
        """Remember an answer."""
        self._ring.append(  # of plain tuples: this is part of every answer's time
            (next(self._number), asked, certified, outcome.path, outcome.probability, outcome.scores)
        )

    def answers(self) -> list[Answered]:
        """The latest answers, oldest first."""
        return [Answered(*item) for item in self._ring.copy()]

    def recalled(self, task: str, record: str, drift: DriftStatus | None = None) -> Recalled:
        """The latest answers, copied and not yet looked at: that may happen in another process."""
        return Recalled(task=task, record=record, since=self.since, drift=drift, noted=[*self._ring.copy()])

    def used(self) -> set[str]:
        """Models that ran since this was asked last, as far as the ring remembers."""
        ring, told = self._ring.copy(), self._told
        self._told = ring[-1][0] if ring else told
        paths = {item[3] for item in ring if item[0] > told}
        return {name for path in paths for name in path}

    def snapshot(self, bundle: Bundle, installed: Collection[str], *, name: str) -> Demand:
        """The demand so far, as it is with these models installed; `name` is that of the bundle's task."""
        return demand_of(self.answers(), bundle, installed, name=name, since=self.since)


@dataclass(frozen=True, slots=True)
class Missed:
    """Models that an answer would have taken, and by how much its probability of being right fell short."""

    models: tuple[str, ...]
    shortfall: float  # not positive where only time is lost, NaN where nothing estimates it


def demand_of(
    answers: Sequence[Answered], bundle: Bundle, installed: Collection[str], *, name: str, since: float
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
    return Demand(
        schema_version=SCHEMA_VERSION,
        bundle=name,
        since=since,
        answers=max((answer.number for answer in answers), default=0),
        window=len(answers),
        unmet=unmet.total(),
        uncertified=sum(not answer.certified for answer in answers),
        models=dict(sorted(models.items(), key=lambda item: (-item[1], item[0]))),
        shortfall=sum(shortfalls) / len(shortfalls) if shortfalls else 0.0,
        asked=tuple(
            AskedDemand(
                kind=question.constraint.kind,
                level=question.constraint.level,
                environment=question.environment,
                answers=count,
                unmet=unmet[question],
            )
            for question, count in asked.most_common(MOST_ASKED)
        ),
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
    threshold_is_probability = isinstance(policy, CascadePolicy) or (
        not isinstance(policy, LookaheadPolicy) and policy.rule == "threshold"
    )
    # A price is no probability: unsure is then what lies below what the policy reaches on average.
    wanted = certificate.threshold if threshold_is_probability else certificate.accuracy
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
    pick = next_action_of(among, policy.costs_ms, threshold, policy.rule)
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


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [_number(value) for value in values]
