"""The world of colours as a device has it: models, bundles and images, without anything that fits.

``bundles/`` holds what ``python -m tests.support.write_bundles`` wrote: the record of each bundle, and in
``files/`` the graphs, which bundles share.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray

from selector.bundle.bundle import read_bundle
from selector.policies.staged import StagedPolicy
from tests.support.small_models import add_colours, build_onnx
from zoo.models.latency import LatencyTable, ModelLatency, summarise
from zoo.models.timing import Machine
from zoo.models.zoo import Zoo

COSTS_MS = {"tiny": 0.1, "small": 0.3, "full": 1.0}
STAGE_MS, CONFIDENCE_MS, SELECTOR_MS = 0.004, 0.002, 0.01
Kind = Literal["input", "cascade", "lookahead", "learned", "probe", "pool"]
KINDS: tuple[Kind, ...] = ("input", "cascade", "lookahead", "learned", "probe", "pool")
STORED_WATCHED: tuple[Kind, ...] = ("input", "cascade")
STORED = Path(__file__).parent / "bundles"


@dataclass(frozen=True)
class ColourPixels:
    """Images of colours, without a reader of images."""

    pixels: NDArray[np.uint8]  # [N, H, W, 3]
    ids: list[str]
    labels: NDArray[np.int64]
    groups: list[str]
    environments: list[str]

    def image(self, index: int) -> NDArray[np.uint8]:
        """The image ``[H, W, 3]`` with this index."""
        found: NDArray[np.uint8] = self.pixels[index]
        return found


def colour_pixels(count: int = 800, *, seed: int = 0, size: tuple[int, int] = (12, 12)) -> ColourPixels:
    """Images of a more or less strong colour, each under three environments; one in fifty is mislabelled."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    images, ids, groups, environments = [], [], [], []
    for i, label in enumerate(labels):
        clear = np.full((*size, 3), rng.uniform(60, 150))
        clear[..., label if rng.random() > 0.02 else (label + 1) % 3] += rng.uniform(2, 90)
        clear += rng.normal(0, 8, clear.shape)
        variants = {"clear": clear, "dark": clear * 0.35, "noise": clear + rng.normal(0, 30, clear.shape)}
        for name, image in variants.items():
            images.append(image.clip(0, 255).astype(np.uint8))
            ids.append(f"{i:04d}-{name}")
            groups.append(f"{i:04d}")
            environments.append(name)
    return ColourPixels(np.stack(images), ids, labels.repeat(3), groups, environments)


def colour_zoo(folder: Path) -> Zoo:
    """Three models that differ in how often they are right; ``small`` has its classes in another order."""
    zoo = Zoo.open_or_create(folder)
    add_colours(zoo, "tiny", build_onnx(noise=0.15, seed=1))
    turned = ("blue", "red", "green")
    add_colours(zoo, "small", build_onnx(turned, channels=(2, 0, 1), noise=0.06, seed=0, work=3), turned)
    add_colours(zoo, "full", build_onnx(work=8))
    return zoo


def latency_table(zoo: Zoo, costs_ms: dict[str, float] | None = None) -> LatencyTable:
    """A latency table with the given times, so that no choice depends on the machine of the tests."""
    costs = costs_ms or COSTS_MS
    return LatencyTable(
        schema_version=1,
        device="bench-top",
        threads=1,
        image=(12, 12),
        machine=Machine(processor="p", cores=1, system="s", python="3", onnxruntime="1"),
        models={
            card.name: ModelLatency(sha256=card.sha256, latency=summarise([costs[card.name]] * 500))
            for card in zoo.cards
        },
    )


def edit_bundle(bundle: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change ``bundle.json`` in the folder `bundle`, which is returned."""
    path = bundle / "bundle.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    return bundle


def files_of(bundle: Path) -> list[str]:
    """What a bundle's record names: models, graphs."""
    record = read_bundle(bundle)
    graphs = [graph.file for graph in (record.selector, record.drift) if graph is not None]
    staged = [policy for policy in record.policies if isinstance(policy, StagedPolicy)]
    states = [state.file for policy in staged for state in policy.states]
    return sorted({*graphs, *states, *(card.file for card in record.models)})


def unpack(name: str, target: Path) -> Path:
    """Put a bundle that is stored beside these tests into a folder of its own."""
    target.mkdir(parents=True)
    shutil.copy(STORED / f"{name}.json", target / "bundle.json")
    for file in files_of(target):
        (target / file).parent.mkdir(exist_ok=True)
        shutil.copy(STORED / "files" / Path(file).name, target / file)
    return target


class StoredWorld:
    """What a fitted world offers, as far as a device sees it; a test that asks for more is skipped."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.zoo, self.data = folder, colour_zoo(folder / "zoo"), colour_pixels()

    @cached_property
    def bundles(self) -> dict[Kind, Path]:
        """A bundle of each kind of policy."""
        return self._unpacked("", KINDS)

    @cached_property
    def watched(self) -> dict[Kind, Path]:
        """Bundles that notice when images are not like the clear ones any more."""
        return self._unpacked("watched-", STORED_WATCHED)

    def copy_bundle(self, kind: Kind, target: Path) -> Path:
        """A copy of a bundle that may be changed."""
        shutil.copytree(self.bundles[kind], target)
        return target

    def _unpacked(self, prefix: str, kinds: Sequence[Kind]) -> dict[Kind, Path]:
        names = {kind: f"{prefix}{kind}" for kind in kinds}
        return _Stored({kind: unpack(name, self.folder / f"{name}-bundle") for kind, name in names.items()})

    @cached_property
    def test_groups(self) -> list[str]:
        """Originals that nothing was fitted on, in no order."""
        found: list[str] = json.loads((STORED / "test-groups.json").read_text())
        return found

    def __getattr__(self, name: str) -> NoReturn:
        if name in ("fit", "fits", "outcomes", "profile", "table"):
            pytest.skip(f"needs the extra 'train': 'world.{name}' is made by fitting")
        raise AttributeError(name)


class _Stored(dict[Kind, Path]):
    def __missing__(self, kind: Kind) -> NoReturn:
        pytest.skip(f"needs the extra 'train': no such bundle of kind {kind!r} is stored")
