"""The reconciler: brings a device's store in line with what is published, assigned or worth fetching.

It needs the latest answers and no open model, so that it works in another process as well as in this one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from msgspec import UNSET

from selector.answering.recent import Recalled, questions
from selector.bundle.bundle import Bundle
from selector.bundle.source import StoreSource
from selector.device.reporter import BusyError, Reporter
from selector.device.settings import DeviceConfig, read_config, read_token
from selector.drift.monitor import DriftStatus
from selector.drift.recognition import MIN_INPUTS_AFTER_ALARM, likenesses, recognised
from selector.telemetry.report import MAX_DRIFT_NUMBERS, Drift, DriftNumber
from selector.worth.best_set import TaskWorth, worth
from selector.worth.missed import demand_of
from selector.worth.value import task_worth
from zoo.client.change import Change, Freshness, Progress
from zoo.client.client import Client
from zoo.client.wire import TIMEOUT_S
from zoo.errors import BudgetError, LeftOutError, LimitError, ModelError, SelfTestError, ZooError
from zoo.releases.release import BundleRelease, Index
from zoo.store.store import Store

MIN_ANSWERS_TO_FETCH = 50  # before that, what was asked says too little to fetch anything for it
REPORT_INTERVAL_S = 10.0  # between two reports, unless an alarm is new
MAX_LIKENESSES = 4  # variants of which a report says how much the inputs are like theirs


@dataclass(frozen=True)
class Round:
    """What one look at the publisher brought.

    Examples
    --------
    >>> found = device.look()
    >>> found.problem is None, found.freshness.stale
    (True, False)
    """

    change: Change | None  # None where nothing was tried or it failed
    freshness: Freshness
    problem: ZooError | None  # why something failed; the device goes on answering
    unknown: tuple[str, ...] = ()  # tasks whose inputs have drifted and look like no published variant
    left_out: tuple[LimitError, ...] = ()  # why models or graphs do not answer: they took more than they may


class Reconciler:
    """The client and the reporter of one store, opened when first needed.

    Parameters
    ----------
    timeout_s
        Of every request; see :class:`zoo.client.wire.Wire`.
    """

    def __init__(self, store: Store, config: DeviceConfig, *, timeout_s: float = TIMEOUT_S) -> None:
        self.store = store
        self.config = config
        self._timeout_s = timeout_s
        self._client: Client | None = None
        self._reporter: Reporter | None = None
        self._opening = threading.Lock()
        self._unknown: tuple[str, ...] = ()
        self._report_at = 0.0
        self._not_before = 0.0  # as a busy service asked
        self._alarms: set[str] = set()  # bundles whose inputs had drifted in the last report
        self._told: dict[str, int] = {}  # task → number of the latest answer whose models were noted as used

    @classmethod
    def open(cls, folder: Path) -> Reconciler:
        """The reconciler of a device that was set up; raises :class:`CardError` where there is none."""
        config = read_config(folder)
        return cls(Store.open(folder, budget_bytes=config.budget_bytes), config)

    @property
    def client(self) -> Client:
        """The client of the store."""
        with self._opening:
            if self._client is None:
                config, timeout_s = self.config, self._timeout_s
                self._client = Client(self.store, config.url, group=config.group, timeout_s=timeout_s)
            return self._client

    def look(self, lately: Sequence[Recalled], *, cancel: threading.Event | None = None) -> Round:
        """:meth:`update`, then :meth:`report`; errors of ours are in the result, not raised."""
        change: Change | None = None
        problem: ZooError | None = None
        try:
            change = self.update(lately, cancel=cancel)
            if change.left_out:
                problem = LeftOutError(" ".join(change.left_out.values()))
        except ZooError as error:
            problem = error
        try:
            alarms = {item.task for item in lately if item.drift is not None and item.drift.alarm}
            due = time.monotonic() >= self._report_at or not alarms <= self._alarms
            due = due and time.monotonic() >= self._not_before
            if due and (cancel is None or not cancel.is_set()):
                self.report(lately, cancel=cancel)
                self._report_at = time.monotonic() + REPORT_INTERVAL_S
                self._alarms = alarms
        except BusyError as error:  # the same report is due after that; an alarm has not been told
            self._not_before = time.monotonic() + error.seconds
            problem = problem or error
        except ZooError as error:
            problem = problem or error
        if self._client is None:
            return Round(change, Freshness(True, str(problem), None), problem)
        return Round(change, self._client.freshness, problem, self._unknown)

    def update(
        self,
        lately: Sequence[Recalled],
        *,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Change:
        """Follow the group's assignment; without one, fetch what is newer, then what pays.

        Of a task whose inputs have drifted, the published variant that they look like comes, with the models
        that pay for what was asked of the variant before it. The device then goes on with it.

        Raises like :meth:`zoo.client.client.Client.install`.
        """
        change = self.client.follow(progress=progress, cancel=cancel)
        specialists = self._specialists(lately)
        if self.client.assigned:
            return change
        there = {item.release.name for item in self.store.installed.bundles}
        missing = tuple(one.name for one in specialists.values() if one.name not in there)
        if missing:
            more = self.client.install(bundles=missing, start=False, progress=progress, cancel=cancel)
            change = _both(change, more)
        problem: ZooError | None = None
        for models in self._choices(lately, specialists):
            try:
                more = self.client.install(models=models, progress=progress, cancel=cancel)
            except (BudgetError, SelfTestError, ModelError) as error:  # no room beside what answers meanwhile
                problem = problem or error
            else:
                return _both(change, more)
        if problem is not None:
            raise problem
        return change

    def _specialists(self, lately: Sequence[Recalled]) -> dict[str, BundleRelease]:
        """Bundle whose inputs have drifted → the published variant that they look like."""
        index = self.client.usable()
        found: dict[str, BundleRelease] = {}
        unknown = []
        for item in lately:
            if index is None or item.drift is None or not item.drift.alarm or item.left:
                continue
            best = recognised(
                item.drift,
                _variants(item.task, index),
                active=item.task,
                accuracy=partial(_accuracy, index=index),
            )
            if best is None and item.drift.since >= MIN_INPUTS_AFTER_ALARM:
                unknown.append(item.task)
            elif best is not None and best.name != item.task:
                found[item.task] = best
        self._unknown = tuple(unknown)
        return found

    def _choices(
        self, lately: Sequence[Recalled], specialists: dict[str, BundleRelease]
    ) -> list[tuple[str, ...]]:
        """What to install, best first; more than one choice where a specialist has no model yet.

        Models pay when the set that they belong to gains more than what is installed, after the price of the
        bytes that it takes to fetch it. Nothing is wanted on the strength of a few answers, or for inputs
        that have drifted.
        """
        index = self.client.usable()
        if index is None:
            return []
        known = {name: one.accuracy for name, one in index.models.items() if one.accuracy is not None}
        tasks: list[TaskWorth] = []
        new: list[Bundle] = []
        asked_before = {_task(item.task, index): item.answers for item in lately if item.left}
        for item, _, bundle in self._current(lately):
            answers = item.answers
            if len(answers) < MIN_ANSWERS_TO_FETCH:
                answers = questions(asked_before.get(_task(item.task, index), answers))
            name = item.task
            if item.left or name not in index.bundles:
                continue
            if name in specialists:
                name = specialists[name].name
                bundle = StoreSource.of(self.store, name).bundle()
                new.append(bundle)
                answers = questions(answers)
            elif len(answers) < MIN_ANSWERS_TO_FETCH or (item.drift is not None and item.drift.alarm):
                continue
            costs, asked = bundle.costs_ms(), bundle.on_servers(self.config.asked)
            tasks.append(task_worth(bundle, answers, name=name, costs=costs, known=known, elsewhere=asked))
        if not tasks:
            return []
        installed = self.store.installed
        there = {item.release.name for item in installed.models}
        budget = self.config.budget_bytes
        best = worth(
            tasks,
            index,
            budget_bytes=_all_bytes(index) if budget is None else budget - self._spent(tasks),
            held=installed.blobs,
            price_per_mb=self.config.price_per_mb,
        )
        now = sum(task.answers * task.gain(there) for task in tasks)
        pays = best.gain > now + 1e-9 and not set(best.models) <= there
        choices = [best.models] if pays else []
        for bundle in new:
            if not there & set(bundle.by_accuracy):
                choices += [(name,) for name in bundle.by_accuracy if name in index.models]
        return choices

    def report(self, lately: Sequence[Recalled], *, cancel: threading.Event | None = None) -> None:
        """Tell the service what was asked lately; does nothing without one. Counts only, never an input.

        Raises
        ------
        UnreachableError
            When the service cannot be reached or refuses the report.
        CardError
            When its token cannot be read.
        """
        config = self.config
        if config.service is None or config.group is None:
            return
        if self._reporter is None:
            token = read_token(self.store.folder)
            self._reporter = Reporter(
                self.store, config.service, token, group=config.group, timeout_s=self._timeout_s
            )
        self._reporter.send(
            [
                demand_of(
                    item.answers,
                    bundle,
                    source.held(bundle),
                    name=item.task,
                    since=item.since,
                    remote=UNSET if item.remote is None else item.remote,
                )
                for item, source, bundle in self._current(lately)
            ],
            [self._drift(item) for item in lately if item.drift is not None],
            cancel=cancel,
        )

    def _drift(self, item: Recalled) -> Drift:
        """How far the inputs of a bundle have drifted and, after an alarm, which variants they are like."""
        assert item.drift is not None
        index = self.client.index
        like: tuple[DriftNumber, ...] = ()
        if item.drift.alarm and index is not None:
            found = likenesses(item.drift, _variants(item.task, index))[:MAX_LIKENESSES]
            like = tuple(
                DriftNumber(name=f"like {one.release.name}"[:64], statistic=one.log_evidence, alarm=False)
                for one in found
            )
        return Drift(bundle=item.task, numbers=(*numbers(item.drift)[: MAX_DRIFT_NUMBERS - len(like)], *like))

    def touch(self, lately: Sequence[Recalled]) -> None:
        """Note as used what has answered since this was called last, so that it is not evicted first."""
        for item in lately:
            answers = item.answers
            told = self._told.get(item.task, 0)
            if answers and answers[-1].number < told:  # counted anew, for another bundle
                told = 0
            for name in {name for one in answers if one.number > told for name in one.path}:
                self.store.touch(name)
            self._told[item.task] = answers[-1].number if answers else told

    def close(self) -> None:
        """Close all connections; they are opened again when needed."""
        with self._opening:
            if self._client is not None:
                self._client.close()
                self._client = None
            if self._reporter is not None:
                self._reporter.close()
                self._reporter = None

    def _current(self, lately: Sequence[Recalled]) -> list[tuple[Recalled, StoreSource, Bundle]]:
        """The answers that came from bundles as they are installed now; those of others say nothing here."""
        records = {item.release.name: item.release.record.sha256 for item in self.store.installed.bundles}
        current = [item for item in lately if records.get(item.task) == item.record]
        servers = self.config.asked
        sources = [(item, StoreSource.of(self.store, item.task, servers=servers)) for item in current]
        return [(item, source, source.bundle()) for item, source in sources]

    def _spent(self, tasks: Sequence[TaskWorth]) -> int:
        """Bytes of the budget that are no matter of these tasks, pinned models and other bundles; all of it
        at most."""
        assert self.config.budget_bytes is not None
        named = {task.name for task in tasks}
        bundles = self.store.installed.bundles
        ours = {item.release.task for item in bundles if item.release.name in named}
        models = {name for task in tasks for name in task.models}
        others: dict[str, int] = {}
        for item in self.store.installed.models:
            if item.pinned and item.release.name not in models:
                others |= item.release.blobs
        for bundle in bundles:
            release = bundle.release
            if release.name not in named and (bundle.pinned or release.task not in ours):
                others |= release.blobs
        return min(self.config.budget_bytes, sum(others.values()))


def _task(name: str, index: Index) -> str:
    """The task that a bundle is for."""
    return index.bundles[name].task if name in index.bundles else name


def _variants(name: str, index: Index) -> list[BundleRelease]:
    """The published variants of the task that a bundle is for."""
    task = _task(name, index)
    return [one for one in index.bundles.values() if one.task == task]


def _accuracy(release: BundleRelease, index: Index) -> float:
    """Of its best model, where that is published."""
    models = (index.models[name] for name in release.models if name in index.models)
    return max((one.accuracy or 0.0 for one in models), default=0.0)


def _all_bytes(index: Index) -> int:
    return sum(one.size_bytes for one in index.models.values()) + sum(
        one.size_bytes for one in index.bundles.values()
    )


def _both(first: Change, second: Change) -> Change:
    return Change(
        installed=tuple(dict.fromkeys((*first.installed, *second.installed))),
        removed=tuple(dict.fromkeys((*first.removed, *second.removed))),
        evicted=tuple(dict.fromkeys((*first.evicted, *second.evicted))),
        bytes_on_wire=first.bytes_on_wire + second.bytes_on_wire,
        requests=first.requests + second.requests,
        seconds=first.seconds + second.seconds,
        left_out=first.left_out | second.left_out,
        no_room=first.no_room | second.no_room,
    )


ALL_INPUTS = "inputs"  # name of the evidence over everything, in reports


def numbers(status: DriftStatus) -> tuple[DriftNumber, ...]:
    """What a report says of drift: the evidence over all inputs, then of what has changed most."""
    ranked = sorted(status.evidence.items(), key=lambda item: -item[1])
    return (
        DriftNumber(name=ALL_INPUTS, statistic=status.log_evidence, alarm=status.alarm),
        *(
            DriftNumber(name=name, statistic=value, alarm=name in status.moved)
            for name, value in ranked[: MAX_DRIFT_NUMBERS - 1]
        ),
    )
