"""Claims about recognition: after an alarm the variant is found that the inputs look like, or none."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from selector.drift.monitor import RECENT_INPUTS, DriftStatus
from selector.drift.recognition import MIN_INPUTS_AFTER_ALARM, likenesses, recognised
from tests.support.small_releases import bundle_release, model_release
from zoo.releases.input_reference import DriftFeature, InputReference
from zoo.releases.release import BundleRelease

LIGHT = {"clear": 0.0, "dark": -4.0, "dusk": -2.0, "glare": 4.0}
MODEL = model_release("net", {"w": 10})


def inputs(light: float, count: int, *, seed: int = 1) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.normal((light, 0.0), 1.0, (count, 2)).astype(np.float32)


def reference(light: float) -> InputReference:
    known, counted = inputs(light, 300, seed=2), inputs(light, 300, seed=3)
    features = []
    for column, name in enumerate(("light", "noise")):
        edges = np.quantile(known[:, column], np.linspace(0.05, 0.95, 15))
        counts = np.bincount(np.searchsorted(edges, counted[:, column], side="right"), minlength=16)
        features.append(DriftFeature(name=name, edges=tuple(edges.tolist()), counts=tuple(counts.tolist())))
    return InputReference(alpha=0.01, features=tuple(features))


def variant(environment: str, *, name: str = "", version: int = 1) -> BundleRelease:
    made = bundle_release(name or f"birds.{environment}", (MODEL,), environment=environment)
    return msgspec.structs.replace(made, version=version, drift=reference(LIGHT[environment]))


VARIANTS = [variant("clear", name="birds"), variant("dark"), variant("dusk")]


def status(*parts: NDArray[np.float32]) -> DriftStatus:
    """After an alarm at the end of all parts but the last."""
    rows = np.concatenate(parts)[-RECENT_INPUTS:]
    return DriftStatus(
        seen=1000,
        alarm=True,
        since=len(parts[-1]),
        log_evidence=9.0,
        moved=("light",),
        evidence={"light": 9.0},
        names=("light", "noise"),
        recent=tuple(map(tuple, rows.tolist())),
    )


def found(state: DriftStatus, *more: BundleRelease, active: str = "birds") -> str | None:
    best = recognised(state, [*VARIANTS, *more], active=active, accuracy=lambda _: 0.5)
    return best and best.name


def test_the_variant_of_the_inputs_is_recognised_by_the_latest_of_them() -> None:
    before = inputs(LIGHT["clear"], 100)
    assert found(status(before, inputs(LIGHT["dark"], MIN_INPUTS_AFTER_ALARM))) == "birds.dark"
    assert found(status(before, inputs(LIGHT["dusk"], MIN_INPUTS_AFTER_ALARM))) == "birds.dusk"
    back = status(inputs(LIGHT["dark"], 100), inputs(LIGHT["clear"], MIN_INPUTS_AFTER_ALARM))
    assert found(back, active="birds.dark") == "birds"


def test_inputs_like_nobodys_are_not_recognised() -> None:
    state = status(inputs(LIGHT["clear"], 100), inputs(LIGHT["glare"], MIN_INPUTS_AFTER_ALARM))
    assert found(state) is None
    assert all(not one.fits for one in likenesses(state, VARIANTS))


def test_nothing_is_told_until_enough_inputs_have_come_after_the_alarm() -> None:
    before = inputs(LIGHT["clear"], 100)
    assert found(status(before, inputs(LIGHT["dark"], MIN_INPUTS_AFTER_ALARM - 1))) is None
    assert found(status(before, inputs(LIGHT["dark"], MIN_INPUTS_AFTER_ALARM))) == "birds.dark"


def test_identical_inputs_are_not_recognised() -> None:
    same = np.repeat(inputs(LIGHT["dark"], 1), RECENT_INPUTS, axis=0)
    assert found(status(same)) is None


def test_the_variant_that_raised_the_alarm_has_to_fit_everything_that_is_remembered() -> None:
    assert found(status(inputs(LIGHT["dark"], 40), inputs(LIGHT["clear"], 88))) is None
    assert found(status(inputs(LIGHT["clear"], RECENT_INPUTS))) == "birds"


def test_of_two_specialists_for_one_environment_the_more_accurate_one_is_taken() -> None:
    other, state = (
        variant("dark", name="birds.night", version=2),
        status(inputs(LIGHT["dark"], RECENT_INPUTS)),
    )
    for best in ("birds.dark", "birds.night"):
        one = recognised(
            state, [*VARIANTS, other], active="birds", accuracy=lambda it, best=best: float(it.name == best)
        )
        assert one is not None
        assert one.name == best
    assert found(state, other) == "birds.night", "the newer version where both are as accurate"


def test_few_inputs_and_variants_without_a_reference_tell_nothing() -> None:
    assert likenesses(status(inputs(0.0, MIN_INPUTS_AFTER_ALARM - 1)), VARIANTS) == ()
    bare = msgspec.structs.replace(VARIANTS[1], drift=None)
    assert likenesses(status(inputs(-4.0, MIN_INPUTS_AFTER_ALARM)), [bare]) == ()
    stranger = msgspec.structs.replace(status(inputs(-4.0, MIN_INPUTS_AFTER_ALARM)), names=("hue", "size"))
    assert likenesses(stranger, VARIANTS) == ()
    assert math.isfinite(likenesses(status(inputs(-4.0, MIN_INPUTS_AFTER_ALARM)), VARIANTS)[0].log_evidence)
