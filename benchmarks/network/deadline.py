"""The attack on deadlines: ``python -m benchmarks.network.deadline``.

A server in a process of its own hangs, drips, resets, lies or dies at each request, in turns with right
answers. Each call has a deadline; what is measured is by how much a call ends later, on the wall. On a
machine with other work a thread that could run waits for a processor, which no client can help. Linux counts
for how long (``schedstat``), so that the figures are given with this wait and without it.

A control beside it does nothing but wait for the same deadlines: a process of its own that sleeps until each
of them. Where it is late as well, the machine is late; calls that are late more often, or by more, than the
control are the fault of the code.
"""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.network.server import by_turns, served, serving
from zoo.errors import UnreachableError
from zoo.remote.breaker import Breaker
from zoo.remote.client import Client
from zoo.remote.discover import Wanted, discover
from zoo.remote.runs import RemoteRuns

MARGIN_MS = 5.0
CLASSES = ("red", "green", "blue")


class DeadlineFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the attack. Late is later than the deadline and 5 ms."""

    answers: int
    right: int  # answers of the server, by the deadline
    errors: dict[str, int]  # kind of error → count
    late: int
    late_less_own_wait: int  # of them, where the wait of the calling thread for a processor is taken off
    late_less_all_waits: int  # the same with the waits of the client's other threads: they may hold a lock
    latest_ms: float  # after the deadline; negative: before
    latest_less_own_wait_ms: float
    latest_less_all_waits_ms: float
    p99_ms: float  # of all calls, as `latest_ms`
    wrong: int  # answers that were none of the server's
    control_late: int  # deadlines at which the control was late
    control_latest_ms: float
    control_p99_ms: float
    late_with_control: int  # calls that were late when the control was late at the same deadline
    late_alone: int  # calls that were late when it was not


class Queued:
    """For how long the threads of this process waited for a processor, in milliseconds."""

    def __init__(self) -> None:
        self.own_ms = self.all_ms = 0.0
        self._begun = self._read()

    def restart(self) -> None:
        """Count from now on."""
        self._begun = self._read()

    def stop(self) -> None:
        """Note the wait of this thread, and that of all threads: one that waits may hold a lock."""
        now = self._read()
        waits = {thread: now[thread] - self._begun.get(thread, 0.0) for thread in now}
        self.own_ms = waits.get(threading.get_native_id(), 0.0)
        self.all_ms = sum(waits.values())

    @staticmethod
    def _read() -> dict[int, float]:
        found = {}
        for folder in Path("/proc/self/task").glob("*"):  # elsewhere there is none: nothing is taken off
            with suppress(OSError, ValueError, IndexError):
                found[int(folder.name)] = int((folder / "schedstat").read_text().split()[1]) / 1e6
        return found


def serve(line: Any, seed: int) -> None:
    """The process of the server: says its address, and ends when it is told so."""
    with serving({"m": served(_logits, CLASSES)}) as server:
        line.send(server.url)
        line.recv()
        server.fault = by_turns(seed)
        line.send("hostile")
        line.recv()


def keep_time(line: Any) -> None:
    """The process of the control: sleeps until each deadline that it is told, and says how late it was."""
    while (deadline := line.recv()) is not None:
        time.sleep(max(0.0, deadline - time.monotonic()))
        line.send((time.monotonic() - deadline) * 1000)


def attack(answers: int, *, seed: int = 0, deadlines_ms: tuple[float, ...] = (5, 20, 60)) -> DeadlineFigures:
    """Ask a hostile server `answers` times, each with one of the deadlines."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    right = _logits(images)
    errors: Counter[str] = Counter()
    late: list[float] = []
    own: list[float] = []
    alone: list[float] = []
    good = wrong = 0
    context = multiprocessing.get_context("spawn")
    line, other = context.Pipe()
    clock, far = context.Pipe()
    process = context.Process(target=serve, args=(other, seed), daemon=True)
    control = context.Process(target=keep_time, args=(far,), daemon=True)
    process.start()
    control.start()
    runs = _runs(line.recv())
    runs.ask({"image": images}, time.monotonic() + 10)
    line.send("begin")
    line.recv()
    clock.send(time.monotonic())
    clock.recv()  # it is there
    queued = Queued()
    kept: list[float] = []
    for _ in range(answers):
        queued.restart()
        deadline = time.monotonic() + float(rng.choice(deadlines_ms)) / 1000
        clock.send(deadline)
        try:
            found = runs.ask({"image": images}, deadline)
            good += 1
            wrong += not np.array_equal(found, right)
        except UnreachableError as error:
            errors[type(error).__name__] += 1
        by_ms = (time.monotonic() - deadline) * 1000
        queued.stop()
        late.append(by_ms)
        own.append(by_ms - queued.own_ms)
        alone.append(by_ms - queued.all_ms)
        kept.append(clock.recv())
    runs.client.close()
    line.send("end")
    clock.send(None)
    process.join()
    control.join()
    both = sum(mine > MARGIN_MS and its > MARGIN_MS for mine, its in zip(late, kept, strict=True))
    return DeadlineFigures(
        answers=answers,
        right=good,
        errors=dict(errors),
        late=sum(one > MARGIN_MS for one in late),
        late_less_own_wait=sum(one > MARGIN_MS for one in own),
        late_less_all_waits=sum(one > MARGIN_MS for one in alone),
        latest_ms=max(late),
        latest_less_own_wait_ms=max(own),
        latest_less_all_waits_ms=max(alone),
        p99_ms=float(np.quantile(late, 0.99)),
        wrong=wrong,
        control_late=sum(one > MARGIN_MS for one in kept),
        control_latest_ms=max(kept),
        control_p99_ms=float(np.quantile(kept, 0.99)),
        late_with_control=both,
        late_alone=sum(one > MARGIN_MS for one in late) - both,
    )


def _logits(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    means: NDArray[np.float32] = images.reshape(len(images), -1, 3).mean(axis=1).astype(np.float32)
    return means


def _runs(url: str) -> RemoteRuns:
    """The model of the server; its breaker never opens, so that each call is made."""
    client = Client(url, breaker=Breaker(failures=10**9))
    remote, classes = discover(url, client.model("m", deadline_s=10), Wanted())
    return RemoteRuns(remote, width=len(classes), client=client)


def main(
    answers: Annotated[int, typer.Option(min=1, help="How many answers are asked for.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of faults and deadlines.")] = 0,
) -> None:
    """Attack, and print the figures as one line of JSON."""
    print(json.dumps(msgspec.to_builtins(attack(answers, seed=seed))))


if __name__ == "__main__":
    typer.run(main)
