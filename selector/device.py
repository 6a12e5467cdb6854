"""A device: answers from its store, and keeps the store in line with what its inputs or a server ask for."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Unpack

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from selector.runtime import Prediction, Selector
from selector.view import Asked
from zoo.card import Name, Positive
from zoo.client import Change, Client, Freshness, Progress
from zoo.errors import BundleError, CardError, ZooError
from zoo.files import encode_record, read_record, write_atomic
from zoo.release import Index
from zoo.reporting import Reporter
from zoo.store import Store
from zoo.trust import Trust
from zoo.worth import Task, worth

CONFIG_FILE = "device.json"
TOKEN_FILE = "service-token"
SCHEMA_VERSION = 1
MIN_ANSWERS = 50  # before that, what was asked says too little to fetch anything for it
PRICE_PER_MB = 0.001  # gain that each million bytes to fetch must bring; an answer gains up to 2
EVERY_S = 60.0

Mode = Literal["local", "local_then_update", "latest"]


class DeviceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a device was set up with."""

    schema_version: Positive
    url: str  # root of the published files
    group: Name | None = None  # of devices that a server controls; None: the device asks for what it needs
    budget_bytes: Positive | None = None
    mode: Mode = "local_then_update"
    service: str | None = None  # that is told what was asked; None: nobody is
    price_per_mb: Annotated[float, Meta(ge=0)] = PRICE_PER_MB


@dataclass(frozen=True)
class Round:
    """What one look at the publisher brought."""

    change: Change | None  # None where nothing was tried or it failed
    freshness: Freshness
    problem: ZooError | None  # why something failed; the device goes on answering


