"""Claims about expanding a zoo: what pays is kept, the rest is listed with its reason, nothing is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import training.networks.expand as expanding
from tests.support.command_line import CommandLine
from training.data.images import LabelledImages
from training.data.sources import digits
from training.data.splits import FIT, TUNE, Splits
from training.networks.expand import FOLDER, Expansion, expand
from training.networks.expansion_plan import Plan, plan_expansion
from training.networks.variants import Measured, dominated, plan_variants
from zoo.errors import CardError, DataError, ModelError
from zoo.models.zoo import Zoo

SIDE = 12  # pixels; the network sees 16


@pytest.fixture(scope="module")
def data() -> LabelledImages:
    return digits()


@pytest.fixture(scope="module")
def before(digits_zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """A zoo with ``tiny`` alone."""
    zoo = Zoo.open(shutil.copytree(digits_zoo.folder, tmp_path_factory.mktemp("expand") / "zoo"))
    zoo.remove("tiny-int8")
    return zoo


@pytest.fixture(scope="module")
def interrupted(before: Zoo, data: LabelledImages) -> list[str]:
    """What a run does that is interrupted when it comes to the first lower resolution."""
    told: list[str] = []

    def stop(words: str) -> None:
        told.append(words)
        if "px" in words:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        expand(_plan(before, data), images=16, runs=20, tell=stop, progress=False)
    assert before.names == ("tiny",)
    return told


@pytest.fixture(scope="module")
def expansion(before: Zoo, data: LabelledImages, interrupted: list[str]) -> tuple[Expansion, list[str]]:
    told: list[str] = []
    found = expand(_plan(before, data), images=16, runs=20, tell=told.append, progress=False)
    return found, told


def _plan(zoo: Zoo, data: LabelledImages) -> Plan:
    return plan_expansion(zoo, "tiny", data, sides=[SIDE], judges=60)


def test_images_that_judge_neither_teach_nor_certify(before: Zoo, data: LabelledImages) -> None:
    plan = _plan(before, data)
    names = Splits(seed=plan.part.seed, train=plan.part.share).assign(plan.judges.groups)
    assert set(names.tolist()) <= {FIT, TUNE}
    assert not set(plan.judges.groups) & set(plan.learn.groups)
    (part,) = before.card("tiny").learned_from
    assert plan.part == part, "versions learn from what their parent learned from"


def test_an_interrupted_run_continues(expansion: tuple[Expansion, list[str]], interrupted: list[str]) -> None:
    again = {words.split(" (")[0] for words in expansion[1]} & {w.split(" (")[0] for w in interrupted}
    assert again == {interrupted[-1].split(" (")[0]}, "only the version that was not ready is made anew"


def test_every_version_is_kept_or_has_a_reason(
    before: Zoo, data: LabelledImages, expansion: tuple[Expansion, list[str]]
) -> None:
    found, _ = expansion
    zoo = Zoo.open(before.folder)
    assert {row.name for row in found.rows} == {"tiny", *(one.name for one in _plan(zoo, data).variants)}
    assert set(zoo.names) == {"tiny", *found.kept}
    assert all(row.reason for row in found.rows if row.verdict == "left out")
    smaller = next(row for row in found.rows if row.name == f"tiny-{SIDE}px")
    assert smaller.measured is not None
    assert smaller.resolution == (SIDE, SIDE)
    figures = {row.name: row.measured for row in found.rows if row.measured is not None}
    for name in found.kept:
        assert not any(
            other.right >= figures[name].right and other.mean_ms < figures[name].mean_ms
            for other in figures.values()
        )
    assert not (before.folder / FOLDER).exists()


def test_another_model_of_that_name_is_not_replaced(
    digits_zoo: Zoo, data: LabelledImages, tmp_path: Path
) -> None:
    zoo = Zoo.open(shutil.copytree(digits_zoo.folder, tmp_path / "zoo"))
    plan_expansion(zoo, "tiny", data, sides=[], judges=50)  # its tiny-int8 was made from tiny: it is used
    zoo.rename("tiny-int8", "tiny-int8-head")
    with pytest.raises(CardError, match=r"holds a different model 'tiny-int8-head' already.*--force"):
        plan_expansion(zoo, "tiny", data, sides=[], judges=50)
    plan_expansion(zoo, "tiny", data, sides=[], judges=50, force=True)


def test_a_version_that_cannot_be_made_ends_nothing(
    digits_zoo: Zoo, data: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = Zoo.open(shutil.copytree(digits_zoo.folder, tmp_path / "zoo"))
    zoo.remove("tiny-int8")

    def refused(*_: object, **__: object) -> None:
        raise ModelError("expected more of it")

    monkeypatch.setattr(expanding, "add_int8", refused)
    monkeypatch.setattr(expanding, "refit_head", refused)
    plan = plan_expansion(zoo, "tiny", data, sides=[], judges=50)
    rows = {row.name: row for row in expand(plan, images=16, runs=20, progress=False).rows}
    assert rows["tiny-int8"].reason == "expected more of it"
    assert rows["tiny-int8-head"].reason == "tiny-int8 was not made"
    assert rows["tiny"].verdict == "in the zoo"


def test_the_fastest_of_equally_right_models_stays() -> None:
    figures = {
        "large": Measured(90, 10.0),
        "same": Measured(90, 10.1),
        "slow": Measured(80, 11.0),
        "small": Measured(70, 1.0),
        "a little faster": Measured(60, 0.99),
    }
    worse = {"same": "large", "slow": "large", "a little faster": "small"}
    assert dominated(figures) == worse
    assert dominated(figures, ["same"])["large"] == "same", "what is in the zoo comes first among equals"


def test_what_has_no_versions_is_refused(digits_zoo: Zoo, data: LabelledImages) -> None:
    with pytest.raises(ModelError, match="expected a float model of this zoo"):
        plan_variants(digits_zoo.card("tiny-int8"))
    with pytest.raises(ModelError, match="from 8 to 15 pixels"):
        plan_variants(digits_zoo.card("tiny"), sides=[16])
    with pytest.raises(DataError, match="give --train DATA as well"):
        plan_expansion(digits_zoo, "tiny", data, students=["small"])
    with pytest.raises(DataError, match="at least 50 images"):
        plan_expansion(digits_zoo, "tiny", data, judges=10)


def test_the_command_says_what_it_would_do(zooselect: CommandLine, digits_zoo: Zoo) -> None:
    asked = ["zoo", "expand", "tiny", "--data", "digits", "--zoo", digits_zoo.folder, "--dry-run"]
    shown = zooselect(*asked, "--sides", SIDE).out
    assert f"tiny-{SIDE}px-int8" in shown
    assert "nothing was made" in shown
    assert len(zooselect(*asked, "--sides", "none", "--json").json()["variants"]) == 3
    assert "whole numbers such as 24,20" in zooselect(*asked, "--sides", "x", code=1).err
    assert digits_zoo.names == Zoo.open(digits_zoo.folder).names
