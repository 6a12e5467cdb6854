"""The publisher's side of a soak: a zoo that changes, what is published of it, and the service in front."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.distribution.made_up import cascade_bundle
from benchmarks.distribution.polling import start_service
from benchmarks.distribution.published import shaken
from selector.bundle.bundle import read_bundle_files
from selector.fleet.groups import FILE as GROUPS_FILE
from selector.fleet.groups import SCHEMA_VERSION, Groups, Rule
from selector.fleet.tokens import Tokens
from zoo.architectures.convnet import CONVNETS, convnet
from zoo.convert.add import add_module
from zoo.errors import ServiceError
from zoo.files import encode_record, write_atomic
from zoo.models.zoo import Zoo, add_again
from zoo.publisher.keys import Keys, create_keys
from zoo.publisher.publish import publish, remove
from zoo.releases.catalogue import index_from_folder
from zoo.releases.release import Index

TASK = "objects"
CLASSES = tuple(f"class-{i}" for i in range(10))
FIXED, FREE = "fixed", "free"  # the group that the operator decides about, and that the service decides about
DECISION_INTERVAL_S = 1  # of the service


def convnets(folder: Path, seed: int) -> Zoo:
    """A zoo of convnets with random weights, the smallest first."""
    zoo = Zoo.create(folder)
    torch.manual_seed(seed)
    for name in CONVNETS:
        network, preprocessing = convnet(name, len(CLASSES))
        add_module(zoo, name, network.eval(), preprocessing, CLASSES, source="random weights")
    return zoo


class SoakPublisher:
    """A publisher of one task.

    Parameters
    ----------
    zoo
        Whose models are published and changed.
    """

    def __init__(self, folder: Path, zoo: Zoo, draw: np.random.Generator) -> None:
        self.root, self.data, self.keys_folder = folder / "published", folder / "service", folder / "keys"
        self._folder, self._zoo, self._draw = folder, zoo, draw
        self.models = zoo.names
        self.offered = list(zoo.names)
        self.digests = {card.sha256 for card in self._zoo.cards}  # of everything that was ever published
        create_keys(self.keys_folder)
        self._keys = Keys.open(self.keys_folder)
        self.publish()
        tokens = Tokens(self.data / "tokens.json")
        self.tokens = {group: tokens.add("device", group) for group in (FIXED, FREE)}
        self.fix(self.offered)

    @property
    def index(self) -> Index:
        """What is published now, assignments included."""
        return index_from_folder(self.root)

    def publish(self) -> None:
        """Publish what is offered, with a bundle for just that."""
        costs_ms = {name: 1.0 + i for i, name in enumerate(self.offered)}
        best_first = dict(reversed(costs_ms.items()))
        bundle = read_bundle_files(cascade_bundle(self._folder / "bundle", self._zoo, TASK, best_first))
        accuracy = {name: 0.5 + 0.1 * i for i, name in enumerate(self.offered)}
        publish(
            self.root,
            self._zoo,
            keys=self._keys,
            bundles={TASK: bundle},
            models=self.offered,
            accuracy=accuracy,
        )

    def update(self) -> str:
        """Publish a new version of a model, or of several; says which."""
        count = int(self._draw.integers(1, len(self.offered) + 1))
        chosen = sorted(self._draw.choice(self.offered, count, replace=False).tolist())
        for name in chosen:
            card = self._zoo.card(name)
            before = (self._zoo.folder / card.file).read_bytes()
            content = shaken(before, classes=len(card.classes), seed=int(self._draw.integers(2**31)))
            self.digests.add(add_again(self._zoo, card, content).sha256)
        self.publish()
        return ", ".join(chosen)

    def withdraw(self) -> str:
        """Offer one model no longer, or offer again what was withdrawn; says which."""
        gone = [name for name in self.models if name not in self.offered]
        if gone:
            self.offered = list(self.models)
            self.publish()
            return f"{', '.join(gone)} again"
        name = str(self._draw.choice(self.offered))
        self.offered.remove(name)
        self.publish()
        remove(self.root, keys=self._keys, models=[name])
        return name

    def assign(self) -> str:
        """Have the operator fix other models, of those that are offered; says which."""
        count = int(self._draw.integers(1, len(self.offered) + 1))
        chosen = self._draw.choice(self.offered, count, replace=False).tolist()
        self.fix(chosen)
        return ", ".join(chosen)

    def fix(self, models: Sequence[str]) -> None:
        """What the operator's group holds from the next decision on."""
        rule = Rule(models=tuple(models))
        groups = Groups(schema_version=SCHEMA_VERSION, groups={FIXED: rule})
        write_atomic(self.data / GROUPS_FILE, encode_record(groups))


class SoakService:
    """``zooselect serve``, which can be killed and started again on the same data."""

    def __init__(self, publisher: SoakPublisher) -> None:
        self._publisher = publisher
        self._process: subprocess.Popen[str] | None = None

    def start(self, *, signing: bool = True) -> tuple[str, int]:
        """Start it and return where it listens; without `signing`, assignments stay as they are."""
        publisher = self._publisher
        options = ["--keys", str(publisher.keys_folder), "--every", str(DECISION_INTERVAL_S)]
        with (publisher.data / "log").open("a") as log:
            self._process, address = start_service(
                publisher.root, publisher.data, *(options if signing else ()), log=log
            )
        return address

    def kill(self) -> None:
        """End it at once, whatever it is at."""
        if self._process is not None:
            with self._process:
                self._process.kill()
            self._process = None

    @property
    def status(self) -> int | None:
        """How it has ended; None while it runs."""
        return None if self._process is None else self._process.poll()


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path | None]:
    """A file system of its own of that size in memory; None where mounting is not allowed."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "soak", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    try:
        yield folder if done else None
    finally:
        if done:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def fill(disk: Path) -> Path:
    """A file that takes all that is left of a disk."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
        for size in (2**20, 2**12):
            with contextlib.suppress(OSError):
                while True:
                    stream.write(bytes(size))
    return ballast


def until_assigned(publisher: SoakPublisher, models: Sequence[str], *, deadline_s: float) -> None:
    """Wait until the service has signed what the operator fixed; raises ServiceError when it does not."""
    end = time.monotonic() + deadline_s
    while True:
        found = publisher.index.assignments.get(FIXED)
        if found is not None and found.models == tuple(models):
            return
        if time.monotonic() > end:
            log = (publisher.data / "log").read_text()[-1000:]
            raise ServiceError(
                f"expected the models {', '.join(models)} to be assigned within {deadline_s:g} s, got "
                f"{found}. The service said: {log}"
            )
        time.sleep(0.1)