class Device:
    """A store, its client and a selector for each installed task.

    Nothing of this is needed to answer from a bundle in a folder: see :class:`selector.Selector`.

    Modes: ``local`` never looks at the publisher by itself; ``local_then_update`` answers with what is there
    and updates in the background; ``latest`` updates before the first answer, where that is possible.
    """

    def __init__(self, folder: Path, config: DeviceConfig, *, threads: int = 1) -> None:
        self.folder = folder
        self.config = config
        self.threads = threads
        self.store = Store.open(folder, budget_bytes=config.budget_bytes)
        self._client: Client | None = None
        self._reporter: Reporter | None = None
        self._selectors: dict[str, Selector] = {}
        self._opening = threading.Lock()
        self._working = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.last: Round | None = None

    @classmethod
    def set_up(
        cls,
        folder: str | Path,
        url: str,
        root: bytes,
        *,
        group: str | None = None,
        budget_bytes: int | None = None,
        mode: Mode = "local_then_update",
        service: str | None = None,
        token: str | None = None,
        price_per_mb: float = PRICE_PER_MB,
        threads: int = 1,
    ) -> Device:
        """Make a device of a folder, or change the settings of one.

        Parameters
        ----------
        url
            Root of the published files.
        root
            The publisher's ``metadata/1.root.json``, obtained over a way that is trusted.
        group
            Of devices that a server controls together.
        budget_bytes
            Storage for models and bundles.
        service, token
            Whom to tell what was asked, counts only, and the token of the group for it.

        Raises
        ------
        TrustError
            When `root` is not a root, or the device trusts another one.
        CardError
            When a setting is out of range.
        """
        path = Path(folder)
        try:
            config = msgspec.convert(
                {
                    "schema_version": SCHEMA_VERSION,
                    "url": url,
                    "group": group,
                    "budget_bytes": budget_bytes,
                    "mode": mode,
                    "service": service,
                    "price_per_mb": price_per_mb,
                },
                DeviceConfig,
            )
        except msgspec.ValidationError as error:
            raise CardError(f"the device cannot be set up: {error}. Correct the setting.") from error
        if service is not None and (token is None or group is None):
            raise CardError(
                "expected the group and its token with the service to report to, got one of them."
            )
        Trust.pin(path / "tuf", root)
        if token is not None:
            _write_private(path / TOKEN_FILE, token)
        write_atomic(path / CONFIG_FILE, encode_record(config))
        return cls(path, config, threads=threads)

    @classmethod
    def open(cls, folder: str | Path, *, threads: int = 1) -> Device:
        """Open a device that was set up; raises :class:`CardError` where there is none."""
        path = Path(folder)
        if not (path / CONFIG_FILE).is_file():
            raise CardError(
                f"expected a device in {folder}, got no {CONFIG_FILE} there. "
                "Set one up with 'zooselect device init', or check the path."
            )
        return cls(path, _read_config(path), threads=threads)

    @property
    def client(self) -> Client:
        """The client of the store, opened when first needed."""
        with self._opening:
            if self._client is None:
                self._client = Client(self.store, self.config.url, group=self.config.group)
            return self._client

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the installed bundles."""
        return tuple(item.release.name for item in self.store.installed.bundles)

    def selector(self, task: str | None = None) -> Selector:
        """The selector of an installed task; without a name, of the only one.

        Raises
        ------
        BundleError
            When it is not installed, or there are several and none is named.
        """
        if task is None:
            if len(self.tasks) != 1:
                raise BundleError(
                    f"expected the name of a task, got none; installed: {', '.join(self.tasks) or 'none'}. "
                    "Name one, or install one first."
                )
            task = self.tasks[0]
        with self._opening:
            if task not in self._selectors:
                self._selectors[task] = Selector.over(self.store, task, threads=self.threads)
            return self._selectors[task]

    def predict(
        self, image: NDArray[np.uint8], *, task: str | None = None, **asked: Unpack[Asked]
    ) -> Prediction:
        """Answer one image with what is installed; see :meth:`selector.Selector.predict`."""
        return self.selector(task).predict(image, **asked)

    def install(self, task: str, *, progress: Progress | None = None) -> Change:
        """Install a task with the model to start with; raises like :meth:`zoo.client.Client.install`."""
        with self._working:
            change = self.client.install(bundles=(task,), progress=progress)
        self._switch()
        return change

    def update(self, *, progress: Progress | None = None) -> Change:
        """Do once what the device does in the background; raises like :meth:`zoo.client.Client.install`.

        In a group, the signed assignment is followed. Otherwise installed things are brought to their newest
        version, and then the models are fetched that pay for what was asked lately.
        """
        with self._working:
            if self.config.group is not None:
                change = self.client.follow(progress=progress, cancel=self._stop)
            else:
                change = self.client.update(progress=progress, cancel=self._stop)
                models = self.wanted_models()
                if models:
                    more = self.client.install(models=models, progress=progress, cancel=self._stop)
                    change = _both(change, more)
        self._switch()
        return change

    def wanted_models(self) -> tuple[str, ...]:
        """Published models that are not installed and pay for what was asked lately, with all that they need.

        A model pays when the set that it belongs to gains more than what is installed, after the price of the
        bytes that it takes to fetch it. Nothing is wanted on the strength of a few answers.
        """
        index = self.client.index
        if index is None:
            return ()
        known = {name: one.accuracy for name, one in index.models.items() if one.accuracy is not None}
        tasks: list[Task] = []
        for name in self.tasks:
            if name in index.bundles:
                selector = self.selector(name)
                if selector.demand().window >= MIN_ANSWERS:
                    tasks.append(selector.task(known))
        if not tasks:
            return ()
        installed = self.store.installed
        there = {item.release.name for item in installed.models}
        budget = self.config.budget_bytes
        best = worth(
            tasks,
            index,
            budget_bytes=self._budget_for(tasks, index) if budget is not None else _all_bytes(index),
            held=installed.blobs,
            price_per_mb=self.config.price_per_mb,
        )
        now = sum(task.answers * task.gain(there) for task in tasks)
        if best.gain <= now + 1e-9 or set(best.models) <= there:
            return ()
        return best.models

    def start(self, every_s: float = EVERY_S) -> None:
        """Keep the store up to date in the background until :meth:`stop`; failures are in :attr:`last`."""
        if self._thread is not None or self.config.mode == "local":
            return
        if self.config.mode == "latest":
            self.look()
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._run, args=(every_s,), name="zooselect device", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the work in the background; a download under way is kept for the next time."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def look(self) -> Round:
        """:meth:`update`, then :meth:`report`; errors of ours are in the result, not raised."""
        change: Change | None = None
        problem: ZooError | None = None
        try:
            change = self.update()
        except ZooError as error:
            problem = error
        try:
            self.report()
        except ZooError as error:
            problem = problem or error
        self.last = Round(change, self.client.freshness, problem)
        return self.last

    def report(self) -> None:
        """Tell the service what was asked lately; does nothing without one. Counts only, never an input.

        Raises
        ------
        UnreachableError
            When the service cannot be reached or refuses the report.
        """
        config = self.config
        if config.service is None or config.group is None:
            return
        with self._opening:
            selectors = list(self._selectors.values())
            if self._reporter is None:
                token = (self.folder / TOKEN_FILE).read_text().strip()
                self._reporter = Reporter(self.store, config.service, token, group=config.group)
        self._reporter.send([selector.demand() for selector in selectors])

    def close(self) -> None:
        """Stop the work in the background and close all connections."""
        self.stop()
        with self._opening:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _run(self, every_s: float) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(every_s)

    def _switch(self) -> None:
        with self._opening:
            selectors = list(self._selectors.values())
        for selector in selectors:
            selector.update()

    def _budget_for(self, tasks: list[Task], index: Index) -> int:
        """What the budget leaves after all that is no matter of these tasks: pinned models, other bundles."""
        assert self.config.budget_bytes is not None
        named = {task.name for task in tasks}
        models = {name for task in tasks for name in task.models}
        others = {
            digest: size
            for item in self.store.installed.models
            if item.pinned and item.release.name not in models
            for digest, size in item.release.blobs.items()
        }
        for bundle in self.store.installed.bundles:
            if bundle.release.name not in named:
                others.update(bundle.release.blobs)
        return max(0, self.config.budget_bytes - sum(others.values()))


def _write_private(path: Path, content: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(content)


def _read_config(folder: Path) -> DeviceConfig:
    return read_record(folder / CONFIG_FILE, DeviceConfig, schema_version=SCHEMA_VERSION)


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
