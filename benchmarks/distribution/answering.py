"""Answers of a device while its background process installs and somebody removes models again and again.

Three kinds of phases in turns: *calm*; *installing*, all of it: the start of the background process,
downloads over 100 Mbit/s, tests of the model, switches of the Selector, removals by another process; and
*control*: the same happens to another device of the machine, so that what the machine does to answers is told
apart from what the device does.
"""

from __future__ import annotations

import gc
import os
import random
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.distribution.made_up import cascade_bundle
from benchmarks.distribution.neighbour import (
    OTHER,
    REMEMBERED_ANSWERS,
    ROUND_INTERVAL_S,
    TASK,
    USED,
    Spans,
    living,
    removing,
)
from benchmarks.distribution.network import serving_apart
from benchmarks.result import finish
from selector.bundle.bundle import read_bundle_files
from selector.device.device import Device
from zoo.cores import allowed_cores
from zoo.errors import ZooError
from zoo.models.zoo import Zoo
from zoo.publisher.keys import Keys, create_keys
from zoo.publisher.publish import publish

LINK_BYTES_PER_S = 100e6 / 8
PHASES = 5
CALM_S, BUSY_S = 3.0, 4.0
SETTLE_S = 1.5  # until what a phase began has ended


@dataclass
class _Phases:
    """All answers of one kind of phase; times in seconds."""

    took: list[float] = field(default_factory=list)
    computed: list[float] = field(default_factory=list)  # processor time of the answering thread
    queued: list[float] = field(default_factory=list)  # it could have run and had no core
    began: list[float] = field(default_factory=list)
    failed: int = 0


def run_answering(
    folder: Path, zoo: Zoo, keys: Keys, seed: int, *, cores: Sequence[int] = (), phases: int = PHASES
) -> dict[str, Any]:
    """Measure single answers.

    Parameters
    ----------
    cores
        The first is for answers alone, the others for everything else; without, the system places all.
    """
    image = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    draw = random.Random(seed)
    bundle = read_bundle_files(cascade_bundle(folder / "bundle", zoo, TASK, {USED: 10.0, OTHER: 1.0}))
    publish(folder / "published", zoo, keys=keys, bundles={TASK: bundle})
    root = (folder / "published" / "metadata" / "1.root.json").read_bytes()
    found = {"calm": _Phases(), "control": _Phases(), "installing": _Phases()}
    problems: list[str] = []
    switches = Spans()
    with _placed(cores[1:]), serving_apart(folder / "published", link_bytes_per_s=LINK_BYTES_PER_S) as url:
        device = Device.set_up(folder / "device", url, root)
        device.client.install(models=[USED], bundles=[TASK])
        selector = device.selector(TASK)
        selector.update = switches.noting(selector.update)  # type: ignore[method-assign]
        for _ in range(REMEMBERED_ANSWERS):
            device.predict(image)
        gc.collect()
        gc.freeze()  # what the benchmark has loaded, such as torch, is not the device's
        with (
            living(folder / "neighbour", url, root, seed) as neighbour,
            removing(folder / "neighbour") as others,
            removing(device.folder) as removals,
        ):
            for _ in range(phases):
                for kind in draw.sample(["control", "installing"], 2):
                    _answer(device, image, CALM_S, cores[:1], found["calm"])
                    if kind == "control":
                        neighbour.start()
                    else:
                        device.start(every_s=ROUND_INTERVAL_S)
                    _answer(device, image, BUSY_S, cores[:1], found[kind])
                    if kind == "control":
                        neighbour.stop()
                    else:
                        if device.last is not None and device.last.problem is not None:
                            problems.append(str(device.last.problem))
                        device.stop()
                    _answer(device, image, SETTLE_S, cores[:1], _Phases())
        device.close()
    limit = 2 * float(np.quantile(found["calm"].took, 0.95))
    return {
        "phases": phases,
        "cores": len(cores) or allowed_cores(),
        "answers_alone_on_a_core": bool(cores),
        "installations": removals[0],
        "control_installations": others[0],
        "failed": sum(part.failed for part in found.values()),
        "problems": len(problems),
        **{kind: _figures(part, limit, switches) for kind, part in found.items()},
    }


def run_answering_suite(
    *,
    weights: Path | None = None,
    cores: Sequence[int] = (),
    phases: int = PHASES,
    seed: int = 0,
    results: Path = Path("results"),
) -> dict[str, Any]:
    """:func:`run_answering` with a zoo of its own; prints a table and one JSON line, writes a result file."""
    from benchmarks.distribution.published import published_zoo

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        zoo = published_zoo(folder / "zoo", weights, seed)
        create_keys(folder / "keys")
        figures = run_answering(
            folder / "answering", zoo, Keys.open(folder / "keys"), seed, cores=cores, phases=phases
        )
    for name, figure in figures.items():
        print(f"{name.replace('_', ' ')}: {figure}")
    return finish("answering", figures, seed=seed, folder=results)


def _answer(
    device: Device, image: NDArray[np.uint8], seconds: float, core: Collection[int], found: _Phases
) -> None:
    gc.collect()
    with _placed(core), _queue() as queued_s:
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            computed, queued = time.thread_time(), queued_s()
            start = time.perf_counter()
            try:
                device.predict(image, task=TASK)
            except ZooError:
                found.failed += 1
            found.took.append(time.perf_counter() - start)
            found.queued.append(queued_s() - queued)
            found.computed.append(time.thread_time() - computed)
            found.began.append(start)


def _figures(phases: _Phases, limit: float, switches: Spans) -> dict[str, Any]:
    """Times in ms, and of the answers slower than `limit`: how many, and what took most of their excess.

    Either the thread had no core, or it computed longer, or it waited for something in its own process.
    """
    took, computed, queued = (np.array(part) for part in (phases.took, phases.computed, phases.queued))
    waited = took - computed - queued
    parts = np.stack([part - np.median(part) for part in (queued, computed, waited)])
    slow = took > limit
    most = parts[:, slow].argmax(axis=0)
    beside = sum(switches.touch(phases.began[i], phases.began[i] + took[i]) for i in np.flatnonzero(slow))
    return {
        "answers": len(took),
        "p50_ms": round(float(np.median(took)) * 1e3, 3),
        "p95_ms": round(float(np.quantile(took, 0.95)) * 1e3, 3),
        "p99_ms": round(float(np.quantile(took, 0.99)) * 1e3, 3),
        "max_ms": round(float(took.max()) * 1e3, 3),
        "slower_than_twice": round(float(slow.mean()), 5),
        "slow": int(slow.sum()),
        "slow_without_core": int((most == 0).sum()),
        "slow_computing": int((most == 1).sum()),
        "slow_waiting_inside": int((most == 2).sum()),
        "slow_beside_a_switch": beside,
    }


@contextmanager
def _placed(cores: Collection[int]) -> Iterator[None]:
    """This thread, and what it starts meanwhile, on these cores; on all that it has where none is named."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _queue() -> Iterator[Callable[[], float]]:
    """How long this thread has waited for a core so far, in seconds; 0 where the system does not tell."""
    try:
        handle = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    except OSError:
        yield lambda: 0.0
        return
    try:
        yield lambda: int(os.pread(handle, 100, 0).split()[1]) * 1e-9
    finally:
        os.close(handle)
