"""Bundles of CIFAR-10 with every kind of policy, over float and over 8-bit ResNets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.selection.repeated import deal
from benchmarks.selection.zoos import Given, Prepared, prepare_cifar10
from training.data.images import LabelledImages
from training.data.splits import FIT, TEST, TUNE
from training.fitting.export import export_bundle
from training.fitting.fit import fit_outcomes
from training.fitting.options import FitOptions
from training.outcomes.outcomes import ALL_SPLITS, Outcomes, load_outcomes, pixels_of
from training.outcomes.parts import read_profile_record
from training.search.candidates import Candidate
from zoo.models.latency import LatencyTable, measure
from zoo.models.zoo import Zoo

Numbers = Literal["float", "int8"]

BELOW_REFERENCE = 0.015  # of the most accurate model's accuracy: the precision that is asked for
KINDS: Mapping[str, Callable[[Candidate], bool]] = {
    "one model": lambda one: one.label == "one model",
    "input": lambda one: one.kind == "input" and len(one.models) > 1,
    "cascade on raw confidence": lambda one: one.label == "cascade on raw confidence",
    "cascade with look-ahead": lambda one: one.label == "cascade on raw confidence, look-ahead",
    "pool": lambda one: one.label == "log-opinion pool",
    "learned cascade": lambda one: one.label.startswith("learned cascade"),
    "probe": lambda one: one.kind == "probe" and "input features" not in one.label,
    "probe with input features": lambda one: one.kind == "probe" and "input features" in one.label,
}


@dataclass(frozen=True)
class Made:
    """One bundle, and the images that are shown to it."""

    kind: str  # of policy
    numbers: Numbers  # of its models
    folder: Path
    precision: float  # that was asked for
    tune: LabelledImages  # of the split ``tune``
    test: LabelledImages  # of the split ``test``, in random order


@dataclass(frozen=True)
class World:
    """A zoo with outcomes and times, which bundles are fitted to."""

    prepared: Prepared
    outcomes: Outcomes
    table: LatencyTable
    given: Given

    @classmethod
    def of(cls, given: Given) -> World:
        """CIFAR-10 as JPEG, four ResNets and their 8-bit versions, timed now with the CPU's provider."""
        prepared = prepare_cifar10(given)
        images = [prepared.data.image(i) for i in range(64)]
        table = measure(prepared.zoo, images, device="this-machine", seed=given.seed, progress=True)
        outcomes = load_outcomes(prepared.profile, zoo=prepared.zoo, splits=ALL_SPLITS)
        return cls(prepared, deal(outcomes, given.seed), table, given)

    def bundles(self, numbers: Numbers, kinds: Collection[str] = tuple(KINDS)) -> Iterator[Made]:
        """A bundle for each kind of policy, certified where it can be."""
        zoo = self._zoo(numbers)
        outcomes = deal(load_outcomes(self.prepared.profile, zoo=zoo, splits=ALL_SPLITS), self.given.seed)
        record = read_profile_record(self.prepared.profile)
        precision = round(max(outcomes.split(FIT, TUNE).accuracy().values()) - BELOW_REFERENCE, 3)
        for kind in kinds:
            fitted = fit_outcomes(
                outcomes,
                zoo,
                self.table,
                FitOptions(precision=precision, seed=self.given.seed),
                grid=record.grid,
                data_sha256=record.data_sha256,
                inputs_sha256="0" * 64,
                pixels=partial(pixels_of, self.prepared.profile),
                searches=self.given.work / "searches" / f"elsewhere-{numbers}",
                only=KINDS[kind],
            )
            folder = self.given.work / "bundles" / "elsewhere" / f"{numbers}-{kind.replace(' ', '-')}"
            export_bundle(fitted, zoo, folder)
            yield Made(kind, numbers, folder, precision, self._images(TUNE), self._images(TEST))

    def _zoo(self, numbers: Numbers) -> Zoo:
        wanted = "int8" if numbers == "int8" else "none"
        return self.prepared.zoo.only(
            [card.name for card in self.prepared.zoo.cards if card.compression == wanted]
        )

    def _images(self, split: str) -> LabelledImages:
        place = {name: i for i, name in enumerate(self.prepared.data.ids)}
        rows = np.array([place[name] for name in self.outcomes.split(split).ids.tolist()])
        return self.prepared.data.subset(np.random.default_rng(self.given.seed).permutation(rows))
