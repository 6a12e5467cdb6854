"""The latest answers, remembered without their inputs."""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from selector.answering.runners import Outcome
from selector.drift.monitor import DriftStatus
from selector.policies.constraint import Constraint
from selector.telemetry.demand import RemoteUse
from zoo.types import Name, Sha256

RECENT_ANSWERS = 1024  # recent answers that are kept, without their inputs


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
    remote: RemoteUse | None = None  # what was sent to servers; None: no model is on one
    left: bool = False  # after an alarm, another variant of the task answers now
    noted: Annotated[list[_Noted], Meta(max_length=RECENT_ANSWERS)]  # oldest first; JSON has null for NaN

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

    def __init__(self, window: int = RECENT_ANSWERS) -> None:
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

    def recalled(
        self,
        task: str,
        record: str,
        drift: DriftStatus | None = None,
        remote: RemoteUse | None = None,
    ) -> Recalled:
        """The latest answers, copied and not yet looked at: that may happen in another process."""
        noted: list[_Noted] = [*self._ring.copy()]
        return Recalled(task=task, record=record, since=self.since, drift=drift, remote=remote, noted=noted)

    def used(self) -> set[str]:
        """Models that ran since this was asked last, as far as the ring remembers."""
        ring, told = self._ring.copy(), self._told
        self._told = ring[-1][0] if ring else told
        paths = {item[3] for item in ring if item[0] > told}
        return {name for path in paths for name in path}


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [_number(value) for value in values]
