"""Profiling on one core and on two, and beside a bare loop of ONNX Runtime on the same cores."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.speed.made_bundles import made_images
from training.data.images import ArrayImages
from training.data.splits import Splits
from training.outcomes.profile import profile
from zoo.errors import ZooError
from zoo.models.session import open_session
from zoo.models.zoo import Zoo
from zoo.process import Process

CORES = 2
IMAGES = 2048  # a small profile: opening the models is part of its time
_BATCH = 64
_MAX_LINE_BYTES = 4096


def profile_on_cores(zoo: Zoo, *, rounds: int = 3, seed: int = 0) -> dict[str, Any]:
    """How many times faster two cores profile than one, and ``profile`` over a bare loop on both.

    Processes that are bound to one core and to two take turns. The bare loop runs batches of 64 with one
    session of one thread for every core and model, and does nothing with what they give. By the clock on the
    wall, so it only tells on a quiet machine.
    """
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < CORES:
        return {"cores": 1, "two_over_one": None, "bare_two_over_one": None, "over_bare": None}
    taken: dict[int, list[dict[str, float]]] = {count: [] for count in (1, CORES)}
    with ExitStack() as stack:
        processes = {}
        for count in taken:
            process = Process(f"{__name__}:answer")
            stack.callback(process.end)
            order = {"cores": count, "zoo": str(zoo.folder.absolute()), "seed": seed}
            process.tell(json.dumps(order).encode() + b"\n")
            processes[count] = process
        for _ in range(rounds + 1):  # the first one warms up
            for count, process in processes.items():
                process.tell(b"go\n")
                line = process.read_line(_MAX_LINE_BYTES)
                if not line:
                    raise ZooError(f"expected times, got a process that ended: {process.end().words[-300:]}")
                taken[count].append(json.loads(line))
    seconds = {
        (count, name): float(np.median([one[name] for one in rows[1:]]))
        for count, rows in taken.items()
        for name in ("profile", "bare")
    }
    return {
        "cores": CORES,
        "two_over_one": round(seconds[1, "profile"] / seconds[CORES, "profile"], 3),
        "bare_two_over_one": round(seconds[1, "bare"] / seconds[CORES, "bare"], 3),
        "over_bare": round(seconds[CORES, "bare"] / seconds[CORES, "profile"], 3),
    }


def answer(orders: IO[bytes], answers: IO[bytes]) -> None:
    """The process itself: seconds of both, each time that it gets a line."""
    order = json.loads(orders.readline())
    count = order["cores"]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    zoo = Zoo.open(order["zoo"])
    images = np.stack(made_images(IMAGES, seed=order["seed"]))
    classes = zoo.card(zoo.names[0]).classes
    ids = [f"{i}.png" for i in range(IMAGES)]
    data = ArrayImages(images, classes, ids, np.arange(IMAGES) % len(classes))
    contents = {card.name: (zoo.folder / card.file).read_bytes() for card in zoo.cards}
    lanes = [[open_session(one, name=name) for name, one in contents.items()] for _ in range(count)]

    def bare(lane: int) -> None:
        for first in range(lane * _BATCH, len(images), count * _BATCH):
            for session in lanes[lane]:
                session.run(["logits"], {"image": images[first : first + _BATCH]})

    while orders.readline():
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            record = profile(
                zoo, data, Path(folder) / "profile", splits=Splits(seed=order["seed"]), progress=False
            )
            profiled = (time.perf_counter() - start) / record.samples
        start = time.perf_counter()
        threads = [threading.Thread(target=bare, args=(lane,)) for lane in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = {"profile": profiled, "bare": (time.perf_counter() - start) / len(images)}
        answers.write(json.dumps(found).encode() + b"\n")
        answers.flush()
