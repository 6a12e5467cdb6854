"""Reports: what a device tells the service of its group. Counts and drift numbers only, never an input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from selector.telemetry.demand import LOCAL_VERSION, Demand, Finite
from zoo.errors import ReportError, ZooError
from zoo.files import decode_record
from zoo.types import Label, Name, Positive

SCHEMA_VERSION = 2  # since 2, demand may hold what servers were sent
MAX_REPORT_BYTES = 16 * 1024
MAX_WINDOW_ANSWERS = 4096  # answers that one device may speak for, so that none outvotes its group
MAX_DRIFT_NUMBERS = 16  # of the drift of one bundle
MAX_COUNT = 2**53  # what every JSON reader keeps exactly

Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
DeviceId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$(?!\n)", description="32 hexadecimal digits")]


class Held(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model or a bundle that is installed."""

    name: Name
    version: Annotated[int, Meta(ge=1, le=MAX_COUNT)]


class DriftNumber(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One measure of how far recent inputs are from those that the bundle was certified on."""

    name: Label
    statistic: Finite
    alarm: bool


class Drift(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The measures of one bundle."""

    bundle: Name
    numbers: Annotated[tuple[DriftNumber, ...], Meta(max_length=MAX_DRIFT_NUMBERS)]


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a device reports. The newest replaces the earlier ones; a repeated one counts once."""

    schema_version: Positive
    device: DeviceId  # at random, chosen by the device; says nothing about it
    sequence: Annotated[int, Meta(ge=1, le=MAX_COUNT)]  # counts up with every report of the device
    group: Name
    models: Annotated[tuple[Held, ...], Meta(max_length=64)] = ()
    bundles: Annotated[tuple[Held, ...], Meta(max_length=16)] = ()
    demand: Annotated[tuple[Demand, ...], Meta(max_length=16)] = ()
    drift: Annotated[tuple[Drift, ...], Meta(max_length=16)] = ()
    stored_bytes: Count
    budget_bytes: Count | None = None  # None: as much as there is
    rate_bytes_per_s: Annotated[float, Meta(gt=0, le=1e12)] | None = None  # of the last download
    zooselect: Label  # version

    def __post_init__(self) -> None:
        for field in ("models", "bundles"):
            _distinct(field, [held.name for held in getattr(self, field)])
        for field in ("demand", "drift"):
            _distinct(field, [one.bundle for one in getattr(self, field)])
        for demand in self.demand:
            if demand.window > MAX_WINDOW_ANSWERS or demand.answers > MAX_COUNT:
                raise ValueError(
                    f"demand: expected the latest {MAX_WINDOW_ANSWERS} answers at most, got {demand.window}"
                )
            if sum(asked.answers for asked in demand.asked) > demand.window:
                raise ValueError(f"demand: expected at most {demand.window} answers in asked, as in window")
            if any(not (asked.environment or "").isprintable() for asked in demand.asked):
                raise ValueError("demand: expected printable names of environments")


def version_for(demand: Iterable[Demand]) -> int:
    """The oldest version of the format that can hold `demand`: services may be older than devices."""
    return max((one.schema_version for one in demand), default=LOCAL_VERSION)


def decode_report(content: bytes) -> Report:
    """The report that `content` is, fully checked.

    Raises
    ------
    ReportError
        When it is too large or is not a report of this version.
    """
    if len(content) > MAX_REPORT_BYTES:
        raise ReportError(
            f"expected a report of at most {MAX_REPORT_BYTES:,} bytes, got {len(content):,}. "
            "Send counts only."
        )
    try:
        return decode_record(content, Report, name="report", schema_version=SCHEMA_VERSION)
    except ZooError as error:
        raise ReportError(str(error)) from error


def encode_report(report: Report) -> bytes:
    """A report as one line of JSON.

    Raises
    ------
    ReportError
        When it is larger than a server accepts.
    """
    content = msgspec.json.encode(report)
    if len(content) > MAX_REPORT_BYTES:
        raise ReportError(
            f"expected a report of at most {MAX_REPORT_BYTES:,} bytes, got {len(content):,}. "
            "Report fewer bundles, or fewer kinds of question."
        )
    return content


def _distinct(field: str, names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise ValueError(f"{field}: expected distinct names, got {names}")
