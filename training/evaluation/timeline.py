"""Timelines: what a device did while its environment changed, input by input, and what that adds up to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from selector.commands.tables import table
from training.evaluation.records import SingleAsGood
from zoo.types import NonNegative, Positive

Kind = Literal[
    "change", "network", "server", "alarm", "switch", "fetch", "evict", "push", "unknown", "problem"
]
NOT_REACHED = "server not reached"


class Mark(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Something that happened."""

    at: NonNegative  # inputs that were answered before
    kind: Kind
    text: str


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One input, and the state of the device after its answer."""

    right: bool
    certified: bool
    model: str  # that gave the answer
    bundle: str  # the variant that answered
    latency_ms: float  # of the answer as the application waited for it
    bytes_moved: NonNegative  # so far, everything that was received
    stored_bytes: NonNegative
    installed: tuple[str, ...]  # models
    asked: bool = False  # whether a server gave the answer
    reason: str | None = None  # why it is not certified, or that a server was not reached
    sent_bytes: NonNegative = 0  # so far, to servers of models


class Phase(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A stretch of inputs from one environment."""

    environment: str
    specialist: str | None  # published name of the variant for it; None: nobody has one
    first: NonNegative  # number of its first input
    inputs: Positive
    alarm: int | None  # inputs of the phase until the alarm; None: there was none
    switched: int | None  # inputs until the specialist answered; 0 where it did already
    bytes_moved: NonNegative
    evicted: tuple[str, ...]
    before: float | None  # accuracy until the specialist answered, or of all inputs where there is none
    after: float | None  # accuracy from then on
    own: float | None  # the specialist's own accuracy on the inputs of `after`
    late: float | None  # accuracy from input LATE_INPUT of the phase on
    own_late: float | None
    certified: float  # share of the answers
    network: str | None = None  # between the device and servers; None: no server was asked for answers
    asked: float = 0.0  # share of the answers that a server gave
    not_reached: float = 0.0  # share of the answers for which none was reached
    sent_bytes: NonNegative = 0
    slowest_ms: float = 0.0  # of the answers


