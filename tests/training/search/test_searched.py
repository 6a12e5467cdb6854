"""Claims about kept searches: another constraint is served from them, with exactly the same result."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import training.fitting.fit
import training.search.search
import training.search.searched
from tests.support.fresh_interpreter import loaded_after
from tests.support.world import World, steady
from training.fitting.fit import fit, fit_outcomes
from training.fitting.fitted import Fitted
from training.fitting.options import FitOptions
from training.outcomes.outcomes import Outcomes, pixels_of
from training.policies.frontier import Outline, Simulated
from zoo.errors import ParityError


@pytest.fixture(scope="module")
def few(world: World) -> Outcomes:
    """Some of the samples, so that a scout is trained quickly."""
    some = world.outcomes.split("fit", "tune", "certify")
    return some.rows(np.arange(0, len(some), 8))


@pytest.fixture(scope="module", autouse=True)
def given_costs() -> Iterator[None]:
    with steady(scout=True, watch=True):
        yield


def fitted(world: World, few: Outcomes, searches: Path | None, **options: Any) -> Fitted:
    return fit_outcomes(
        few,
        world.zoo,
        world.table,
        FitOptions(**options),
        grid=32,
        data_sha256="0" * 64,
        inputs_sha256="0" * 64,
        pixels=partial(pixels_of, world.profile),
        searches=searches,
    )


@pytest.fixture(scope="module")
def searches(world: World, few: Outcomes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the search of one fit."""
    folder = tmp_path_factory.mktemp("searches")
    fitted(world, few, folder, precision=0.7, policy="input")
    return folder


def same(one: Fitted, other: Fitted) -> bool:
    graphs = (one.graph, one.scores, one.scout, one.drift, one.stage_graphs())
    return one.record == other.record and graphs == (
        other.graph,
        other.scores,
        other.scout,
        other.drift,
        other.stage_graphs(),
    )


def test_another_constraint_is_searched_for_no_more_and_gets_the_same(
    world: World, few: Outcomes, searches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anew = fitted(world, few, None, precision=0.85, policy="input")
    for name in ("scout_log_odds", "fit_input", "decision_costs_ms"):
        monkeypatch.setattr(training.search.search, name, lambda *_, **__: pytest.fail("searched again"))
    before = [path.read_bytes() for path in searches.iterdir()]
    assert same(fitted(world, few, searches, precision=0.85, policy="input"), anew)
    assert [path.read_bytes() for path in searches.iterdir()] == before


def test_no_search_is_kept_whose_drift_graph_is_wrong(
    world: World, few: Outcomes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differs(*_: object) -> None:
        raise ParityError("feature graph: expected what torch computes")

    monkeypatch.setattr(training.fitting.fit, "check_drift_graph", differs)
    for _ in range(2):
        with pytest.raises(ParityError):
            fitted(world, few, tmp_path, precision=0.7, policy="input")
    assert list(tmp_path.iterdir()) == []


def test_what_is_repeated_loads_nothing_that_only_training_needs() -> None:
    repeated = (
        "fitting.fit fitting.export outcomes.profile outcomes.table_profile evaluation.evaluate reports.page"
    )
    repeated += " features.image.scout features.signal.scout features.tensors.scout"
    loaded = loaded_after("import " + ", ".join(f"training.{name}" for name in repeated.split()))
    trainers = {"torch", "skl2onnx", "sklearn", "scipy.stats", "scipy.optimize", "pandas"}
    assert not trainers & loaded


@pytest.mark.parametrize("asked", [{"max_drop": 0.1}, {"p95_ms": 0.5}], ids=str)
def test_every_kind_of_constraint_is_served(
    world: World, few: Outcomes, tmp_path: Path, asked: dict[str, float]
) -> None:
    fitted(world, few, tmp_path, policy="cascade", precision=0.7)
    anew = fitted(world, few, None, policy="cascade", **asked)
    assert same(fitted(world, few, tmp_path, policy="cascade", **asked), anew)


def test_a_broken_search_is_made_again_and_that_is_said(
    world: World, few: Outcomes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {"precision": 0.7, "policy": "cascade"}
    first = fitted(world, few, tmp_path, **asked)
    (path,) = tmp_path.iterdir()
    good = path.read_bytes()
    for bad in (b"", good[:-200], good[:2000] + bytes(50) + good[2050:]):
        path.write_bytes(bad)
        assert same(fitted(world, few, tmp_path, **asked), first)
        said = capsys.readouterr().err
        assert "expected what an earlier search found, got: " in said
        assert "It is searched again." in said
        assert path.read_bytes()[:200] == good[:200]


def test_a_search_for_other_outcomes_costs_or_options_is_not_used(
    world: World, few: Outcomes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = few.rows(np.arange(len(few) - 1))
    for n, (some, asked) in enumerate(
        [(few, {}), (other, {}), (few, {"seed": 1}), (few, {"top_k": 2}), (few, {"delta": 0.1})]
    ):
        fitted(world, some, tmp_path, policy="cascade", precision=0.7, **asked)
        assert len(list(tmp_path.iterdir())) == min(n + 1, 4)  # delta is no part of the search
    (foreign, *_), (place, *_) = sorted(tmp_path.iterdir()), sorted(tmp_path.iterdir(), reverse=True)
    place.write_bytes(foreign.read_bytes())  # a search under the name of another one
    again = fitted(world, few, tmp_path, policy="cascade", precision=0.7)
    assert same(again, fitted(world, few, None, policy="cascade", precision=0.7))
    monkeypatch.setattr(training.search.searched, "MAX_FILES", 4)
    fitted(world, few, tmp_path, policy="cascade", precision=0.7, seed=2)
    assert len(list(tmp_path.iterdir())) == 4


def test_the_search_lies_beside_the_profile(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.fitting.fit.SEARCHES_FOLDER", "searches")
    fit(world.profile, world.zoo, world.table, precision=0.7, policy="cascade")
    assert list((world.profile / "searches").glob("*.npz"))


def test_counts_say_what_the_samples_said() -> None:
    rng = np.random.default_rng(0)
    stop, right, reference = rng.integers(0, 3, 500), rng.random(500) < 0.8, rng.random(500) < 0.9
    point = Simulated(0.5, stop, right, np.array([0.1, 0.4, 1.3])[stop])
    first = rng.random((2, 500)) < 0.5
    counted = Outline.of(point, reference, 0.01, first)
    assert counted.halves.tolist() == [int(right[half].sum()) for half in first]
    for name in ("accuracy", "mean_ms", "spread_ms"):
        assert getattr(counted, name) == pytest.approx(getattr(point, name))
    assert counted.lead(reference) == pytest.approx(point.lead(reference))
    nothing = np.zeros(500, np.bool_)
    assert counted.lead(nothing) == pytest.approx(point.lead(nothing))
    assert counted.share_within(0.4) == point.share_within(0.4)
