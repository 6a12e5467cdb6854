"""A device: answers from its store, and keeps the store in line with what its inputs or a server ask for."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from selector.answering.recent import Recalled
from selector.device.answers import Answers
from selector.device.background import Updater
from selector.device.introduction import check_reporting, introduce
from selector.device.reconciler import Reconciler, Round
from selector.device.settings import (
    CONFIG_FILE,
    PRICE_PER_MB,
    DeviceConfig,
    Mode,
    checked_config,
    read_config,
    write_token,
)
from selector.device.turns import Turns
from selector.device.variants import Variant as Variant
from selector.device.variants import Variants
from zoo.client.change import Change, Progress
from zoo.client.client import Client
from zoo.client.trust import Trust
from zoo.closing import Closing
from zoo.errors import ZooError
from zoo.files import encode_record, write_atomic
from zoo.models.limits import RunLimits
from zoo.store.store import Store

UPDATE_INTERVAL_S = 60.0
FIRST_LOOK_TIMEOUT_S = 30.0  # what answers wait for the publisher in the mode ``latest``


class Device(Answers, Closing):
    """A store, its client and a selector for each installed task.

    A task may have variants, each certified for an environment. When the inputs no longer look like those
    that a variant was certified on, the device goes on with the one that they look like, as soon as it has
    it, and until then with the most accurate model.

    Nothing of this is needed to answer from a bundle in a folder: see :class:`selector.Selector`.

    Modes: ``local`` never looks at the publisher by itself; ``local_then_update`` answers with what is there
    and updates in the background; ``latest`` updates before the first answer, where that is possible.

    What goes on in the background goes on in a process of its own, which takes no time from the answers; this
    one opens the models that have come.

    Examples
    --------
    >>> from selector.device import Device
    >>> with Device.open("my-device") as device:
    ...     device.start()  # updates in the background
    ...     label = device.predict(image).label
    >>> label
    'red'
    """

    def __init__(
        self, folder: Path, config: DeviceConfig, *, threads: int = 1, limits: RunLimits | None = None
    ) -> None:
        self.folder = folder
        self.config = config
        self.threads = threads
        self.store = Store.open(folder, budget_bytes=config.budget_bytes)
        self._reconciler = Reconciler(self.store, config)
        self._working = threading.Lock()
        self._stop = threading.Event()
        self._wake = threading.Event()  # the next round need not wait any longer
        variants = Variants(self.store, threads=threads, limits=limits, servers=config.asked)
        super().__init__(variants, Turns(variants, self._wake))
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
        servers: Collection[str] = (),
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
            Whom to tell what was asked, counts only, and the token of the group for it. Where they are new,
            the device reports at once; if the service cannot be reached, :attr:`last` has the problem.
        servers
            Addresses of servers that models of published bundles may be asked at, which sends them inputs.
            Models on others are left out.

        Raises
        ------
        TokenError
            When the service refuses the token for the group; the settings stay as they were.
        TrustError
            When `root` is not a root, or the device trusts another one.
        CardError
            When a setting is out of range, or a service, its group and its token are not given together.

        Examples
        --------
        >>> with Device.set_up("new-device", url, root, budget_bytes=20_000_000) as device:
        ...     change = device.install("colours")
        >>> "colours" in change.installed
        True
        """
        path = Path(folder)
        config = checked_config(
            url=url,
            group=group,
            budget_bytes=budget_bytes,
            mode=mode,
            service=service,
            price_per_mb=price_per_mb,
            servers=servers,
        )
        check_reporting(service, group, token)
        store = Store.open(path, budget_bytes=budget_bytes)
        introduced = introduce(store, config, token)
        store.keep(lambda: Trust.pin(path / "tuf", root))
        if token is not None:
            store.keep(lambda: write_token(path, token))
        store.keep(lambda: write_atomic(path / CONFIG_FILE, encode_record(config)))
        made = cls(path, config, threads=threads)
        made.last = introduced
        return made

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        threads: int = 1,
        answer_timeout_s: float | None = None,
        answer_memory_bytes: int | None = None,
    ) -> Device:
        """Open a device that was set up.

        Parameters
        ----------
        threads
            Threads of one inference.
        answer_timeout_s, answer_memory_bytes
            Longest time that a model may take for an answer in seconds, and most memory that it may hold for
            that; None: no limit. A model that takes more is left out until its next version or the next
            start, and another answers: see :attr:`left_out`. Only where no model can answer an input there is
            an error. A limit of time costs about 20 µs a model.

        Raises
        ------
        CardError
            Where no device was set up.
        ZooError
            When a limit is not above 0.

        Examples
        --------
        >>> with Device.open("my-device", answer_timeout_s=2.0) as device:
        ...     device.predict(image).label, device.left_out
        ('red', ())
        """
        limits = RunLimits.of(answer_timeout_s, answer_memory_bytes)
        return cls(Path(folder), read_config(Path(folder)), threads=threads, limits=limits)

    @property
    def client(self) -> Client:
        """The client of the store, opened when first needed."""
        return self._reconciler.client

    def install(self, task: str, *, progress: Progress | None = None) -> Change:
        """Install a task, or a variant of one, with the model to start with.

        Raises like :meth:`zoo.client.client.Client.install`.

        Examples
        --------
        >>> device.install("colours").nothing  # it is there already
        True
        """
        with self._working:
            change = self.client.install(bundles=(task,), progress=progress)
        self._variants.follow()
        return change

    def update(self, *, progress: Progress | None = None) -> Change:
        """Do once what the device does in the background; raises like :meth:`.Client.install`.

        In a group, the signed assignment is followed. Otherwise installed things are brought to their newest
        version, and then the models are fetched that pay for what was asked lately; of a task whose inputs
        have drifted, the variant that they look like.

        Examples
        --------
        >>> device.update().removed
        ()
        """
        with self._working:
            change = self._reconciler.update(self._variants.lately(), progress=progress)
        self._follow()
        return change

    def start(
        self, every_s: float = UPDATE_INTERVAL_S, *, first_timeout_s: float = FIRST_LOOK_TIMEOUT_S
    ) -> None:
        """Keep the store up to date in the background until :meth:`stop`; failures are in :attr:`last`.

        In the mode ``latest``, this returns after the first look at the publisher. Where that takes longer
        than `first_timeout_s` seconds, it goes on beside answers from what is installed.

        Examples
        --------
        >>> device.start(every_s=3600.0)
        """
        if self._thread is not None or self.config.mode == "local":
            return
        self._stop.clear()
        self._wake.clear()
        updater = self._updater = Updater(self.folder)
        looked = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(updater, every_s, looked), name="zooselect device", daemon=True
        )
        self._thread.start()
        if self.config.mode == "latest":
            looked.wait(first_timeout_s)

    def stop(self) -> None:
        """End the work in the background; a download under way is kept for the next time.

        Examples
        --------
        >>> device.start()
        >>> device.stop()
        """
        self._stop.set()
        self._wake.set()
        if self._updater is not None:
            self._updater.stop()
            self._updater = None
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def look(self, *, timeout_s: float | None = None) -> Round:
        """:meth:`update`, then :meth:`report`, here and now; errors are in the result, not raised.

        What is not done after `timeout_s` seconds is given up; a download is gone on with the next time.

        Examples
        --------
        >>> device.look(timeout_s=60.0).problem is None
        True
        """
        lately, cancel = self._variants.lately(), threading.Event()
        timer = None if timeout_s is None else threading.Timer(timeout_s, cancel.set)
        try:
            if timer is not None:
                timer.start()
            with self._working:
                found = self._reconciler.look(lately, cancel=cancel)
        finally:
            if timer is not None:
                timer.cancel()
        return self._finish(found, lately)

    def report(self) -> None:
        """Tell the service what was asked lately; see :meth:`.Reconciler.report`.

        Examples
        --------
        >>> device.report()  # does nothing where there is no service
        """
        self._reconciler.report(self._variants.lately())

    def close(self) -> None:
        """Stop the work in the background and close all connections.

        Examples
        --------
        >>> device.close()  # at the end of a ``with`` this happens by itself
        """
        self.stop()
        self._reconciler.close()

    def _run(self, updater: Updater, every_s: float, looked: threading.Event) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                self._round(updater)
            finally:
                looked.set()
            self._wake.wait(every_s)

    def _round(self, updater: Updater) -> None:
        while not self._working.acquire(timeout=0.1):  # the application installs something itself
            if self._stop.is_set():
                return
        try:
            lately = self._variants.lately()
            found = updater.round(lately)
        finally:
            self._working.release()
        if not self._stop.is_set():
            self._finish(found, lately)

    def _finish(self, found: Round, lately: list[Recalled]) -> Round:
        """Follow what a round brought, and remember it."""
        if found.problem is None:
            self._variants.told(lately)
        try:
            self._follow()
        except ZooError as error:
            found = replace(found, problem=found.problem or error)
        if self._variants.problem is not None:
            found = replace(found, problem=found.problem or self._variants.problem)
        found = replace(found, left_out=self.left_out)
        self.last = found
        return found

    def _follow(self) -> None:
        """Have all selectors follow the store, and tasks whose inputs have drifted go on with what fits."""
        try:
            self._variants.follow()
        finally:
            self._turns.go_on()