class Timeline(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A run of a scenario."""

    title: str
    control: Literal["device", "server"]
    budget_bytes: NonNegative
    inputs_per_s: float
    precision: float
    phases: tuple[Phase, ...]
    marks: tuple[Mark, ...]
    answers: tuple[Answer, ...]
    own: tuple[bool | None, ...]  # whether the specialist of the phase is right; None: there is none
    longest_ms: float  # that the application waited for an answer
    reported: dict[str, int]  # bundle → devices that the service was told to have drifted, after any phase
    seconds: float
    deadline_ms: float | None = None  # of an answer that asks a server
    as_good: SingleAsGood | None = None  # the single model that would have done as well on all inputs


LATE_INPUT = 300
LATE_MS = 5.0  # behind a deadline, which a thread may wait for its turn


def phase_of(
    environment: str,
    specialist: str | None,
    first: int,
    answers: Sequence[Answer],
    own: Sequence[bool | None],
    marks: Sequence[Mark],
    *,
    moved_before: int,
    sent_before: int = 0,
    network: str | None = None,
) -> Phase:
    """What the answers of one phase add up to.

    Parameters
    ----------
    answers, own
        Of this phase alone; `first` is the number of the first one.
    marks
        Of the whole run.
    moved_before
        Bytes that had been moved when the phase began.
    sent_before
        Bytes that had been sent to servers of models by then.
    network
        Between the device and these servers.
    """
    inside = [mark for mark in marks if first <= mark.at < first + len(answers)]
    alarm = next((mark.at - first for mark in inside if mark.kind == "alarm"), None)
    evicted = [name for mark in inside if mark.kind == "evict" for name in mark.text.split(", ")]
    right = np.array([answer.right for answer in answers])
    there = [i for i, answer in enumerate(answers) if answer.bundle == specialist]
    switched = there[0] if there else None
    cut = len(answers) if switched is None else switched
    judged = np.array([bool(one) for one in own])
    known = specialist is not None
    return Phase(
        environment=environment,
        specialist=specialist,
        first=first,
        inputs=len(answers),
        alarm=alarm,
        switched=switched,
        bytes_moved=answers[-1].bytes_moved - moved_before,
        evicted=tuple(dict.fromkeys(evicted)),
        before=_mean(right[:cut]),
        after=_mean(right[cut:]),
        own=_mean(judged[cut:]) if known else None,
        late=_mean(right[LATE_INPUT:]),
        own_late=_mean(judged[LATE_INPUT:]) if known else None,
        certified=float(np.mean([answer.certified for answer in answers])),
        network=network,
        asked=float(np.mean([answer.asked for answer in answers])),
        not_reached=float(np.mean([answer.reason == NOT_REACHED for answer in answers])),
        sent_bytes=answers[-1].sent_bytes - sent_before,
        slowest_ms=max(answer.latency_ms for answer in answers),
    )


def timeline_table(timeline: Timeline) -> str:
    """The phases as a plain-text table; a single model that is as good is named before it."""
    if timeline.deadline_ms is not None:
        return _network_table(timeline)
    heads = [
        "phase",
        "alarm",
        "switch",
        "MB moved",
        "before",
        "after",
        "its own",
        f"from {LATE_INPUT}",
        "its own",
    ]
    rows = [
        [
            phase.environment,
            _count(phase.alarm),
            _count(phase.switched),
            f"{phase.bytes_moved / 1e6:.3f}",
            *map(_share, (phase.before, phase.after, phase.own, phase.late, phase.own_late, phase.certified)),
            ", ".join(phase.evicted) or "–",
        ]
        for phase in timeline.phases
    ]
    shown = table([*heads, "certified", "evicted"], rows, "lrrrrrrrrrl")
    return shown if timeline.as_good is None else f"{timeline.as_good.sentence}\n\n{shown}"


def changes(phases: Sequence[Phase]) -> list[tuple[Phase, int | None]]:
    """The first phase of each new environment, and the inputs from there until its specialist answered.

    The network may change meanwhile, which begins a phase of its own. None: it never answered there.
    """
    found: list[tuple[Phase, int | None]] = []
    for last, phase in itertools.pairwise(phases):
        if phase.environment != last.environment:
            found.append((phase, phase.switched))
        elif found and found[-1][1] is None and phase.switched is not None:
            began = found[-1][0]
            found[-1] = began, phase.first - began.first + phase.switched
    return found


def late_answers(timeline: Timeline, margin_ms: float = LATE_MS) -> int:
    """How many answers took longer than their deadline and a margin, which a thread may wait for its turn."""
    limit = np.inf if timeline.deadline_ms is None else timeline.deadline_ms + margin_ms
    return sum(answer.latency_ms > limit for answer in timeline.answers)


def _network_table(timeline: Timeline) -> str:
    heads = ["environment", "network", "alarm", "switch", "right", "certified", "asked", "not reached"]
    rows = [
        [
            phase.environment,
            phase.network or "–",
            _count(phase.alarm),
            _count(phase.switched),
            _share(_of_all(timeline, phase)),
            *map(_share, (phase.certified, phase.asked, phase.not_reached)),
            f"{phase.sent_bytes / 1e3:.1f}",
            f"{phase.bytes_moved / 1e6:.3f}",
            f"{phase.slowest_ms:.0f}",
        ]
        for phase in timeline.phases
    ]
    return table([*heads, "kB sent", "MB received", "slowest ms"], rows, "llrrrrrrrrr")


def _of_all(timeline: Timeline, phase: Phase) -> float | None:
    part = timeline.answers[phase.first : phase.first + phase.inputs]
    return _mean(np.array([answer.right for answer in part]))


def moving_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean of the latest `window` values, or of as many as there are, at each of them."""
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, float))])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    means: list[float] = ((sums[ends] - sums[starts]) / (ends - starts)).tolist()
    return means


def spans(names: Sequence[Sequence[str]]) -> dict[str, list[tuple[int, int]]]:
    """Name → stretches ``[first, end)`` of positions at which it is there."""
    found: dict[str, list[tuple[int, int]]] = {}
    for i, there in enumerate(names):
        for name in there:
            parts = found.setdefault(name, [])
            if parts and parts[-1][1] == i:
                parts[-1] = (parts[-1][0], i + 1)
            else:
                parts.append((i, i + 1))
    return found


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.1f} %"


def _count(value: int | None) -> str:
    return "–" if value is None else str(value)
