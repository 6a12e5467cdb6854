"""A program that installs and evicts models in processes which die on the way, and looks at what is left.

``python killed_installs.py URL STORE RELEASES KILLS SEED``: RELEASES is a JSON file of three releases.
The first is installed already and stays, the others replace each other. Prints a JSON object of counts.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from zoo.client.fetch import Fetcher
from zoo.releases.reference_image import reference_image
from zoo.releases.release import ModelRelease
from zoo.store.installed import Installed, InstalledModel
from zoo.store.store import Store

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
LONGEST_S = 0.06


def install(url: str, folder: str, releases: list[ModelRelease]) -> None:
    """Fetch what is missing of these models, make them the installed ones, evict the rest."""
    store, fetcher = Store.open(folder), Fetcher(url, workers=4)
    models = tuple(InstalledModel(release=release) for release in releases)
    installed = Installed(schema_version=1, models=models)
    with store.lock():
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


def in_process(action: Callable[[], None]) -> int:
    """Run something in a process of its own; 0, its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying_at(event: int, folder: str) -> Callable[[], None]:
    """Make this process die at the file system operation with that number."""
    seen, counting = 0, threading.Lock()

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if name in EVENTS and (not isinstance(arguments[0], str | Path) or folder in str(arguments[0])):
            with counting:
                seen += 1
                if seen == event:
                    os.kill(os.getpid(), signal.SIGKILL)

    return lambda: sys.addaudithook(hook)


def dying_after(seconds: float) -> Callable[[], None]:
    """Make this process die after a time, whatever it does then; Python does not get to hear of it."""
    return lambda: signal.setitimer(signal.ITIMER_REAL, seconds) and None


def main(url: str, folder: str, file: str, kills: int, seed: int) -> dict[str, int]:
    stays, *others = msgspec.json.decode(Path(file).read_bytes(), type=list[ModelRelease])
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    now = others[0]
    events = 120
    while counts["killed"] < kills:
        new = others[1] if now is others[0] else others[0]
        at_event = rng.random() < 0.5
        event = rng.randint(1, events)
        die = dying_at(event, folder) if at_event else dying_after(rng.uniform(0.001, LONGEST_S))

        def action(die: Callable[[], None] = die, new: ModelRelease = new) -> None:
            die()
            install(url, folder, [stays, new])

        code = in_process(action)
        assert code in (0, -signal.SIGKILL, -signal.SIGALRM), code
        if code == 0 and at_event:
            events = min(events, event + 20)  # there are fewer than that
        counts["killed" if code else "finished"] += 1
        counts["killed at an operation"] += code == -signal.SIGKILL
        allowed = [{stays.name, one.name} for one in ((now, new) if code else (new,))]
        assert in_process(lambda allowed=allowed: check(folder, allowed)) == 0, (code, event)
        installed = {item.release.name for item in Store.open(folder).installed.models}
        counts["killed after the commit"] += bool(code) and new.name in installed
        counts["killed with downloads under way"] += bool(code) and any(Path(folder, "partial").iterdir())
        now = new if new.name in installed else now
    return dict(counts)


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]))))
