"""The tally: the newest report of every device, and what those of a group add up to."""

from __future__ import annotations

import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import msgspec
from msgspec import UNSET

from selector.fleet.tokens import Token
from selector.telemetry.demand import AskedDemand, Demand, RemoteUse
from selector.telemetry.report import Report
from zoo.releases.release import Index
from zoo.types import Name, Sha256

MAX_DEVICES = 10_000  # of a group
# Kinds of question of a group that are told apart; the rarer ones count in the totals.
MAX_QUESTION_KINDS = 64
MOST_NAMES, MOST_VERSIONS = 256, 16  # that are told, the most frequent ones
MOST_COUNTED = 4096  # keys of one count, half of them after a clean-up

Key = TypeVar("Key", bound=Hashable)
# A report is new, or one that is known already, or of a second device under the identifier of the first.
Verdict = Literal["new", "repeated", "in use"]


class Received(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A report and when it came, by the clock of the server."""

    at: float  # seconds since 1970
    report: Report
    token: Sha256 | None = None  # digest of the token that it came with; ledgers of schema 2 do not tell


class BundleDemand(msgspec.Struct, frozen=True, kw_only=True):
    """What the devices of a group were asked of one bundle, lately."""

    devices: int  # that have it or were asked for it
    window: int  # answers that the rest is about
    unmet: int
    uncertified: int
    models: dict[str, int]  # model → answers that would have taken it where it was not installed
    asked: tuple[AskedDemand, ...]  # most frequent first
    alarms: int  # devices whose inputs have drifted
    remote: RemoteUse | None = None  # what the devices sent to servers of models; None: none reports that


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
    withdrawn: int = 0  # devices that do not count, because the token that they reported with does not
    left_out: int = 0  # names in reports that did not count: not published, or too many different ones

    @property
    def window(self) -> int:
        """Answers of all bundles."""
        return sum(bundle.window for bundle in self.bundles.values())

    def budget(self, quantile: float) -> int | None:
        """The budget that all but this share of the devices have at least; None: these have no limit."""
        smaller = math.floor(quantile * self.devices)
        return self.budgets[smaller] if smaller < len(self.budgets) else None


@dataclass(frozen=True, slots=True)
class _Kept:
    at: float
    token: str | None
    sequence: int
    packed: bytes  # the report, which takes up to ten times as much memory unpacked

    @classmethod
    def of(cls, received: Received) -> _Kept:
        report = received.report
        return cls(received.at, received.token, report.sequence, msgspec.msgpack.encode(report))

    @property
    def report(self) -> Report:
        return msgspec.msgpack.decode(self.packed, type=Report)


@dataclass
class _Group:
    reports: int = 0
    devices: OrderedDict[str, _Kept] = field(default_factory=OrderedDict)  # longest unheard first


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

    def verdict(self, report: Report) -> Verdict:
        """What a report is, beside the last one of its device.

        A device counts its reports and sends one again only as it was. So another report with a number that
        was there means that two devices have one identifier, such as after a store was copied.
        """
        group = self._groups.get(report.group)
        last = group.devices.get(report.device) if group else None
        if last is None or report.sequence > last.sequence:
            return "new"
        return judge(report, last.report)

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
            if self.verdict(report) != "new":
                return False
            group = self._groups.setdefault(report.group, _Group())
            group.reports += 1
            group.devices[report.device] = _Kept.of(received)
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
            kept = [one for _, group in sorted(self._groups.items()) for one in group.devices.values()]
        return [Received(at=one.at, report=one.report, token=one.token) for one in kept]

    def demand(
        self,
        group: str,
        *,
        since: float,
        published: Index | None = None,
        tokens: Collection[Token] | None = None,
    ) -> GroupDemand:
        """What the devices of a group that were heard of since then report together.

        It takes time in proportion to the reports, and memory that does not depend on them, whatever
        devices say.

        Parameters
        ----------
        since
            Seconds since 1970.
        published
            What else devices name does not count; None: every name does, up to a number.
        tokens
            Those that are valid. Reports that came with another one do not count; None: all reports do.
        """
        with self._lock:
            known = self._groups.get(group, _Group())
            heard = [one for one in known.devices.values() if one.at >= since]
        lately = [one for one in heard if tokens is None or _is_valid(one, group, tokens)]
        sums = _Sums(published)
        for one in lately:
            sums.add(one.report)
        return GroupDemand(
            group=group,
            devices=len(lately),
            reports=known.reports,
            bundles={name: sums.bundles[name].demand(sums.alarms[name]) for name in sorted(sums.bundles)},
            budgets=tuple(sorted(sums.budgets)),
            held=dict(sorted(sums.held.most_common(MOST_NAMES))),
            versions=_versions(sums.versions),
            zooselect=dict(sorted(sums.zooselect.most_common(MOST_VERSIONS))),
            withdrawn=len(heard) - len(lately),
            left_out=sums.left_out,
        )


def judge(report: Report, last: Report) -> Verdict:
    """What a report is, beside the last one under the same identifier; see :meth:`Tally.verdict`."""
    if report.sequence > last.sequence:
        return "new"
    return "repeated" if report == last else "in use"


def _is_valid(kept: _Kept, group: str, tokens: Collection[Token]) -> bool:
    own = [token for token in tokens if token.group == group]
    if kept.token is None:  # then a token of the group that is old enough has to do
        return any(token.made <= kept.at for token in own)
    return any(token.sha256 == kept.token for token in own)


class _Frequent(Counter[Key]):
    """Counts of the most frequent keys: where there are too many of them, the rarer ones are forgotten."""

    def note(self, key: Key, count: int = 1) -> None:
        self[key] += count
        if len(self) > MOST_COUNTED:
            kept = dict(self.most_common(MOST_COUNTED // 2))
            self.clear()
            self.update(kept)


@dataclass
class _BundleSum:
    devices: int = 0
    window: int = 0
    unmet: int = 0
    uncertified: int = 0
    models: _Frequent[str] = field(default_factory=_Frequent)
    answers: _Frequent[AskedDemand] = field(default_factory=_Frequent)  # question → how often it was asked
    lacking: _Frequent[AskedDemand] = field(default_factory=_Frequent)
    remote: RemoteUse | None = None

    def add(self, demand: Demand) -> None:
        self.window += demand.window
        self.unmet += demand.unmet
        self.uncertified += demand.uncertified
        if demand.remote is not UNSET:
            self.remote = _sum(self.remote, demand.remote)
        for asked in demand.asked:
            question = AskedDemand(
                kind=asked.kind, level=asked.level, environment=asked.environment, answers=1, unmet=0
            )
            self.answers.note(question, asked.answers)
            if asked.unmet:
                self.lacking.note(question, asked.unmet)

    def demand(self, alarms: int) -> BundleDemand:
        frequent = sorted(self.answers.items(), key=lambda one: (-one[1], str(one[0])))
        return BundleDemand(
            devices=self.devices,
            window=self.window,
            unmet=self.unmet,
            uncertified=self.uncertified,
            models=dict(sorted(self.models.items(), key=lambda item: (-item[1], item[0]))[:MOST_NAMES]),
            asked=tuple(
                msgspec.structs.replace(question, answers=count, unmet=min(self.lacking[question], count))
                for question, count in frequent[:MAX_QUESTION_KINDS]
            ),
            alarms=alarms,
            remote=self.remote,
        )


def _sum(one: RemoteUse | None, other: RemoteUse) -> RemoteUse:
    if one is None:
        return other
    return RemoteUse(
        inputs=one.inputs + other.inputs,
        sent_bytes=one.sent_bytes + other.sent_bytes,
        failures=one.failures + other.failures,
    )


class _Sums:
    """What reports add up to; each is looked at once."""

    def __init__(self, published: Index | None) -> None:
        self._models: Collection[str] | None = None if published is None else published.models
        self._bundles: Collection[str] | None = None if published is None else published.bundles
        self.bundles: dict[str, _BundleSum] = {}
        self.budgets: list[int] = []  # bytes
        self.held: _Frequent[str] = _Frequent()
        self.versions: _Frequent[tuple[str, int]] = _Frequent()  # "models/NAME" or "bundles/NAME", version
        self.zooselect: _Frequent[str] = _Frequent()
        self.alarms: _Frequent[str] = _Frequent()  # bundle → devices whose inputs have drifted
        self.left_out = 0

    def add(self, report: Report) -> None:
        self.zooselect.note(report.zooselect)
        if report.budget_bytes is not None:
            self.budgets.append(report.budget_bytes)
        for held in report.models:
            if self._counts(held.name, self._models):
                self.held.note(held.name)
                self.versions.note((f"models/{held.name}", held.version))
        named = {demand.bundle: demand for demand in report.demand}
        for held in report.bundles:
            if held.name not in named and (found := self._of(held.name)):
                found.devices += 1
            if self._bundles is None or held.name in self._bundles:
                self.versions.note((f"bundles/{held.name}", held.version))
        for name, demand in named.items():
            if found := self._of(name):
                found.devices += 1
                found.add(demand)
                for model, count in demand.models.items():
                    if self._counts(model, self._models):
                        found.models.note(model, count)
        for drift in report.drift:
            if self._bundles is None or drift.bundle in self._bundles:
                self.alarms.note(drift.bundle, any(number.alarm for number in drift.numbers))

    def _counts(self, name: str, published: Collection[str] | None) -> bool:
        counts = published is None or name in published
        self.left_out += not counts
        return counts

    def _of(self, name: str) -> _BundleSum | None:
        if not self._counts(name, self._bundles):
            return None
        if name not in self.bundles and len(self.bundles) >= MOST_COUNTED:
            self.left_out += 1
            return None
        return self.bundles.setdefault(name, _BundleSum())


def _versions(counts: Mapping[tuple[str, int], int]) -> dict[str, dict[str, int]]:
    named: dict[str, Counter[int]] = {}
    for (name, version), count in counts.items():
        named.setdefault(name, Counter())[version] = count
    common = sorted(named, key=lambda name: (-named[name].total(), name))[:MOST_NAMES]
    return {
        name: {str(version): count for version, count in sorted(named[name].most_common(MOST_VERSIONS))}
        for name in sorted(common)
    }
