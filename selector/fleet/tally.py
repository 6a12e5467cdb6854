"""The tally: the newest report of every device, and what those of a group add up to."""

from __future__ import annotations

import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from selector.telemetry.demand import AskedDemand
from selector.telemetry.report import Report
from zoo.types import Name

MAX_DEVICES = 10_000  # of a group
# Kinds of question of a group that are told apart; the rarer ones count in the totals.
MAX_QUESTION_KINDS = 64
MOST_NAMES, MOST_VERSIONS = 256, 16  # whose versions are told, the most frequent ones


class Received(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A report and when it came, by the clock of the server."""

    at: float  # seconds since 1970
    report: Report


class BundleDemand(msgspec.Struct, frozen=True, kw_only=True):
    """What the devices of a group were asked of one bundle, lately."""

    devices: int  # that have it or were asked for it
    window: int  # answers that the rest is about
    unmet: int
    uncertified: int
    models: dict[str, int]  # model → answers that would have taken it where it was not installed
    asked: tuple[AskedDemand, ...]  # most frequent first
    alarms: int  # devices whose inputs have drifted


class GroupDemand(msgspec.Struct, frozen=True, kw_only=True):
    """What the devices of a group report together."""

    group: str
    devices: int  # heard of lately
    reports: int  # accepted since counting began
    bundles: dict[Name, BundleDemand]
    budgets: tuple[int, ...]  # bytes, smallest first; devices without a limit are not in it
    held: dict[str, int]  # installed model → devices
    versions: dict[str, dict[str, int]] = {}  # "models/NAME" or "bundles/NAME" → version → devices
    zooselect: dict[str, int] = {}  # version of zooselect → devices

    @property
    def window(self) -> int:
        """Answers of all bundles."""
        return sum(bundle.window for bundle in self.bundles.values())

    def budget(self, quantile: float) -> int | None:
        """The budget that all but this share of the devices have at least; None: these have no limit."""
        smaller = math.floor(quantile * self.devices)
        return self.budgets[smaller] if smaller < len(self.budgets) else None


@dataclass
class _Group:
    reports: int = 0
    devices: OrderedDict[str, Received] = field(default_factory=OrderedDict)  # longest unheard first


class Tally:
    """The newest report of every device, in memory. Safe to use from several threads.

    Parameters
    ----------
    most_devices
        Of a group. Beyond them the device that was unheard of for longest is forgotten.
    """

    def __init__(self, *, most_devices: int = MAX_DEVICES) -> None:
        self._most_devices = most_devices
        self._groups: dict[str, _Group] = {}
        self._lock = threading.Lock()

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups that were heard of."""
        return tuple(sorted(self._groups))

    @property
    def counts(self) -> dict[str, int]:
        """Group → reports that were accepted."""
        return {name: group.reports for name, group in sorted(self._groups.items())}

    def is_new(self, report: Report) -> bool:
        """Whether it is newer than all that its device has sent; a repeated one is not."""
        group = self._groups.get(report.group)
        last = group.devices.get(report.device) if group else None
        return last is None or report.sequence > last.report.sequence

    def displaces(self, report: Report) -> bool:
        """Whether another device of its group is forgotten for it."""
        group = self._groups.get(report.group)
        if group is None or report.device in group.devices:
            return False
        return len(group.devices) >= self._most_devices

    def add(self, received: Received) -> bool:
        """Count a report; False, and nothing is counted, when it is not new."""
        report = received.report
        with self._lock:
            if not self.is_new(report):
                return False
            group = self._groups.setdefault(report.group, _Group())
            group.reports += 1
            group.devices[report.device] = received
            group.devices.move_to_end(report.device)
            while len(group.devices) > self._most_devices:
                group.devices.popitem(last=False)
        return True

    def restore(self, counts: Mapping[str, int]) -> None:
        """Set how many reports were accepted, after those that are still known were added again."""
        with self._lock:
            for name, count in counts.items():
                self._groups.setdefault(name, _Group()).reports = count

    def newest(self) -> list[Received]:
        """The newest report of every device, in the order of their arrival within each group."""
        with self._lock:
            return [one for _, group in sorted(self._groups.items()) for one in group.devices.values()]

    def demand(self, group: str, *, since: float) -> GroupDemand:
        """What the devices of a group that were heard of since then report together."""
        with self._lock:
            known = self._groups.get(group, _Group())
            lately = [received.report for received in known.devices.values() if received.at >= since]
        names = {held.name for report in lately for held in report.bundles}
        names |= {demand.bundle for report in lately for demand in report.demand}
        return GroupDemand(
            group=group,
            devices=len(lately),
            reports=known.reports,
            bundles={name: _bundle(name, lately) for name in sorted(names)},
            budgets=tuple(sorted(r.budget_bytes for r in lately if r.budget_bytes is not None)),
            held=dict(sorted(Counter(held.name for report in lately for held in report.models).items())),
            versions=_versions(lately),
            zooselect=dict(sorted(Counter(report.zooselect for report in lately).items())),
        )


def _versions(reports: Iterable[Report]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[int]] = {}
    for report in reports:
        for kind, all_held in (("models", report.models), ("bundles", report.bundles)):
            for held in all_held:
                counts.setdefault(f"{kind}/{held.name}", Counter())[held.version] += 1
    common = sorted(counts, key=lambda name: (-counts[name].total(), name))[:MOST_NAMES]
    return {
        name: {str(version): count for version, count in sorted(counts[name].most_common(MOST_VERSIONS))}
        for name in sorted(common)
    }


def _bundle(name: str, reports: Iterable[Report]) -> BundleDemand:
    window = unmet = uncertified = devices = alarms = 0
    models: Counter[str] = Counter()
    answers: Counter[AskedDemand] = Counter()
    lacking: Counter[AskedDemand] = Counter()
    for report in reports:
        demands = [demand for demand in report.demand if demand.bundle == name]
        devices += bool(demands) or any(held.name == name for held in report.bundles)
        alarms += any(n.alarm for drift in report.drift if drift.bundle == name for n in drift.numbers)
        for demand in demands:
            window += demand.window
            unmet += demand.unmet
            uncertified += demand.uncertified
            models.update(demand.models)
            for asked in demand.asked:
                question = replace(asked, answers=1, unmet=0)
                answers[question] += asked.answers
                lacking[question] += asked.unmet
    return BundleDemand(
        devices=devices,
        window=window,
        unmet=unmet,
        uncertified=uncertified,
        models=dict(sorted(models.items(), key=lambda item: (-item[1], item[0]))),
        asked=tuple(
            replace(question, answers=count, unmet=lacking[question])
            for question, count in sorted(answers.items(), key=lambda one: (-one[1], str(one[0])))[
                :MAX_QUESTION_KINDS
            ]
        ),
        alarms=alarms,
    )
