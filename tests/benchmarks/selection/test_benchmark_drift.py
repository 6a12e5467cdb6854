"""The drift suite: streams of originals that are drawn anew each time, and a table of what was found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import benchmarks.selection.drift
from benchmarks.selection.drift import MIX, Pool, Sizes, change, run_drift, stationary
from benchmarks.selection.zoos import ALL_FIT, Given, Prepared
from tests.support.colours import colour_zoo
from tests.support.world import colour_images
from training.data.splits import Splits
from training.features.image.features import WATCHED
from training.outcomes.profile import profile

SIZES = Sizes(known=100, calibration=100, quiet=50, changed=60)


def pool(originals: int = 300) -> Pool:
    rng = np.random.default_rng(0)
    clear = rng.normal(size=(originals, len(WATCHED) + 1)).astype(np.float32)
    return Pool(WATCHED, {"clear": clear, "dark": clear - 4}, "tiny")


def test_every_original_is_drawn_once() -> None:
    made = pool()
    rng = np.random.default_rng(1)
    assert sorted(made.drawn("dark", rng)[:, 0].tolist()) == sorted(made.values["dark"][:, 0].tolist())
    mixed = np.round(made.drawn(MIX, rng)[:, 0] % 4, 3)
    assert sorted(mixed.tolist()) == sorted(np.round(made.values["clear"][:, 0] % 4, 3).tolist())


def test_quiet_streams_are_quiet_and_changes_are_found() -> None:
    row = stationary(pool(), SIZES, "clear", 20, seed=0)
    assert row["alpha_0.1"]["alarms"] <= 2
    found = change(pool(), SIZES, "clear", "dark", SIZES.quiet, 5, seed=0)
    assert found["within_100"] == 1
    assert found["median"] <= 30


def test_the_suite_prints_a_table_and_writes_every_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def prepare(given: Given) -> Prepared:
        zoo, data = colour_zoo(given.work / "zoo"), colour_images(300)
        profile(zoo, data, given.work / "profile", splits=Splits(**ALL_FIT), progress=False)
        return Prepared("Colours", zoo, data, given.work / "profile", "full")

    monkeypatch.setitem(benchmarks.selection.drift.SUITES, "colours", (prepare, "tiny", SIZES))
    run_drift(Given(tmp_path), suites=["colours"], streams=5, runs=3, results=tmp_path / "results")
    *table, line = capsys.readouterr().out.splitlines()
    assert any(row.startswith("clear") and "dark" in row for row in table)
    (file,) = (tmp_path / "results").glob("drift-*.json")
    stored = json.loads(file.read_text())
    assert stored == json.loads(line)
    changes = stored["suites"]["colours"]["changes"]
    assert {row["environment"] for row in changes if row["calibrated"] == "clear"} == {"dark", "noise"}
    assert set(stored["us"]) == {"32x32", "224x224"}
