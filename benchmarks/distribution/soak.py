"""Suite ``soak``: one service and many devices while all kinds of things go wrong, for some minutes.

Devices answer all the time. Meanwhile their processes and the service are killed, the network is cut, drips,
waits, refuses and falls silent, disks are full, models get new versions, are withdrawn, come back, and the
operator assigns others. The seed decides which event follows which, and which process it happens to.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from benchmarks.distribution.faulty_proxy import Fault, FaultyProxy, misbehaving
from benchmarks.distribution.soak_devices import Task
from benchmarks.distribution.soak_publisher import (
    FIXED,
    FREE,
    TASK,
    SoakPublisher,
    SoakService,
    convnets,
    fill,
    small_disk,
    until_assigned,
)
from benchmarks.distribution.soak_run import SoakProcess, SoakRun, lost_reports, wrong_in
from benchmarks.result import finish
from selector.commands.tables import table
from selector.device.device import Device
from selector.fleet.decide import size_of
from zoo.models.zoo import Zoo

DEVICES_PER_PROCESS = 10
EVENT_INTERVAL_S = 5.0
SPELL_SHARE = 0.8  # of that interval, for which the network misbehaves or a disk is full
FINAL_DEADLINE_S = 600.0  # for all devices to be brought up to date
ASSIGNED_DEADLINE_S = 60.0
RECORDS_BYTES = 2**20  # room of a device beside its blobs
DISK_SHARE = 5  # one of so many devices is on the small disk
MAX_PROBLEMS = 20  # that are told in words
KINDS = ("kill", "kill", "service", "disk", "update", "update", "withdrawal", "assignment", *get_args(Fault))


@dataclass
class _Site:
    """All that can go wrong."""

    publisher: SoakPublisher
    service: SoakService
    proxy: FaultyProxy
    disk: Path | None
    processes: list[SoakProcess]
    ballast: Path | None = None

    def go_wrong(self, kind: str, process: SoakProcess, run: SoakRun) -> str:
        """Have an event happen, to this process where it is one that happens to one; says what it was."""
        match kind:
            case "kill":
                process.kill()
                process.start()
                return process.name
            case "service":
                if self.service.status is not None:
                    run.broken.append(f"the service ended with status {self.service.status}")
                self.service.kill()
                self.proxy.upstream = self.service.start()
            case "disk":
                if self.disk is None:
                    return "left out: no file system can be mounted here"
                self.ballast = fill(self.disk)
            case "update":
                return self.publisher.update()
            case "withdrawal":
                return self.publisher.withdraw()
            case "assignment":
                return self.publisher.assign()
            case "cut" | "head" | "drip" | "delay" | "refuse" | "silence":
                self.proxy.fault = kind
            case _:
                raise ValueError(f"expected one of {', '.join(sorted({*KINDS}))}, got {kind!r}.")
        return ""

    def calm(self) -> None:
        """Network and disk are as they should be."""
        self.proxy.fault = None
        if self.ballast is not None:
            self.ballast.unlink()
            self.ballast = None

    def end(self) -> None:
        """End all processes."""
        for process in self.processes:
            process.kill()
        self.service.kill()


def run_soak(
    *,
    minutes: float,
    devices: int = 50,
    seed: int = 0,
    zoo: Zoo | None = None,
    devices_per_process: int = DEVICES_PER_PROCESS,
    event_interval_s: float = EVENT_INTERVAL_S,
    kinds: Sequence[str] = KINDS,
    tell: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:
    """Let it run, and check in the end that every device holds what it should.

    Parameters
    ----------
    zoo
        Models to publish and to change, the smallest first; None: four convnets with random weights.
    event_interval_s
        Between two events; what the network does lasts for less.
    kinds
        Of events; one that is named twice comes twice as often.
    tell
        Called with a line for every event.

    Returns
    -------
    dict
        Figures; ``broken`` names the invariants that were broken.
    """
    run = SoakRun()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        draw = np.random.default_rng(seed)
        publisher = SoakPublisher(folder, zoo or convnets(folder / "zoo", seed), draw)
        service = SoakService(publisher)
        stack.callback(service.kill)
        proxy = stack.enter_context(misbehaving(service.start(), seed))
        until_assigned(publisher, publisher.offered, deadline_s=ASSIGNED_DEADLINE_S)
        everything = size_of(publisher.offered, [TASK], publisher.index)
        on_disk = range(0, devices, DISK_SHARE)
        room = len(on_disk) * (RECORDS_BYTES + 4 * everything)
        disk = stack.enter_context(small_disk(folder / "disk", room))
        folders = [(disk if disk and i in on_disk else folder) / f"device-{i}" for i in range(devices)]
        settings = _set_up(folders, publisher, proxy.url, everything, draw)
        site = _Site(publisher, service, proxy, disk, [])
        stack.callback(site.end)
        for i in range(0, devices, devices_per_process):
            task = Task(tuple(map(str, folders[i : i + devices_per_process])), TASK, seed + i)
            site.processes.append(SoakProcess(f"process-{i // devices_per_process}", task, run))
        _let_go_wrong(site, run, 60 * minutes, event_interval_s, _deal(draw, kinds), draw, tell)
        publisher.fix(publisher.offered)
        until_assigned(publisher, publisher.offered, deadline_s=ASSIGNED_DEADLINE_S)
        service.kill()
        proxy.upstream = service.start(signing=False)  # so that nothing is assigned anew any more
        for process in site.processes:
            process.finish()
        deadline = time.monotonic() + FINAL_DEADLINE_S
        for process in site.processes:
            process.wait(deadline)
        site.processes.clear()
        service.kill()
        index = publisher.index
        right = 0
        for final in sorted(run.finals, key=lambda one: one.folder):
            group, budget = settings[final.folder]
            wrong = wrong_in(final, index, group=group, budget=budget, published=publisher.digests)
            right += not wrong
            run.broken += [f"{Path(final.folder).name}: {one}" for one in wrong]
        if len(run.finals) < devices:
            run.broken.append(f"{devices - len(run.finals)} devices did not tell what they hold")
        lost = lost_reports(run, publisher.data)
    return {
        "minutes": minutes,
        "devices": devices,
        "small_disk": disk is not None,
        "events": dict(sorted(run.events.items())),
        "answers": run.answers,
        "failed_answers": run.failed,
        "slowest_answer_ms": round(run.slowest_ms, 1),
        "looks": run.looks,
        "looks_that_changed_something": run.changes,
        "longest_look_s": round(run.longest_look_s, 1),
        "bytes_on_wire": run.bytes_on_wire,
        "problems": dict(sorted(run.problems.items())),
        "examples": run.examples,
        "reports": run.reports,
        "lost_reports": lost,
        "devices_right": right,
        "broken_invariants": len(run.broken),
        "broken": run.broken,
        "log": run.log,
    }


def run_soak_suite(
    *,
    minutes: float = 20.0,
    devices: int = 50,
    seed: int = 0,
    json_only: bool = False,
    results: Path = Path("results"),
) -> bool:
    """:func:`run_soak`; prints every event, a table and one JSON line, writes a result file.

    Returns
    -------
    bool
        Whether every invariant held.
    """
    tell = (lambda line: None) if json_only else (lambda line: print(line, flush=True))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what was started, and the small disk
    figures = run_soak(minutes=minutes, devices=devices, seed=seed, tell=tell)
    if not json_only:
        print(table(["figure", "value"], list(_rows(figures))))
    finish("soak", figures, seed=seed, folder=results, file_only=("log", "examples", "broken"))
    for one in list(dict.fromkeys(figures["broken"]))[:MAX_PROBLEMS]:
        print(f"broken: {one}", file=sys.stderr)
    return not figures["broken"]


def _set_up(
    folders: Sequence[Path], publisher: SoakPublisher, url: str, everything: int, draw: np.random.Generator
) -> dict[str, tuple[str | None, int | None]]:
    """Devices that hold the task and a model, in a group or in none, with room for more or less."""
    root = (publisher.root / "metadata" / "1.root.json").read_bytes()
    index = publisher.index
    smallest = size_of(publisher.models[:1], [TASK], index)
    some = 2 * size_of(publisher.models[: len(publisher.models) // 2], [TASK], index) + smallest
    settings: dict[str, tuple[str | None, int | None]] = {}
    for i, folder in enumerate(folders):
        if i:
            shutil.copytree(folders[0], folder)
        group = (FIXED, FREE, None)[i % 3] if i else FIXED
        budget = (None, 3 * everything, some)[int(draw.integers(3))]
        settings[str(folder)] = group, budget
        with Device.set_up(
            folder,
            url,
            root,
            group=group,
            budget_bytes=budget,
            service=url if group else None,
            token=publisher.tokens[group] if group else None,
        ) as device:
            if not i:
                device.client.install(models=publisher.models[:1], bundles=[TASK])
    return settings


def _let_go_wrong(
    site: _Site,
    run: SoakRun,
    seconds: float,
    interval_s: float,
    kinds: Iterator[str],
    draw: np.random.Generator,
    tell: Callable[[str], object],
) -> None:
    """One event after the other until the time is over."""
    start = before = time.monotonic()
    for kind in kinds:
        chosen = site.processes[int(draw.integers(len(site.processes)))]
        at = before + interval_s
        if at > start + seconds:
            break
        while time.monotonic() < at:
            time.sleep(min(0.1, max(0.0, at - time.monotonic())))
            if time.monotonic() > before + SPELL_SHARE * interval_s:
                site.calm()
            for process in site.processes:
                process.check()
        site.calm()
        about = site.go_wrong(kind, chosen, run)
        before = time.monotonic()
        run.events[kind] += 1
        run.log.append((round(before - start, 1), kind, about))
        tell(f"{before - start:7.1f} s  {kind:<12} {about}")
    site.calm()


def _deal(draw: np.random.Generator, kinds: Sequence[str]) -> Iterator[str]:
    """Kinds of events, without an end: all come before any comes again."""
    while True:
        yield from draw.permutation(list(kinds)).tolist()


def _rows(figures: dict[str, Any]) -> Iterator[list[str]]:
    for name, value in figures.items():
        if name in ("log", "broken", "examples"):
            continue
        for part, one in value.items() if isinstance(value, dict) else [("", value)]:
            yield [
                f"{name} {part}".strip().replace("_", " "),
                f"{one:,}" if isinstance(one, int) else str(one),
            ]
