"""The attack on deadlines: ``python -m benchmarks.network.deadline``.

A server hangs, drips, resets, lies or dies at every request, in turns with right answers. Each call has a
deadline of its own; what is measured is by how much a call is late, on the wall. On a machine with other work
a thread waits for its turn, which no client can help: a call counts as held up where a thread that does
nothing but sleep, beside it, woke up late by as much at that time.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import msgspec
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.network.server import FAULTS, InferenceServer, served, serving
from zoo.errors import UnreachableError
from zoo.remote.breaker import Breaker
from zoo.remote.client import Client
from zoo.remote.discover import Wanted, discover
from zoo.remote.protocol import ModelMetadata
from zoo.remote.runs import RemoteRuns

MARGIN_MS = 5.0
_TICK_S = 0.001


class DeadlineFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the attack. Late is later than the deadline and 5 ms."""

    answers: int
    right: int  # answers of the server, by the deadline
    errors: dict[str, int]  # kind of error → count
    late: int
    late_alone: int  # of them, while no sleeper beside it was as late: the client's own
    latest_ms: float  # after the deadline; negative: before
    latest_alone_ms: float  # the same, less what a sleeper was late at that time
    wrong: int  # answers that were none of the server's


class Sleeper:
    """A thread that wakes up every millisecond, and notes by how much it is late."""

    def __init__(self) -> None:
        self.woken: list[tuple[float, float]] = []  # when it should have, and by how many seconds it was late
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._sleep, daemon=True)

    def latest_s(self, start: float, stop: float) -> float:
        """By how much it was late at most, of what it should have done between two times."""
        late = 0.0
        for due, by in reversed(self.woken[-5000:]):
            if due + by < start:
                break
            if due <= stop:
                late = max(late, by)
        return late

    def _sleep(self) -> None:
        while not self._ends.is_set():
            due = time.monotonic() + _TICK_S
            time.sleep(_TICK_S)
            self.woken.append((due, time.monotonic() - due))

    @contextmanager
    def beside(self) -> Iterator[Sleeper]:
        """Sleep until the end of the block."""
        self._thread.start()
        try:
            yield self
        finally:
            self._ends.set()
            self._thread.join()


def attack(answers: int, *, seed: int = 0, deadlines_ms: tuple[float, ...] = (5, 20, 60)) -> DeadlineFigures:
    """Ask a hostile server `answers` times, each with one of the deadlines."""
    rng = np.random.default_rng(seed)
    model = served(_logits, ("red", "green", "blue"))
    images = rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    right = _logits(images)
    errors: Counter[str] = Counter()
    late: list[float] = []
    alone: list[float] = []
    good = wrong = 0
    with serving({"m": model}) as server, Sleeper().beside() as sleeper:
        runs = _runs(server)
        runs.ask(images, time.monotonic() + 10)
        names = [*FAULTS, "answers", "stops"]
        for _ in range(answers):
            kind = names[int(rng.integers(len(names)))]
            server.fault = FAULTS.get(kind)
            if kind == "stops":
                server.drop()
            start = time.monotonic()
            deadline = start + float(rng.choice(deadlines_ms)) / 1000
            try:
                found = runs.ask(images, deadline)
                good += 1
                wrong += not np.array_equal(found, right)
            except UnreachableError as error:
                errors[type(error).__name__] += 1
            end = time.monotonic()
            by_ms = (end - deadline) * 1000
            late.append(by_ms)
            held_ms = 1000 * sleeper.latest_s(deadline - 0.02, end) if by_ms > MARGIN_MS else 0.0
            alone.append(by_ms - held_ms)
        runs.client.close()
    return DeadlineFigures(
        answers=answers,
        right=good,
        errors=dict(errors),
        late=sum(one > MARGIN_MS for one in late),
        late_alone=sum(one > MARGIN_MS for one in alone),
        latest_ms=max(late),
        latest_alone_ms=max(alone),
        wrong=wrong,
    )


def _logits(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    means: NDArray[np.float32] = images.reshape(len(images), -1, 3).mean(axis=1).astype(np.float32)
    return means


def _runs(server: InferenceServer) -> RemoteRuns:
    """The model of the server; its breaker never opens, so that each call is made."""
    model = server.models["m"]
    metadata = ModelMetadata(name="m", inputs=model.inputs, outputs=model.outputs)
    remote, classes = discover(server.url, metadata, Wanted(classes=model.classes))
    client = Client(server.url, breaker=Breaker(failures=10**9))
    return RemoteRuns(remote, width=len(classes), client=client)


def main(
    answers: Annotated[int, typer.Option(min=1, help="How many answers are asked for.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of faults and deadlines.")] = 0,
) -> None:
    """Attack, and print the figures as one line of JSON."""
    print(json.dumps(msgspec.to_builtins(attack(answers, seed=seed))))


if __name__ == "__main__":
    typer.run(main)
