"""The other processes of the benchmark of answers: who removes models, and a second device that installs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from selector.device.device import Device
from selector.device.reconciler import MIN_ANSWERS_TO_FETCH
from zoo.client.changes import without
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

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._said()

    def start(self) -> None:
        """Have it install in the background."""
        self._tell("start")

    def stop(self) -> None:
        """Have it rest."""
        self._tell("stop")

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        self._said()

    def _said(self) -> None:
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError("the neighbouring device has ended.")


@contextmanager
def living(folder: Path, url: str, root: bytes, seed: int) -> Iterator[Neighbour]:
    """A second device on this machine, which has what the first one has and was asked the same."""
    task = {"folder": str(folder), "url": url, "root": root.decode(), "seed": seed}
    with _process("live", json.dumps(task) + "\n") as process:
        yield Neighbour(process)


def live() -> None:
    """That process: does as its input says until it ends."""
    task = json.loads(sys.stdin.readline())
    image = np.random.default_rng(task["seed"]).integers(0, 256, (32, 32, 3), np.uint8)
    device = Device.set_up(task["folder"], task["url"], task["root"].encode())
    device.client.install(models=[USED], bundles=[TASK])
    for _ in range(REMEMBERED_ANSWERS):
        device.predict(image, task=TASK)
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "start":
            device.start(every_s=ROUND_INTERVAL_S)
        else:
            device.stop()
        print("done", flush=True)
    device.close()


@contextmanager
def removing(folder: Path) -> Iterator[list[int]]:
    """Another process removes the other model soon after it has come; how often is told in the end."""
    removals = [0]
    with _process("remove", str(folder) + "\n") as process:
        try:
            yield removals
        finally:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            removals[0] = int(process.stdout.read() or 0)


def remove() -> None:
    """That process: works until its input ends, then says how often it removed something."""
    import select

    store = Store.open(sys.stdin.readline().strip())
    removals = 0
    while not select.select([sys.stdin], [], [], POLL_INTERVAL_S)[0]:
        if any(item.release.name == OTHER for item in store.installed.models):
            time.sleep(HELD_S)
            with store.lock():
                store.commit(without(store.installed, [OTHER]))
                store.collect()
            removals += 1
    print(removals)


@contextmanager
def _process(work: str, first_line: str) -> Iterator[subprocess.Popen[str]]:
    path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), *filter(None, sys.path)])
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", f"from benchmarks.distribution.neighbour import {work}; {work}()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(first_line)
        process.stdin.flush()
        try:
            yield process
        finally:
            process.stdin.close()
