"""The devices of a soak: one process answers for several of them, looks for news beside that, and reports.

It writes a line of JSON every second, which tells what has happened since the line before, so that little is
forgotten when it is killed. When it is told to finish, it brings every device up to date and tells what each
holds.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

import msgspec
import numpy as np

from selector.device.device import Device
from selector.device.reporter import Reporter, Sent
from zoo.errors import ZooError

HEARTBEAT_INTERVAL_S = 1.0
ANSWER_INTERVAL_S = 0.05  # between two answers of a process
LOOK_INTERVAL_S = 0.2  # between two looks of a process, each for another device
BACKGROUND_INTERVAL_S = 2.0  # between two rounds of the device that has a background process
PRECISIONS = (None, 0.5, 0.9, 0.999)  # what is asked; the last one is more than any certificate says
FINAL_LOOKS = 8
MAX_EXAMPLES = 5  # of each line, errors in words


class Task(msgspec.Struct, frozen=True):
    """What a process is told first."""

    folders: tuple[str, ...]
    task: str
    seed: int


class Final(msgspec.Struct, frozen=True, kw_only=True):
    """What a device holds in the end."""

    folder: str
    models: dict[str, int]  # name → version
    bundles: dict[str, int]
    digests: dict[str, str]  # model → digest of its file
    damaged: tuple[str, ...]  # digests of blobs that are not what they are called
    problem: str | None  # of the last look or report
    looks: int


class Heartbeat(msgspec.Struct, kw_only=True):
    """What has happened since the last one."""

    answers: int = 0
    failed: list[str] = []  # answers that failed, in words
    crashed: list[str] = []  # looks that raised something, in words
    slowest_ms: float = 0.0
    looks: int = 0
    bytes_on_wire: int = 0
    changes: int = 0  # looks that have installed or removed something
    problems: dict[str, int] = {}  # kind of error → looks that ended with it
    examples: dict[str, str] = {}  # kind of error → one of them in words
    sent: list[tuple[str, str, int]] = []  # group, device and number of reports that the service has
    looking_s: float = 0.0  # how long the look that is going on has taken
    final: list[Final] = []


class _Devices:
    def __init__(self, task: Task) -> None:
        self.task = task
        self.devices = [Device.open(folder) for folder in task.folders]
        self.finishing = threading.Event()
        self._now = Heartbeat()
        self._noting = threading.Lock()
        self._look_began: float | None = None
        self._draw = np.random.default_rng(task.seed)

    def take(self) -> Heartbeat:
        """What has happened since this was called last."""
        with self._noting:
            now, self._now = self._now, Heartbeat()
        began = self._look_began
        now.looking_s = 0.0 if began is None else time.monotonic() - began
        return now

    def sent(self, sent: Sent) -> None:
        """Note a report that the service has."""
        with self._noting:
            report = sent.report
            self._now.sent.append((report.group, report.device, report.sequence))

    def answer(self, device: Device) -> None:
        """Ask a device for the class of an image."""
        side = int(self._draw.integers(8, 64))
        image = self._draw.integers(0, 256, (side, side, 3), np.uint8)
        precision = PRECISIONS[self._draw.integers(len(PRECISIONS))]
        start, failure = time.perf_counter(), None
        try:
            found = device.predict(image, precision, task=self.task.task)
            if not np.isclose(found.probabilities.sum(), 1):
                failure = f"{device.folder.name}: probabilities {found.probabilities}"
        except Exception as error:  # whatever it is, the device owed an answer
            failure = f"{device.folder.name}: {type(error).__name__}: {error}"
        took_ms = (time.perf_counter() - start) * 1e3
        with self._noting:
            self._now.answers += 1
            self._now.slowest_ms = max(self._now.slowest_ms, took_ms)
            if failure is not None:
                self._now.failed.append(failure)

    def look(self) -> None:
        """Look for news, one device after the other; the first one does so in a process of its own."""
        apart = self.devices[0]
        apart.start(every_s=BACKGROUND_INTERVAL_S)
        last = apart.last
        while not self.finishing.is_set():
            for device in self.devices[1:] or self.devices:
                if device is not apart:
                    self._look(device)
                if apart.last is not last:
                    last = apart.last
                    self._note(apart)
                if self.finishing.wait(LOOK_INTERVAL_S):
                    break
        apart.stop()

    def _look(self, device: Device) -> None:
        self._look_began = time.monotonic()
        try:
            device.look()
        except Exception as error:  # a look says what is wrong, and raises nothing
            with self._noting:
                self._now.crashed.append(f"{device.folder.name}: {type(error).__name__}: {error}")
        else:
            self._note(device)
        self._look_began = None

    def _note(self, device: Device) -> None:
        found = device.last
        if found is None:
            return
        with self._noting:
            self._now.looks += 1
            if found.change is not None:
                self._now.bytes_on_wire += found.change.bytes_on_wire
                self._now.changes += not found.change.nothing
            if found.problem is not None:
                kind = type(found.problem).__name__
                self._now.problems[kind] = self._now.problems.get(kind, 0) + 1
                if len(self._now.examples) < MAX_EXAMPLES:
                    self._now.examples[kind] = f"{device.folder.name}: {found.problem}"[:300]

    def finish(self, device: Device) -> Final:
        """Look until nothing changes any more, report once more, read all blobs again."""
        problem: str | None = None
        looks = 0
        while looks < FINAL_LOOKS:
            looks += 1
            found = device.look()
            problem = None if found.problem is None else f"{type(found.problem).__name__}: {found.problem}"
            if found.problem is None and found.change is not None and found.change.nothing:
                break
        try:
            device.report()
            damaged = device.store.verify()
        except ZooError as error:
            problem, damaged = problem or str(error), ()
        installed = device.store.installed
        return Final(
            folder=str(device.folder),
            models={item.release.name: item.release.version for item in installed.models},
            bundles={item.release.name: item.release.version for item in installed.bundles},
            digests={item.release.name: item.release.card.sha256 for item in installed.models},
            damaged=damaged,
            problem=problem,
            looks=looks,
        )


def work(orders: IO[bytes], answers: IO[bytes]) -> None:
    """The process: answers until it is told a second line, then brings its devices up to date and ends."""
    devices = _Devices(msgspec.json.decode(orders.readline(), type=Task))

    def tell() -> None:
        answers.write(msgspec.json.encode(devices.take()) + b"\n")
        answers.flush()

    def wait() -> None:
        orders.readline()
        devices.finishing.set()

    with _noting_reports(devices):
        for device in devices.devices:  # the first answers come from what is there, before any look
            devices.answer(device)
        tell()
        looking = threading.Thread(target=devices.look, name="looks", daemon=True)
        looking.start()
        threading.Thread(target=wait, name="orders", daemon=True).start()
        told = time.monotonic()
        while looking.is_alive():
            for device in devices.devices:
                devices.answer(device)
                if time.monotonic() - told >= HEARTBEAT_INTERVAL_S:
                    tell()
                    told = time.monotonic()
                time.sleep(ANSWER_INTERVAL_S)
        for device in devices.devices:
            final = devices.finish(device)
            devices.answer(device)
            now = devices.take()
            now.final.append(final)
            answers.write(msgspec.json.encode(now) + b"\n")
            answers.flush()
            device.close()


@contextlib.contextmanager
def _noting_reports(devices: _Devices) -> Iterator[None]:
    """Note every report of this process that the service says it has."""
    send = Reporter.send

    def noted(self: Reporter, *what: Any, **more: Any) -> Sent:
        sent = send(self, *what, **more)
        devices.sent(sent)
        return sent

    Reporter.send = noted  # type: ignore[method-assign]
    try:
        yield
    finally:
        Reporter.send = send  # type: ignore[method-assign]
