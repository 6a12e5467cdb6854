"""Timelines: what a device did while its environment changed, input by input, and what that adds up to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from selector.commands.tables import table
from training.evaluation.records import SingleAsGood
from zoo.types import NonNegative, Positive

Kind = Literal["change", "alarm", "switch", "fetch", "evict", "push", "unknown", "problem"]


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
    as_good: SingleAsGood | None = None  # the single model that would have done as well on all inputs


LATE_INPUT = 300


def phase_of(
    environment: str,
    specialist: str | None,
    first: int,
    answers: Sequence[Answer],
    own: Sequence[bool | None],
    marks: Sequence[Mark],
    *,
    moved_before: int,
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
    )


def timeline_table(timeline: Timeline) -> str:
    """The phases as a plain-text table; a single model that is as good is named before it."""
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
