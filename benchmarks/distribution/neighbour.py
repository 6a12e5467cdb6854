"""The other processes of the benchmark of answers: who removes models, and a second device that installs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from benchmarks.distribution.network import EXIT_TIMEOUT_S, MAX_LINE_BYTES, working
from selector.device.device import Device
from selector.device.reconciler import MIN_ANSWERS_TO_FETCH
from zoo.client.wanted import without
from zoo.process import Process
from zoo.store.store import Store

TASK = "objects"
USED, OTHER = "resnet56", "wide"  # every answer comes from the first, whether the other is there or not
REMEMBERED_ANSWERS = 10 * MIN_ANSWERS_TO_FETCH  # answers on which the other model's worth is judged
ROUND_INTERVAL_S = 0.1
POLL_INTERVAL_S = 0.02
HELD_S = 0.3  # how long the other model stays before it is removed


class Spans:
    """When something was going on."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []

    def noting(self, work: Callable[[], bool]) -> Callable[[], bool]:
        """`work`, with each of its calls that changed something noted."""

        def noted() -> bool:
            start = time.perf_counter()
            changed = work()
            if changed:
                self._spans.append((start, time.perf_counter()))
            return changed

        return noted

    def touch(self, start: float, end: float) -> bool:
        """Whether it was going on at any time from `start` to `end`."""
        return any(begin < end and start < stop for begin, stop in self._spans)


class Neighbour:
    """A device in another process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._wait()

    def start(self) -> None:
        """Have it install in the background."""
        self._process.tell(b"start\n")
        self._wait()

    def stop(self) -> None:
        """Have it rest."""
        self._process.tell(b"stop\n")
        self._wait()

    def _wait(self) -> None:
        if not self._process.read_line(MAX_LINE_BYTES):
            raise RuntimeError("the neighbouring device has ended.")


@contextmanager
def living(folder: Path, url: str, root: bytes, seed: int) -> Iterator[Neighbour]:
    """A second device on this machine, which has what the first one has and was asked the same."""
    task = {"folder": str(folder), "url": url, "root": root.decode(), "seed": seed}
    with working("benchmarks.distribution.neighbour:live", json.dumps(task)) as process:
        yield Neighbour(process)


def live(orders: IO[bytes], answers: IO[bytes]) -> None:
    """That process: does as its input says until it ends."""
    task = json.loads(orders.readline())
    image = np.random.default_rng(task["seed"]).integers(0, 256, (32, 32, 3), np.uint8)
    device = Device.set_up(task["folder"], task["url"], task["root"].encode())
    device.client.install(models=[USED], bundles=[TASK])
    for _ in range(REMEMBERED_ANSWERS):
        device.predict(image, task=TASK)
    answers.write(b"ready\n")
    answers.flush()
    for line in orders:
        if line == b"start\n":
            device.start(every_s=ROUND_INTERVAL_S)
        else:
            device.stop()
        answers.write(b"done\n")
        answers.flush()
    device.close()


@contextmanager
def removing(folder: Path) -> Iterator[list[int]]:
    """Another process removes the other model soon after it has come; how often is told in the end."""
    removals = [0]
    with working("benchmarks.distribution.neighbour:remove", str(folder)) as process:
        try:
            yield removals
        finally:
            removals[0] = int(process.ask(b"", timeout_s=EXIT_TIMEOUT_S).said or 0)


def remove(orders: IO[bytes], answers: IO[bytes]) -> None:
    """That process: works until its input ends, then says how often it removed something."""
    import select

    store = Store.open(orders.readline().decode().strip())
    removals = 0
    while not select.select([orders], [], [], POLL_INTERVAL_S)[0]:
        if any(item.release.name == OTHER for item in store.installed.models):
            time.sleep(HELD_S)
            with store.lock():
                before = store.installed
                store.commit(without(before, [OTHER]))
                store.collect(known=before.blobs)
            removals += 1
    answers.write(str(removals).encode())
