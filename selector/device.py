"""A device: answers from its store, and keeps the store in line with what its inputs or a server ask for."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Unpack

import msgspec
import numpy as np
from numpy.typing import NDArray

from selector.demand import Recalled
from selector.keeper import MIN_ANSWERS, Keeper, Round
from selector.runtime import Prediction, Selector
from selector.settings import (
    CONFIG_FILE,
    PRICE_PER_MB,
    SCHEMA_VERSION,
    TOKEN_FILE,
    DeviceConfig,
    Mode,
    read_config,
    write_token,
)
from selector.updater import Updater
from selector.view import Asked
from zoo.client import Change, Client, Progress
from zoo.errors import BundleError, CardError, ZooError
from zoo.files import encode_record, write_atomic
from zoo.store import Store
from zoo.trust import Trust

__all__ = [
    "CONFIG_FILE",
    "EVERY_S",
    "MIN_ANSWERS",
    "PRICE_PER_MB",
    "TOKEN_FILE",
    "Device",
    "DeviceConfig",
    "Mode",
    "Round",
]

EVERY_S = 60.0


class Device:
    """A store, its client and a selector for each installed task.

    Nothing of this is needed to answer from a bundle in a folder: see :class:`selector.Selector`.

    Modes: ``local`` never looks at the publisher by itself; ``local_then_update`` answers with what is there
    and updates in the background; ``latest`` updates before the first answer, where that is possible.

    What goes on in the background goes on in a process of its own, which takes no time from the answers; this
    one opens the models that have come.
    """

    def __init__(self, folder: Path, config: DeviceConfig, *, threads: int = 1) -> None:
        self.folder = folder
        self.config = config
        self.threads = threads
        self.store = Store.open(folder, budget_bytes=config.budget_bytes)
        self._keeper = Keeper(self.store, config)
        self._selectors: dict[str, Selector] = {}
        self._opening = threading.Lock()
        self._working = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._updater: Updater | None = None
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
            write_token(path, token)
        write_atomic(path / CONFIG_FILE, encode_record(config))
        return cls(path, config, threads=threads)

    @classmethod
    def open(cls, folder: str | Path, *, threads: int = 1) -> Device:
        """Open a device that was set up; raises :class:`CardError` where there is none."""
        return cls(Path(folder), read_config(Path(folder)), threads=threads)

    @property
    def client(self) -> Client:
        """The client of the store, opened when first needed."""
        return self._keeper.client

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
            change = self._keeper.update(self._lately(), progress=progress)
        self._switch()
        return change

    def wanted_models(self) -> tuple[str, ...]:
        """What pays for what was asked lately; see :meth:`selector.keeper.Keeper.wanted_models`."""
        return self._keeper.wanted_models(self._lately())

    def start(self, every_s: float = EVERY_S) -> None:
        """Keep the store up to date in the background until :meth:`stop`; failures are in :attr:`last`."""
        if self._thread is not None or self.config.mode == "local":
            return
        self._stop.clear()
        updater = self._updater = Updater(self.folder)
        latest = self.config.mode == "latest"
        if latest:
            self._round(updater)
        self._thread = threading.Thread(
            target=self._run, args=(updater, every_s, latest), name="zooselect device", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the work in the background; a download under way is kept for the next time."""
        self._stop.set()
        if self._updater is not None:
            self._updater.stop()
            self._updater = None
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def look(self) -> Round:
        """:meth:`update`, then :meth:`report`, here and now; errors are in the result, not raised."""
        with self._working:
            found = self._keeper.look(self._lately())
        return self._finish(found)

    def report(self) -> None:
        """Tell the service what was asked lately; see :meth:`selector.keeper.Keeper.report`."""
        self._keeper.report(self._lately())

    def close(self) -> None:
        """Stop the work in the background and close all connections."""
        self.stop()
        self._keeper.close()

    def _run(self, updater: Updater, every_s: float, wait: bool) -> None:
        if wait:
            self._stop.wait(every_s)
        while not self._stop.is_set():
            self._round(updater)
            self._stop.wait(every_s)

    def _round(self, updater: Updater) -> None:
        while not self._working.acquire(timeout=0.1):  # the application installs something itself
            if self._stop.is_set():
                return
        try:
            found = updater.round(self._lately())
        finally:
            self._working.release()
        if not self._stop.is_set():
            self._finish(found)

    def _finish(self, found: Round) -> Round:
        """Follow what a round brought, and remember it."""
        try:
            self._switch()
        except ZooError as error:
            found = Round(found.change, found.freshness, found.problem or error)
        self.last = found
        return found

    def _lately(self) -> list[Recalled]:
        with self._opening:
            selectors = list(self._selectors.values())
        found = (selector.recalled() for selector in selectors)
        return [item for item in found if item is not None]

    def _switch(self) -> None:
        """Have all selectors follow the store; raises the first error, after all have tried."""
        with self._opening:
            selectors = list(self._selectors.values())
        problem: ZooError | None = None
        for selector in selectors:
            try:
                selector.update()
            except ZooError as error:
                problem = problem or error
        if problem is not None:
            raise problem
