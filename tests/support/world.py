"""The world of colours: zoo, images, profile, latency table, fits and bundles. Needs the extra ``train``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import training.fitting.fit
import training.search.input_fit
import training.search.search
from tests.support.colours import (
    CONFIDENCE_MS,
    KINDS,
    SELECTOR_MS,
    STAGE_MS,
    Kind,
    colour_pixels,
    colour_zoo,
    latency_table,
)
from tests.support.small_models import COLOURS
from training.data.images import ArrayImages
from training.data.splits import TEST, Splits
from training.features.costs import FeatureCosts
from training.features.kinds import features_of
from training.fitting.export import export_bundle
from training.fitting.fitted import Fitted
from training.fitting.options import FitOptions, PolicyKind
from training.outcomes.outcomes import ALL_SPLITS, Outcomes, load_outcomes
from training.outcomes.profile import profile
from training.search.candidates import Candidate
from zoo import LatencyTable, Zoo
from zoo.inputs.kind import InputKind
from zoo.inputs.kinds import IMAGE

COLOUR_SPLITS = Splits(fit=0.35, tune=0.1, certify=0.3, test=0.25)
KIND_OF_POLICY: dict[Kind, PolicyKind] = {
    "input": "input",
    "cascade": "cascade",
    "lookahead": "cascade",
    "learned": "cascade",
    "probe": "probe",
    "pool": "cascade",
}
CANDIDATES: dict[Kind, Callable[[Candidate], bool]] = {
    "input": lambda one: one.kind == "input" and len(one.models) == 3,
    "cascade": lambda one: one.label in ("cascade on raw confidence", "one model"),
    "lookahead": lambda one: one.label == "cascade on raw confidence, look-ahead" and len(one.models) == 3,
    "learned": lambda one: one.label.startswith("learned") and len(one.models) == 3,
    "probe": lambda one: one.label == "probe, committee, input features",
    "pool": lambda one: one.label == "log-opinion pool" and len(one.models) == 3,
}


def colour_images(count: int = 800, *, seed: int = 0, size: tuple[int, int] = (12, 12)) -> ArrayImages:
    """Images of a more or less strong colour, each under three environments; one in fifty is mislabelled."""
    made = colour_pixels(count, seed=seed, size=size)
    return ArrayImages(
        made.pixels, COLOURS, made.ids, made.labels, groups=made.groups, environments=made.environments
    )


class GivenCosts(FeatureCosts):
    """Costs of features that are not measured: half a microsecond each."""

    def of(self, names: Sequence[str]) -> float:
        return 0.5 * len(set(names))

    def shares_us(self, names: Sequence[str]) -> list[float]:
        return [0.5] * len(names)


def given_costs(grid: int, *, kind: InputKind = IMAGE, **_: Any) -> GivenCosts:
    """The costs of all features of a kind of input."""
    return GivenCosts(grid, dict.fromkeys(features_of(kind).names, 0.5), {})


@contextmanager
def steady(
    only: Callable[[Candidate], bool] = lambda _: True, *, scout: bool = False, watch: bool = False
) -> Iterator[pytest.MonkeyPatch]:
    """Fits inside choose among candidates that are `only` of some kind, and measure nothing.

    What a fit measures is given, so that no choice depends on the machine of the tests. A scout takes seconds
    to train; without it, features are those of the pool. Unless inputs are to be watched, bundles have no
    drift reference: most tests ask for the same few images over and over, which is a change.
    """
    every = training.search.search.all_candidates

    def some(*arguments: Any, **named: Any) -> list[Candidate]:
        return [one for one in every(*arguments, **named) if only(one)]

    with TemporaryDirectory() as searches, pytest.MonkeyPatch.context() as patch:
        # what one choice of candidates found is none of the next
        patch.setattr(training.fitting.fit, "SEARCHES_FOLDER", searches)
        patch.setattr(training.search.search, "all_candidates", some)
        patch.setattr(training.search.search, "decision_costs_ms", lambda *_, **__: (STAGE_MS, CONFIDENCE_MS))
        patch.setattr(training.search.input_fit, "selector_cost_ms", lambda *_, **__: SELECTOR_MS)
        patch.setattr(
            training.search.input_fit,
            "measure_costs",
            given_costs,
        )
        if not watch:
            patch.setattr(training.fitting.fit, "drift_fit", lambda *_, **__: None)
            patch.setattr(training.fitting.fit, "check_drift_graph", lambda *_: None)
        if not scout:
            patch.setattr(training.fitting.fit, "has_pixels", lambda _: False)
        yield patch


def fit_colours(
    folder: Path,
    zoo: Zoo,
    table: LatencyTable,
    *,
    only: Callable[[Candidate], bool] = lambda _: True,
    watch: bool = False,
    **options: Any,
) -> Fitted:
    """A :func:`steady` fit to a profile."""
    with steady(only, watch=watch):
        return training.fitting.fit.fit(folder, zoo, table, **options)


def fit_in_memory(
    outcomes: Outcomes,
    zoo: Zoo,
    table: LatencyTable,
    *,
    only: Callable[[Candidate], bool] = lambda _: True,
    **options: Any,
) -> Fitted:
    """A :func:`steady` fit to outcomes that may have been changed."""
    with steady(only):
        return training.fitting.fit.fit_outcomes(
            outcomes,
            zoo,
            table,
            FitOptions(**options),
            grid=32,
            data_sha256="0" * 64,
            inputs_sha256="0" * 64,
        )


@dataclass(frozen=True)
class World:
    """A zoo of colour models with all that follows from it, made once; whoever changes files copies first."""

    folder: Path
    zoo: Zoo
    data: ArrayImages
    table: LatencyTable
    profile_name: str = "profile"

    @property
    def profile(self) -> Path:
        """Folder of the profile."""
        return self.folder / self.profile_name

    @cached_property
    def outcomes(self) -> Outcomes:
        """All outcomes, the test split included."""
        return load_outcomes(self.profile, zoo=self.zoo, splits=ALL_SPLITS)

    @cached_property
    def test_groups(self) -> list[str]:
        """Originals that nothing was fitted on, in no order."""
        return sorted(set(self.outcomes.split(TEST).groups.tolist()))

    def fit(self, kind: Kind, *, watch: bool = False, **options: Any) -> Fitted:
        """A fit in which nothing but one kind of policy is allowed."""
        asked: dict[str, Any] = {"policy": KIND_OF_POLICY[kind], **options}
        return fit_colours(self.profile, self.zoo, self.table, only=CANDIDATES[kind], watch=watch, **asked)

    @cached_property
    def fits(self) -> dict[Kind, Fitted]:
        """A fit of each kind of policy."""
        return {kind: self.fit(kind, precision=0.9) for kind in KINDS}

    @cached_property
    def bundles(self) -> dict[Kind, Path]:
        """An exported bundle of each kind of policy."""
        for kind, fitted in self.fits.items():
            export_bundle(fitted, self.zoo, self.folder / f"{kind}-bundle")
        return {kind: self.folder / f"{kind}-bundle" for kind in self.fits}

    @cached_property
    def watched(self) -> dict[Kind, Path]:
        """Bundles that notice when images are not like the clear ones any more."""
        for kind in KINDS:
            fitted = self.fit(kind, watch=True, precision=0.8, environment="clear")
            export_bundle(fitted, self.zoo, self.folder / f"watched-{kind}-bundle")
        return {kind: self.folder / f"watched-{kind}-bundle" for kind in KINDS}

    def copy_bundle(self, kind: Kind, target: Path) -> Path:
        """A copy of a bundle that may be changed."""
        shutil.copytree(self.bundles[kind], target)
        return target


def make_world(folder: Path) -> World:
    """The world of colours in a new folder."""
    made = World(folder, colour_zoo(folder / "zoo"), colour_images(), latency_table(Zoo.open(folder / "zoo")))
    profile(made.zoo, made.data, made.profile, splits=COLOUR_SPLITS, progress=False)
    return made
