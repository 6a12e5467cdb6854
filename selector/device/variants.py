"""Variants: for every task of a store, which of its bundles answers, and the Selector over that."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from selector.answering.following import StoreSelector
from selector.answering.recent import Recalled
from selector.drift.recognition import recognised
from zoo.client.plan import served
from zoo.errors import BundleError, LimitError, ZooError
from zoo.models.limits import RunLimits
from zoo.releases.release import BundleRelease
from zoo.store.notes import read_note
from zoo.store.store import Store
from zoo.types import Name, Positive

ACTIVE_FILE = "variants.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Variant:
    """The bundle that answers for a task.

    Examples
    --------
    >>> device.variant()
    Variant(task='colours', bundle='colours', environment=None)
    """

    task: str
    bundle: str  # its published name
    environment: str | None  # that it was certified for; None: a mix


class _Active(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    schema_version: Annotated[Positive, Meta(le=SCHEMA_VERSION)]
    tasks: dict[Name, Name] = {}  # task → bundle


class Variants:
    """The tasks of a store. Safe to use from several threads.

    Which variant of a task answers is kept in the store's folder. Where that is lost or damaged, each task
    begins with the bundle of its own name; an alarm leads on from there.

    Attributes
    ----------
    problem
        Why it could not be kept the last time; None where it was.
    """

    def __init__(
        self,
        store: Store,
        *,
        threads: int,
        limits: RunLimits | None = None,
        servers: Collection[str] = (),
    ) -> None:
        self.store = store
        self.threads = threads
        self._limits = limits
        self._servers = servers
        self.problem: ZooError | None = None
        active = read_note(store.folder / ACTIVE_FILE, _Active)  # where there is none, inputs tell what fits
        self._active = {} if active is None else active.tasks
        self._selectors: dict[str, StoreSelector] = {}
        self._left: dict[str, Recalled] = {}  # bundle → its answers until its inputs drifted
        self._lock = threading.RLock()

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the installed tasks."""
        return tuple(dict.fromkeys(item.release.task for item in self.store.installed.bundles))

    def of(self, task: str) -> tuple[BundleRelease, ...]:
        """The installed variants of a task; raises :class:`BundleError` where there is none."""
        found = tuple(item.release for item in self.store.installed.bundles if item.release.task == task)
        if not found:
            raise BundleError(
                f"expected an installed task, got {task!r}; installed: {', '.join(self.tasks) or 'none'}. "
                "Name one of these, or install it first."
            )
        return found

    def active(self, task: str) -> BundleRelease:
        """The variant that answers: that of last time, else that of the task's name, else any with models."""
        found = {release.name: release for release in self.of(task)}
        usable = {name: one for name, one in found.items() if self._usable(one)} or found
        wanted = next((name for name in (self._active.get(task), task) if name in usable), None)
        return usable[wanted or min(usable)]

    def named(self, task: str | None) -> str:
        """The task that is meant: the only one, where none is named."""
        if task is not None:
            return task
        tasks = self.tasks
        if len(tasks) != 1:
            raise BundleError(
                f"expected the name of a task, got none; installed: {', '.join(tasks) or 'none'}. "
                "Name one, or install one first."
            )
        return tasks[0]

    def selector(self, task: str) -> StoreSelector:
        """The Selector of the variant that answers; raises :class:`BundleError` where it is not installed."""
        selector = self._selectors.get(task)
        if selector is None:
            with self._lock:
                if task not in self._selectors:
                    self._selectors[task] = self._over(self.active(task))
                selector = self._selectors[task]
        return selector

    def use(self, task: str, environment: str | None) -> Variant:
        """Answer with the variant for an environment from now on, or with the task's own for None.

        Raises
        ------
        BundleError
            When it is not installed, or without a model.
        ZooError
            When it cannot be kept; answers come from it all the same, until the device is opened again.
        """
        releases = self.of(task)
        name = task if environment is None else f"{task}.{environment}"
        found = next((one for one in releases if one.name == name), None) or next(
            (one for one in releases if environment is not None and one.environment == environment), None
        )
        if found is None:
            raise BundleError(
                f"expected an installed variant of {task!r} for {environment or 'its own name'!r}, got: "
                f"{', '.join(one.name for one in releases)}. Install it: zooselect device update, or "
                f"Device.install({name!r})."
            )
        self._switch(task, found)
        if self.problem is not None:
            raise ZooError(
                f"{task!r} is answered by {found.name!r} from now on, but not after a restart: {self.problem}"
            ) from self.problem
        return _variant(found)

    def recognise(self, task: str) -> Variant | None:
        """After an alarm, go on with the installed variant that the inputs look like; None: there is none."""
        with self._lock:
            selector = self.selector(task)
            status = selector.drift
            if status is None or not status.alarm:
                return None
            active = self.active(task)
            usable = [one for one in self.of(task) if self._usable(one)]
            found = recognised(status, usable, active=active.name, accuracy=self._accuracy)
            if found is None:
                return None
            left = selector.recalled()
            self._left[left.task] = msgspec.structs.replace(left, left=True)
            if found.name == active.name:
                selector.reset_drift()
            else:
                self._switch(task, found)
            return _variant(found)

    def rescue(self, task: str) -> StoreSelector | None:
        """Another Selector for a task whose own cannot answer any more; None: there is no other way."""
        with self._lock:
            before = self._selectors.pop(task, None)
            try:
                return self.selector(task)
            except ZooError:
                if before is not None:
                    self._selectors[task] = before
                return None

    def follow(self) -> None:
        """Have all Selectors follow the store; raises the first error, after all have tried."""
        problem: ZooError | None = None
        for task, selector in list(self._selectors.items()):
            try:
                if self.active(task).name == selector.task_name:
                    selector.update()
                else:
                    self.rescue(task)
            except ZooError as error:
                problem = problem or error
        if problem is not None:
            raise problem

    def lately(self) -> list[Recalled]:
        """The latest answers: of the variants that were left after an alarm, then of those that answer."""
        with self._lock:
            found = [selector.recalled() for selector in self._selectors.values()]
            names = {one.task for one in found}
            return [*(one for one in self._left.values() if one.task not in names), *found]

    def told(self, lately: Iterable[Recalled]) -> None:
        """What was left after an alarm has been reported, as far as it is among these."""
        with self._lock:
            for one in lately:
                if self._left.get(one.task) is one:
                    del self._left[one.task]

    @property
    def left_out(self) -> tuple[LimitError, ...]:
        """Why models or graphs of the tasks are left out."""
        found = (error for selector in self.selectors.values() for error in selector.left_out)
        return tuple(dict.fromkeys(found))

    @property
    def selectors(self) -> dict[str, StoreSelector]:
        """Task → its Selector, of those that have answered."""
        return dict(self._selectors)

    def _over(self, release: BundleRelease) -> StoreSelector:
        return StoreSelector(
            self.store, release.name, threads=self.threads, limits=self._limits, servers=self._servers
        )

    def _switch(self, task: str, release: BundleRelease) -> None:
        """Open everything of the new variant first: answers go on with the old one meanwhile."""
        with self._lock:
            selector = self._over(release)
            selector.open()
            tasks = self.tasks
            active = {name: one for name, one in self._active.items() if name in tasks} | {task: release.name}
            self.problem = None
            try:
                self.store.note(ACTIVE_FILE, _Active(schema_version=SCHEMA_VERSION, tasks=active))
            except ZooError as error:  # answers need it now, kept or not
                self.problem = error
            self._selectors[task] = selector
            self._active = active

    def _usable(self, release: BundleRelease) -> bool:
        return bool(served([release, *(item.release for item in self.store.installed.models)]))

    def _accuracy(self, release: BundleRelease) -> float:
        held = (item.release for item in self.store.installed.models if item.release.name in release.models)
        return max((one.accuracy or 0.0 for one in held), default=0.0)


def _variant(release: BundleRelease) -> Variant:
    return Variant(release.task, release.name, release.environment)
