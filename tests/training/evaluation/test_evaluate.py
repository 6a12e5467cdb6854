"""Claims about evaluation: judged on the test split alone, against single models and the oracle."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selector.policies.constraint import Constraint
from tests.support.colours import COSTS_MS, KINDS, Kind
from tests.support.small_models import add_colours, build_onnx
from tests.support.world import COLOUR_SPLITS, World
from training.evaluation.evaluate import evaluate, other_settings, our_name, simulate_at
from training.evaluation.rows import oracle_row
from training.outcomes.outcomes import load_outcomes
from training.outcomes.profile import profile
from zoo import Zoo
from zoo.errors import StaleError


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_the_test_split(world: World, kind: Kind) -> None:
    found = evaluate(world.fits[kind], world.profile)
    test = load_outcomes(world.profile, splits=("test",))
    assert [row.name for row in found.singles] == ["tiny", "small", "full"]
    for row in found.singles:
        assert row.accuracy == pytest.approx(test.accuracy()[row.name])
        assert row.mean_ms == pytest.approx(COSTS_MS[row.name])
    ours = found.ours
    assert ours is not None
    certificate = world.fits[kind].certificate()
    assert certificate is not None
    simulated = world.fits[kind].policy.simulate(test, certificate.threshold)
    assert (ours.accuracy, ours.mean_ms) == (simulated.accuracy, simulated.mean_ms)
    assert ours.certified
    assert sum(ours.shares.values()) == pytest.approx(1)
    assert ours.accuracy_low < ours.accuracy < ours.accuracy_high
    assert set(found.environments) == {"clear", "dark", "noise"}


def test_the_oracle_is_right_wherever_any_model_is_and_takes_the_cheapest(world: World) -> None:
    test = load_outcomes(world.profile, splits=("test",))
    row = oracle_row(test, COSTS_MS)
    assert row.accuracy == test.right.any(axis=1).mean()
    right = dict(zip(test.models, test.right.T, strict=True))
    cheap = np.where(right["tiny"], 0.1, np.where(right["small"], 0.3, np.where(right["full"], 1.0, 0.1)))
    assert row.mean_ms == pytest.approx(cheap.mean())


@pytest.mark.parametrize("kind", KINDS)
def test_an_uncertified_precision_is_judged_as_the_reference_model(world: World, kind: Kind) -> None:
    found = evaluate(world.fits[kind], world.profile, asked=Constraint(kind="precision", level=0.999))
    ours = found.ours
    assert ours is not None
    full = next(row for row in found.singles if row.name == "full")
    assert (ours.accuracy, ours.mean_ms, ours.certified) == (full.accuracy, COSTS_MS["full"], False)
    assert ours.shares == {"full": 1.0}
    assert any("Not certified with 256 certify samples: precision 0.999" in note for note in found.notes)
    assert any("No single model reaches 0.999" in note for note in found.notes)
    assert ("Certificate", "none for precision 0.999: the reference model answers") in found.facts


def test_simulation_uses_the_certificate_that_covers_what_is_asked(world: World) -> None:
    test = load_outcomes(world.profile, splits=("test",))
    for asked in (
        Constraint(kind="precision", level=0.801),
        Constraint(kind="max_drop", level=0.049),
        Constraint(kind="mean_ms", level=0.333),
        Constraint(kind="p95_ms", level=0.7),
    ):
        fitted = world.fits["learned"]
        certificate = fitted.certificate(asked)
        assert certificate is not None
        assert simulate_at(fitted, test, asked).threshold == certificate.threshold


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Constraint(kind="mean_ms", level=0.3), "the most accurate single model that keeps mean of at most"),
        (Constraint(kind="p95_ms", level=0.7), "the most accurate single model that keeps 95th percentile"),
        (Constraint(kind="max_drop", level=0.05), "the cheapest single model that reaches"),
    ],
)
def test_each_kind_of_constraint_is_compared_with_what_a_single_model_can_do(
    world: World, asked: Constraint, words: str
) -> None:
    found = evaluate(world.fits["learned"], world.profile, asked=asked)
    assert found.ours is not None
    assert (found.ours.name, found.ours.certified, found.ours.precision) == (our_name(asked), True, None)
    assert found.asked_precision is None
    assert any(words in note for note in found.notes)


def test_right_means_at_evaluation_what_it_meant_at_the_fit(world: World) -> None:
    test = load_outcomes(world.profile, zoo=world.zoo, splits=("test",))
    lax = world.fit("cascade", precision=0.9, top_k=2)
    agreeing = world.fit("cascade", precision=0.9, agree_with_reference=True)
    for fitted, judged in ((lax, test.judged(top_k=2)), (agreeing, test.judged(agree_with="full"))):
        found = {row.name: row.accuracy for row in evaluate(fitted, world.profile).singles}
        assert found == pytest.approx(judged.accuracy())


@pytest.mark.parametrize("kind", KINDS)
def test_reliability_and_mixes_add_up(world: World, kind: Kind) -> None:
    found = evaluate(world.fits[kind], world.profile)
    count = len(load_outcomes(world.profile, splits=("test",)))
    for curve in found.reliability.values():
        assert sum(item[2] for item in curve) == count
        assert all(0 <= value <= 1 for item in curve for value in item[:2])
    assert [precision for precision, _ in found.mixes] == sorted(precision for precision, _ in found.mixes)
    for _, shares in found.mixes:
        assert sum(shares.values()) == pytest.approx(1)
    assert found.curves[0].points == sorted(found.curves[0].points)


def test_a_profile_of_other_models_is_refused(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.zoo.folder, tmp_path / "zoo")
    zoo = Zoo.open(tmp_path / "zoo")
    add_colours(zoo, "tiny", build_onnx(noise=0.7, seed=8))
    profile(zoo, world.data, tmp_path / "p", splits=COLOUR_SPLITS, progress=False)
    with pytest.raises(StaleError, match="the selector was fitted for other files of tiny"):
        evaluate(world.fits["input"], tmp_path / "p")
    with pytest.raises(StaleError, match="models changed: tiny"):
        evaluate(world.fits["input"], world.profile, zoo=zoo)


def test_the_row_is_named_after_what_is_asked() -> None:
    assert our_name(None) == "zooselect"
    assert our_name(Constraint(kind="precision", level=0.95)) == "zooselect 0.95"
    assert our_name(Constraint(kind="mean_ms", level=2.5)) == "zooselect mean_ms 2.5"


@pytest.mark.parametrize("asked", [("precision", 0.8765), ("max_drop", 0.05), ("mean_ms", 0.3)])
def test_who_answers_at_the_asked_level_is_among_the_mixes(world: World, asked: tuple[Any, float]) -> None:
    kind, level = asked
    found = evaluate(world.fits["learned"], world.profile, asked=Constraint(kind=kind, level=level))
    assert found.ours is not None
    assert (found.mix_kind, found.asked_level) == asked
    assert dict(found.mixes)[level] == found.ours.shares


def test_other_settings_are_certified_and_differ(world: World) -> None:
    fitted = world.fits["learned"]
    asked = Constraint(kind="precision", level=0.9)
    certificates = [fitted.certificate(one) for one in (asked, *other_settings(fitted, asked).values())]
    thresholds = [one.threshold for one in certificates if one is not None]
    assert len(set(thresholds)) == len(certificates) > 2
