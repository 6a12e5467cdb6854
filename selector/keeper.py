"""The keeper: brings a device's store in line with what is published, assigned or worth fetching.

It needs the latest answers and no open model, so that it works in another process as well as in this one.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from selector.bundle import Bundle
from selector.demand import Recalled, demand_of
from selector.settings import DeviceConfig, read_config, read_token
from selector.source import StoreSource
from selector.value import task_of
from zoo.client import Change, Client, Freshness, Progress
from zoo.errors import ZooError
from zoo.release import Index
from zoo.reporting import Reporter
from zoo.store import Store
from zoo.worth import Task, worth

MIN_ANSWERS = 50  # before that, what was asked says too little to fetch anything for it


@dataclass(frozen=True)
class Round:
    """What one look at the publisher brought."""

    change: Change | None  # None where nothing was tried or it failed
    freshness: Freshness
    problem: ZooError | None  # why something failed; the device goes on answering


class Keeper:
    """The client and the reporter of one store, opened when first needed."""

    def __init__(self, store: Store, config: DeviceConfig) -> None:
        self.store = store
        self.config = config
        self._client: Client | None = None
        self._reporter: Reporter | None = None
        self._opening = threading.Lock()
        self._told: dict[str, int] = {}  # task → number of the latest answer whose models were noted as used

    @classmethod
    def open(cls, folder: Path) -> Keeper:
        """The keeper of a device that was set up; raises :class:`CardError` where there is none."""
        config = read_config(folder)
        return cls(Store.open(folder, budget_bytes=config.budget_bytes), config)

    @property
    def client(self) -> Client:
        """The client of the store."""
        with self._opening:
            if self._client is None:
                self._client = Client(self.store, self.config.url, group=self.config.group)
            return self._client

    def look(self, lately: Sequence[Recalled], *, cancel: threading.Event | None = None) -> Round:
        """:meth:`update`, then :meth:`report`; errors of ours are in the result, not raised."""
        change: Change | None = None
        problem: ZooError | None = None
        try:
            change = self.update(lately, cancel=cancel)
        except ZooError as error:
            problem = error
        try:
            if cancel is None or not cancel.is_set():
                self.report(lately)
        except ZooError as error:
            problem = problem or error
        if self._client is None:
            return Round(change, Freshness(True, str(problem), None), problem)
        return Round(change, self._client.freshness, problem)

    def update(
        self,
        lately: Sequence[Recalled],
        *,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Change:
        """Follow the group's assignment; without one, fetch what is newer, then what pays.

        Raises like :meth:`zoo.client.Client.install`.
        """
        change = self.client.follow(progress=progress, cancel=cancel)
        if self.client.assigned:
            return change
        models = self.wanted_models(lately)
        if models:
            change = _both(change, self.client.install(models=models, progress=progress, cancel=cancel))
        return change

    def wanted_models(self, lately: Sequence[Recalled]) -> tuple[str, ...]:
        """Published models that are not installed and pay for what was asked lately, with all that they need.

        A model pays when the set that it belongs to gains more than what is installed, after the price of the
        bytes that it takes to fetch it. Nothing is wanted on the strength of a few answers.
        """
        index = self.client.index
        if index is None:
            return ()
        known = {name: one.accuracy for name, one in index.models.items() if one.accuracy is not None}
        tasks = [
            task_of(bundle, item.answers, name=item.task, costs=bundle.costs_ms(), known=known)
            for item, _, bundle in self._current(lately)
            if item.task in index.bundles and len(item.noted) >= MIN_ANSWERS
        ]
        if not tasks:
            return ()
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
        if best.gain <= now + 1e-9 or set(best.models) <= there:
            return ()
        return best.models

    def report(self, lately: Sequence[Recalled]) -> None:
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
            self._reporter = Reporter(self.store, config.service, token, group=config.group)
        self._reporter.send(
            [
                demand_of(item.answers, bundle, source.held(bundle), name=item.task, since=item.since)
                for item, source, bundle in self._current(lately)
            ]
        )

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

    def _current(self, lately: Sequence[Recalled]) -> list[tuple[Recalled, StoreSource, Bundle]]:
        """The answers that came from bundles as they are installed now; those of others say nothing here."""
        records = {item.release.name: item.release.record.sha256 for item in self.store.installed.bundles}
        current = [item for item in lately if records.get(item.task) == item.record]
        sources = [(item, StoreSource.of(self.store, item.task)) for item in current]
        return [(item, source, source.bundle()) for item, source in sources]

    def _spent(self, tasks: Sequence[Task]) -> int:
        """Bytes of the budget that are no matter of these tasks, pinned models and other bundles; all of it
        at most."""
        assert self.config.budget_bytes is not None
        named = {task.name for task in tasks}
        models = {name for task in tasks for name in task.models}
        others: dict[str, int] = {}
        for item in self.store.installed.models:
            if item.pinned and item.release.name not in models:
                others |= item.release.blobs
        for bundle in self.store.installed.bundles:
            if bundle.release.name not in named:
                others |= bundle.release.blobs
        return min(self.config.budget_bytes, sum(others.values()))


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
    )
