"""What is seen of a soak: its processes, what they tell, and whether all is as it should be in the end."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from benchmarks.distribution.soak_devices import Final, Heartbeat, Task
from benchmarks.distribution.soak_publisher import TASK
from selector.fleet.decide import size_of
from selector.fleet.ledger import read_tally
from zoo.process import Process
from zoo.releases.release import Index

HEARTBEAT_DEADLINE_S = 60.0
LOOK_DEADLINE_S = 180.0
MAX_LINE_BYTES = 2**20


@dataclass
class SoakRun:
    """What has been seen so far."""

    events: Counter[str] = field(default_factory=Counter)
    log: list[tuple[float, str, str]] = field(default_factory=list)  # seconds, kind, what
    broken: list[str] = field(default_factory=list)  # invariants, in words
    answers: int = 0
    failed: int = 0
    slowest_ms: float = 0.0
    longest_look_s: float = 0.0
    looks: int = 0
    changes: int = 0
    bytes_on_wire: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    reports: int = 0
    # group and device → number of the last report that was accepted; a copied device has the same identifier
    # in another group
    sent: dict[tuple[str, str], int] = field(default_factory=dict)
    finals: list[Final] = field(default_factory=list)
    noting: threading.Lock = field(default_factory=threading.Lock)

    def add(self, beat: Heartbeat) -> None:
        """Note what a process has told."""
        with self.noting:
            self.answers += beat.answers
            self.failed += len(beat.failed)
            self.broken += [f"answer failed: {one}" for one in beat.failed]
            self.broken += [f"look raised: {one}" for one in beat.crashed]
            self.slowest_ms = max(self.slowest_ms, beat.slowest_ms)
            self.longest_look_s = max(self.longest_look_s, beat.looking_s)
            self.looks += beat.looks
            self.changes += beat.changes
            self.bytes_on_wire += beat.bytes_on_wire
            self.problems.update(beat.problems)
            self.examples.update({k: v for k, v in beat.examples.items() if k not in self.examples})
            self.reports += len(beat.sent)
            for group, device, sequence in beat.sent:
                self.sent[group, device] = max(sequence, self.sent.get((group, device), 0))
            self.finals += beat.final


class SoakProcess:
    """A process with its devices, started again when it was killed."""

    def __init__(self, name: str, task: Task, run: SoakRun) -> None:
        self.name, self._task, self._run = name, task, run
        self.start()

    def start(self) -> None:
        """Start the process."""
        self._heard = time.monotonic()
        self._looking_s = 0.0
        self._process = Process("benchmarks.distribution.soak_devices:work")
        self._process.tell(msgspec.json.encode(self._task) + b"\n")
        self._listener = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._listener.start()

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._listener.is_alive():
            os.kill(self._process.pid, signal.SIGKILL)
            self._listener.join()
        self._process.end()

    def check(self) -> None:
        """Note when it hangs or has ended, and start it again then."""
        silent_s = time.monotonic() - self._heard
        if not self._listener.is_alive():
            ended = self._process.end()
            self._run.broken.append(f"{self.name} ended ({ended.how}): {ended.words[-500:]}")
        elif silent_s > HEARTBEAT_DEADLINE_S:
            self._run.broken.append(f"{self.name} has not answered for {silent_s:.0f} s")
            self.kill()
        elif self._looking_s > LOOK_DEADLINE_S:
            self._run.broken.append(f"{self.name}: a look takes more than {self._looking_s:.0f} s")
            self.kill()
        else:
            return
        self.start()

    def finish(self) -> None:
        """Have its devices brought up to date."""
        with contextlib.suppress(OSError):  # it has ended, as the wait for it will tell
            self._process.tell(b"finish\n")

    def wait(self, deadline: float) -> None:
        """Wait until they are."""
        self._listener.join(max(0.0, deadline - time.monotonic()))
        if self._listener.is_alive():
            self._run.broken.append(f"{self.name} has not finished in time")
            self.kill()
            return
        ended = self._process.end(patience_s=HEARTBEAT_DEADLINE_S)
        if ended.status != 0:
            self._run.broken.append(f"{self.name} ended ({ended.how}): {ended.words[-500:]}")

    def _listen(self, process: Process) -> None:
        while (line := process.read_line(MAX_LINE_BYTES)).endswith(b"\n"):
            beat = msgspec.json.decode(line, type=Heartbeat)
            self._heard, self._looking_s = time.monotonic(), beat.looking_s
            self._run.add(beat)


def wrong_in(
    final: Final, index: Index, *, group: str | None, budget: int | None, published: set[str]
) -> list[str]:
    """What is not as it should be on a device in the end, in words."""
    wrong = []
    if final.problem is not None:
        wrong.append(f"problem after {final.looks} looks: {final.problem}")
    if final.damaged:
        wrong.append(f"damaged: {', '.join(final.damaged)}")
    if unknown := {name for name, digest in final.digests.items() if digest not in published}:
        wrong.append(f"models that were never published: {', '.join(sorted(unknown))}")
    assignment = index.assignments.get(group or "")
    newest = {name: one.version for name, one in index.models.items()}
    if not final.models:
        wrong.append("no model")
    if any(newest.get(name) != version for name, version in final.models.items()):
        wrong.append(f"holds {final.models}, published are {newest}")
    if final.bundles != {TASK: index.bundles[TASK].version}:
        wrong.append(f"holds {final.bundles}, published is version {index.bundles[TASK].version}")
    if assignment is not None and wrong == []:
        right = set(final.models) <= set(assignment.models)
        for i, name in enumerate(assignment.models):  # each is taken that fits beside those before it
            before = [one for one in assignment.models[:i] if one in final.models]
            size = size_of([*before, name], [TASK], index)
            right = right and (name in final.models or (budget is not None and 2 * size > budget))
        if not right:
            wrong.append(f"holds {', '.join(final.models)}, assigned are {', '.join(assignment.models)}")
    return wrong


def lost_reports(run: SoakRun, data: Path) -> int:
    """Reports that were accepted and are not in the ledger, which keeps the last one of every device."""
    tally = read_tally(data)
    kept = {(one.report.group, one.report.device): one.report.sequence for one in tally.newest()}
    late = [key for key, sequence in run.sent.items() if kept.get(key, 0) < sequence]
    run.broken += [
        f"the last report of {' '.join(key)} that was accepted is number {run.sent[key]}, in the ledger is "
        f"{kept.get(key, 'none')}"
        for key in late
    ]
    fewer = max(0, run.reports - sum(tally.counts.values()))
    if fewer:
        run.broken.append(f"{fewer} accepted reports were not counted")
    return max(len(late), fewer)
