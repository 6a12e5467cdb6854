"""Processes that install and evict models, and die on the way; and a look at what they left.

Each process is a fresh interpreter. It imports what it needs, says that it is ready, and does what a line on
its input says: ``{"release": 1, "event": 7, "seconds": null}``. When it was not killed, it says so and waits.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np

from zoo.client.fetch import Fetcher
from zoo.inputs.reference_image import reference_image
from zoo.releases.release import ModelRelease
from zoo.store.installed import Installed, InstalledModel
from zoo.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
EVENTS = {
    "open",
    "os.rename",
    "os.remove",
    "os.chmod",
    "os.scandir",
    "os.mkdir",
    "fcntl.flock",
    "socket.connect",
}


def install(url: str, folder: str, releases: list[ModelRelease]) -> None:
    """Fetch what is missing of these models, make them the installed ones, evict the rest."""
    store, fetcher = Store.open(folder), Fetcher(url, workers=4)
    models = tuple(InstalledModel(release=release) for release in releases)
    installed = Installed(schema_version=1, models=models)
    with store.fetching():
        fetcher.fetch(store.missing(installed.blobs), store)
        store.commit(installed)
        store.collect()


def check(folder: str, allowed: list[set[str]]) -> None:
    """What is installed is one of the `allowed` sets, whole, and answers as it must."""
    store = Store.open(folder)
    found = {item.release.name for item in store.installed.models}
    assert found in allowed, (found, allowed)
    assert store.verify() == ()
    assert store.lost() == {}
    for item in store.installed.models:
        logits = store.model(item.release.name).logits(reference_image(8, 8)[None])[0]
        expected = np.array(item.release.selftest.logits)
        assert np.abs(logits - expected).max() < item.release.selftest.tolerance


class Victims:
    """Processes that are ready to install; while one works, the next ones start."""

    def __init__(self, url: str, folder: Path, releases: Path, *, ahead: int = 3) -> None:
        self._command = [sys.executable, "-c", _PROGRAM, str(ROOT), url, str(folder), str(releases)]
        self._waiting = deque(self._start() for _ in range(ahead))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._waiting:
            process.kill()
            process.communicate(timeout=60)

    def install(self, release: int, *, event: int | None = None, seconds: float | None = None) -> int:
        """Install the release with that number; 0, or minus the signal by which the process died.

        Parameters
        ----------
        event, seconds
            Die at the file system operation with that number, or after that time, whatever is done then;
            Python does not get to hear of it.
        """
        process = self._waiting.popleft()
        assert process.stdin is not None
        assert process.stdout is not None
        self._hear(process, "ready")
        process.stdin.write(json.dumps({"release": release, "event": event, "seconds": seconds}) + "\n")
        process.stdin.flush()
        if process.stdout.readline() == "done\n":
            self._waiting.appendleft(process)
            return 0
        process.communicate(timeout=60)
        self._waiting.append(self._start())
        return process.returncode

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _hear(self, process: subprocess.Popen[str], word: str) -> None:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said == f"{word}\n", f"expected {word!r} of a process that installs, got {said!r}"


_PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.support.killed_installs import work
work(*sys.argv[2:])
"""


def work(url: str, folder: str, file: str) -> None:
    """Such a process. RELEASES is a JSON file of releases, the first of which is to stay."""
    import zoo.connections  # noqa: F401  # what an install imports is there before anything may die

    stays, *others = msgspec.json.decode(Path(file).read_bytes(), type=list[ModelRelease])
    counting = threading.Lock()
    left = 0

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if not left or name not in EVENTS:
            return
        if not isinstance(arguments[0], str | Path) or folder in str(arguments[0]):
            with counting:
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        left = order["event"] or 0
        signal.setitimer(signal.ITIMER_REAL, order["seconds"] or 0)
        install(url, folder, [stays, others[order["release"]]])
        signal.setitimer(signal.ITIMER_REAL, 0)
        left = 0
        print("done\nready", flush=True)
