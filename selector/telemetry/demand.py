"""Demand: what a device was asked and which models it lacked for it. Counts only, never an input.

This is what a device may tell a server, so the record is small whatever the device was asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from zoo.types import Name, NonNegative, Positive

SCHEMA_VERSION = 2  # since 2, what servers were sent and budgets of that
LOCAL_VERSION = 1  # written where there is nothing of the kind, so that older services go on reading
# Kinds of question that are told apart; the rarer ones are counted only in the totals.
MAX_QUESTION_KINDS = 16

Finite = Annotated[float, Meta(ge=-1e12, le=1e12)]


class AskedDemand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often one constraint was asked for, and how often a model was missed for it."""

    kind: Literal["precision", "max_drop", "mean_ms", "p95_ms", "mean_uplink_kb", "max_remote"]
    level: Finite
    environment: Annotated[str, Meta(max_length=200)] | None = None
    answers: Positive
    unmet: NonNegative

    def __post_init__(self) -> None:
        if self.unmet > self.answers:
            raise ValueError(f"unmet: expected at most {self.answers}, one an answer, got {self.unmet}")


class RemoteUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a device sent to servers since it began to answer with a bundle."""

    inputs: NonNegative  # that servers answered
    sent_bytes: NonNegative  # for these
    failures: NonNegative  # answers for which a server was asked in vain; the device gave them itself


class Demand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was asked of one bundle on a device.

    An answer is *unmet* when, with all of the bundle's models installed, it would have taken a model that
    is not. It counts once for every such model.
    """

    schema_version: Positive
    bundle: Name  # name of the task on devices
    since: Annotated[float, Meta(ge=0, le=1e11)]  # seconds since 1970
    answers: NonNegative  # since then
    window: NonNegative  # how many of the latest answers all that follows is about
    unmet: NonNegative  # of these
    uncertified: NonNegative  # of these; the reference model answered
    models: dict[Name, Positive] = {}  # model that is not installed → answers that would have taken it
    shortfall: Annotated[float, Meta(ge=0, le=1)] = 0.0  # of the probability of being right, mean of unmet
    asked: Annotated[tuple[AskedDemand, ...], Meta(max_length=MAX_QUESTION_KINDS)] = ()  # most frequent first

    remote: RemoteUse | UnsetType = UNSET  # left out where no model is on a server

    def __post_init__(self) -> None:
        if not self.unmet <= self.window <= self.answers or self.uncertified > self.window:
            raise ValueError("expected unmet and uncertified <= window <= answers")
        if any(count > self.unmet for count in self.models.values()):
            raise ValueError(f"models: expected at most {self.unmet} each, got {self.models}")


def version_for(asked: Iterable[AskedDemand], remote: RemoteUse | UnsetType) -> int:
    """The oldest version of the format that can hold these."""
    new = remote is not UNSET or any(one.kind in ("mean_uplink_kb", "max_remote") for one in asked)
    return SCHEMA_VERSION if new else LOCAL_VERSION
