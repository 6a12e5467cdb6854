"""Throughput: images a second of a model or a bundle, in one to several threads and processes."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from selector.answering.measuring.bench import as_usual
from selector.answering.selector import Selector
from selector.bundle.bundle import BUNDLE_FILE
from zoo.cores import allowed_cores
from zoo.errors import LatencyError
from zoo.inputs.kind import Item
from zoo.models.zoo import Zoo
from zoo.process import Process

Way = Literal["threads", "processes"]
ONE_BY_ONE, TOGETHER = "predict", "predict_batch"
MAX_WORKERS = 256

_WAYS: tuple[Way, ...] = ("threads", "processes")
_BATCH = 64  # images of one call of predict_batch
_ROUNDS = 3
_WARM_UP_CALLS = 3
_MAX_LINE_BYTES = 4096


@dataclass(frozen=True)
class Throughput:
    """How many images a second workers answer side by side, each with one thread of its own for a model."""

    what: str  # a model by its name, or the method of a Selector
    way: Way  # threads share what is open, processes open their own
    workers: int
    images_per_s: float  # of all together: the median of three rounds


def measure_throughput(
    path: str | Path,
    images: Sequence[Item],
    *,
    workers: int | None = None,
    seconds: float = 1.0,
    watch: bool = False,
    seed: int = 0,
) -> tuple[Throughput, ...]:
    """Images a second of every model of a zoo, or of ``predict`` and ``predict_batch`` of a bundle.

    Each worker answers as fast as it can for some time, all at once, in three rounds and random order. A
    bundle, or a selector in one file, follows its policy for its own constraint, so give images like those of
    the device.

    Parameters
    ----------
    images
        Inputs like those that the device will see: images uint8 ``[H, W, 3]``, or others.
    workers
        The largest number of threads and of processes; by default the cores that this process may use.
    seconds
        Of one round.
    watch
        Of a bundle: with a drift monitor at every answer, which takes the inputs for ordinary ones.

    Raises
    ------
    CardError, BundleError
        When `path` is neither a zoo nor a bundle.
    LatencyError
        When there is nothing to measure, a number is out of range, or a process ends before its time.

    Examples
    --------
    >>> from selector.answering.measuring.throughput import measure_throughput
    >>> rows = measure_throughput("my-bundle", [image], workers=1, seconds=0.01, watch=True)
    >>> [(row.what, row.way, row.images_per_s > 0) for row in rows][1:3]
    [('predict', 'processes', True), ('predict_batch', 'threads', True)]
    """
    most = allowed_cores() if workers is None else workers
    if not 1 <= most <= MAX_WORKERS:
        raise LatencyError(f"expected 1 to {MAX_WORKERS} workers, got {workers}.")
    if not (images and 0 < seconds < 3600):
        raise LatencyError(
            f"expected at least one input and up to an hour a round, got {len(images)} and {seconds:g} "
            "seconds."
        )
    folder = Path(path).absolute()
    answers = folder.is_file() or (folder / BUNDLE_FILE).is_file()
    names = (ONE_BY_ONE, TOGETHER) if answers else Zoo.open(folder).names
    rng = np.random.default_rng(seed)
    found: list[Throughput] = []
    for what in names:
        rates = _rates(folder, what, images, most, seconds, watch, rng)
        found += [Throughput(what, way, count, rate) for (way, count), rate in rates.items()]
    if not found:
        raise LatencyError(f"expected a model or a bundle to measure in {path}, got none. Add a model.")
    return tuple(found)


def _rates(
    folder: Path,
    what: str,
    images: Sequence[Item],
    most: int,
    seconds: float,
    watch: bool,
    rng: np.random.Generator,
) -> dict[tuple[Way, int], float]:
    calls = [_call(folder, what, images, watch)] * most
    for call in calls[:1]:
        _warm_up(call)
    with ExitStack() as stack:
        processes = [stack.enter_context(_Answering(folder, what, images, watch)) for _ in range(most)]
        for process in processes:
            process.result()  # it is ready
        cells = [(way, count) for way in _WAYS for count in range(1, most + 1)]
        taken: dict[tuple[Way, int], list[float]] = {cell: [] for cell in cells}
        for _ in range(_ROUNDS):
            for k in rng.permutation(len(cells)):
                way, count = cells[k]
                if way == "threads":
                    rate = _in_threads(calls[:count], seconds)
                else:
                    for process in processes[:count]:
                        process.begin(seconds)
                    rate = sum(process.result() for process in processes[:count])
                taken[cells[k]].append(rate)
    return {cell: float(np.median(rates)) for cell, rates in taken.items()}


def _call(folder: Path, what: str, images: Sequence[Item], watch: bool) -> Callable[[], Iterator[int]]:
    """What answers the images without end, and says after every call how many it has answered."""
    if what not in (ONE_BY_ONE, TOGETHER):
        model = Zoo.open(folder).model(what)
        batches = [model.kind.one(image) for image in images]
        return partial(_again, model.logits, batches, 1)
    selector = Selector.load(folder, watch=watch)
    if watch:
        as_usual(selector)
    if what == ONE_BY_ONE:
        return partial(_again, selector.predict, images, 1)
    many = [images[i % len(images)] for i in range(_BATCH)]
    alike = len({selector.kind.shape(image) for image in many}) == 1
    return partial(_again, selector.predict_batch, [selector.kind.stack(many) if alike else many], _BATCH)


def _again(call: Callable[[Item], object], inputs: Sequence[Item], each: int) -> Iterator[int]:
    while True:
        for one in inputs:
            call(one)
            yield each


def _warm_up(call: Callable[[], Iterator[int]]) -> None:
    for _, _ in zip(range(_WARM_UP_CALLS), call(), strict=False):
        pass


def _rate(call: Callable[[], Iterator[int]], seconds: float) -> float:
    answered, start = 0, time.perf_counter()
    for count in call():
        answered += count
        taken = time.perf_counter() - start
        if taken >= seconds:
            break
    return answered / taken


def _in_threads(calls: Sequence[Callable[[], Iterator[int]]], seconds: float) -> float:
    begin, rates, errors = threading.Barrier(len(calls)), list[float](), list[BaseException]()

    def work(call: Callable[[], Iterator[int]]) -> None:
        begin.wait()
        try:
            rates.append(_rate(call, seconds))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(rates)


class _Answering:
    """A process that answers images when it is told to."""

    def __init__(self, folder: Path, what: str, images: Sequence[Item], watch: bool) -> None:
        self._process = Process(f"{__name__}:answer")
        content = io.BytesIO()
        for image in images:
            np.save(content, image, allow_pickle=False)
        size = content.tell()
        order = {"folder": str(folder), "what": what, "images": len(images), "bytes": size, "watch": watch}
        self._tell(json.dumps(order).encode() + b"\n" + content.getvalue())

    def __enter__(self) -> _Answering:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.end()

    def begin(self, seconds: float) -> None:
        """Have it answer for so long."""
        self._tell(f"{seconds}\n".encode())

    def result(self) -> float:
        """Images a second, once that time is over; 0 once it is ready to begin with."""
        line = self._process.read_line(_MAX_LINE_BYTES)
        try:
            return float(line)
        except ValueError:
            raise self._ended() from None

    def _tell(self, content: bytes) -> None:
        try:
            self._process.tell(content)
        except OSError:
            raise self._ended() from None

    def _ended(self) -> LatencyError:
        ended = self._process.end(patience_s=1.0)
        last = ended.words.splitlines()[-1] if ended.words else "nothing said"
        return LatencyError(
            f"expected a process that answers, got one that ended with {ended.how}: {last}. "
            "Measure fewer workers where memory is short."
        )


def answer(orders: IO[bytes], answers: IO[bytes]) -> None:
    """The process itself: one line when it is ready, and one after each time that it was given."""
    order = json.loads(orders.readline())
    content = io.BytesIO(orders.read(order["bytes"]))
    images: list[NDArray[np.generic]] = [np.load(content, allow_pickle=False) for _ in range(order["images"])]
    call = _call(Path(order["folder"]), order["what"], images, order["watch"])
    _warm_up(call)
    rate = 0.0
    while True:
        answers.write(f"{rate}\n".encode())
        answers.flush()
        line = orders.readline()
        if not line:
            return
        rate = _rate(call, float(line))
