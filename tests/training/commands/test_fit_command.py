"""Claims about the command fit: what it certifies, what it cannot, and what its options mean."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from tests.support.command_line import CommandLine
from tests.support.small_models import plain_image
from tests.support.world import CANDIDATES, World, steady
from zoo.models.latency import save_table


@pytest.fixture(scope="module", autouse=True)
def given_costs() -> Iterator[None]:
    """What decisions and features cost does not depend on the machine of the tests."""
    with steady():
        yield


def test_a_fit_that_certifies_nothing_says_what_can_be(
    zooselect: CommandLine, world: World, tmp_path: Path
) -> None:
    save_table(world.table, tmp_path / "table.json")
    arguments = ("fit", "--zoo", world.zoo.folder, "--profile", world.profile, "--latency", "table.json")
    options = ("--policy", "cascade", "--precision", 0.995)
    done = zooselect(*arguments, *options)
    assert "Not certified with 256 certify samples: precision 0.995" in done.err
    assert "the highest precision that can be certified is 0.9" in done.err
    zooselect(*arguments, *options, "--require-certified", "--json", code=3)
    assert "input: decide" not in done.out
    rows = [line.split() for line in done.err.splitlines() if line.startswith("--precision")]
    assert len(rows) > 1
    levels, times = ([float(row[column]) for row in rows] for column in (1, 3))
    assert levels == sorted(levels, reverse=True)
    assert times == sorted(times, reverse=True)
    again = zooselect(*arguments, "--policy", "cascade", "--precision", levels[0], "--list", "--json").json()
    known = {one["constraint"]["level"]: one["mean_ms"] for one in again}
    assert all(ms <= round(known[level], 3) for level, ms in zip(levels, times, strict=True))
    assert re.search(rf"To have the nearest: zooselect fit .* --precision {levels[0]:g}\.", done.err)


def test_what_could_be_certified_is_listed_and_nothing_is_written(
    zooselect: CommandLine, world: World, tmp_path: Path
) -> None:
    save_table(world.table, tmp_path / "table.json")
    arguments = ("fit", "--zoo", world.zoo.folder, "--profile", world.profile, "--latency", "table.json")
    options = ("--policy", "cascade", "--accuracy", 0.8, "--list")
    done = zooselect(*arguments, *options)
    assert not Path("my-selector").exists()
    rows = [line.split() for line in done.out.splitlines() if line.startswith("--precision")]
    levels, times = ([float(row[column]) for row in rows] for column in (1, 3))
    assert levels == sorted(set(levels), reverse=True)
    assert times == sorted(set(times), reverse=True)
    assert levels[0] > 0.8
    assert "a line that was picked from the table has less" in done.out
    found = zooselect(*arguments, *options, "--json").json()
    assert [item["constraint"]["level"] for item in found] == levels
    budgets = zooselect(*arguments, "--policy", "cascade", "--mean-ms", 0.3, "--list", "--json").json()
    limits = [item["constraint"]["level"] for item in budgets]
    assert limits == sorted(set(limits))
    assert len(limits) > 1
    assert limits[0] >= min(row.latency.mean_ms for row in world.table.models.values()), "nothing is faster"


def test_a_certified_selector_is_not_replaced_in_silence(
    zooselect: CommandLine, world: World, tmp_path: Path
) -> None:
    save_table(world.table, tmp_path / "table.json")
    inputs = ("--zoo", world.zoo.folder, "--profile", world.profile, "--latency", "table.json")
    arguments = ("fit", *inputs, "--policy", "cascade")
    zooselect(*arguments, "--precision", 0.8)
    before = Path("my-selector/fit.json").read_bytes()
    done = zooselect(*arguments, "--precision", 0.995)
    assert (
        "Nothing was written: my-selector keeps the selector that is certified for precision 0.8" in done.err
    )
    assert "Written" not in done.out
    assert Path("my-selector/fit.json").read_bytes() == before
    assert "Written to my-selector" in zooselect(*arguments, "--precision", 0.995, "--replace").out
    assert Path("my-selector/fit.json").read_bytes() != before
    zooselect(*arguments, "--precision", 0.996)  # nothing certified is lost


@pytest.mark.parametrize(("option", "level"), [("--precision", 0.8), ("--mean-ms", 0.4)])
def test_what_was_compared_is_printed_best_first(
    zooselect: CommandLine, world: World, tmp_path: Path, option: str, level: float
) -> None:
    save_table(world.table, tmp_path / "table.json")
    inputs = ("--zoo", world.zoo.folder, "--profile", world.profile, "--latency", "table.json")
    done = zooselect("fit", *inputs, "--policy", "cascade", option, level)
    found = re.findall(r"  ([\d.]+)% at ([\d.]+) ms in cross-validation", done.out)
    values = [float(share if option == "--mean-ms" else f"-{ms}") for share, ms in found]
    assert len(values) > 1
    assert values == sorted(values, reverse=True)


def test_a_fit_can_be_narrowed_to_some_models(zooselect: CommandLine, world: World, tmp_path: Path) -> None:
    save_table(world.table, tmp_path / "table.json")
    arguments = ("fit", "--zoo", world.zoo.folder, "--profile", world.profile, "--latency", "table.json")
    done = zooselect(*arguments, "--policy", "cascade", "--models", "full, tiny", "--json")
    assert {card["name"] for card in done.json()["bundle"]["models"]} == {"full", "tiny"}
    assert "no model 'huge'" in zooselect(*arguments, "--models", "huge", code=1).err


def test_an_input_fit_lists_the_features_it_kept(
    zooselect: CommandLine, world: World, tmp_path: Path
) -> None:
    save_table(world.table, tmp_path / "table.json")
    arguments = ("fit", "--zoo", world.zoo.folder, "--profile", world.profile, "--latency", "table.json")
    done = zooselect(*arguments, "--policy", "input", "--precision", 0.8)
    assert "in cross-validation: input features alone, tiny" in done.out
    assert re.search(r"features kept: \d+ of \d+: \w+", done.out)


CONSTRAINTS = [("--max-drop", 0.05), ("--mean-ms", 0.4), ("--p95-ms", 0.5)]


@pytest.mark.parametrize(("option", "level"), CONSTRAINTS)
def test_a_fit_and_an_answer_can_be_asked_for_a_drop_or_a_budget(
    zooselect: CommandLine, world: World, tmp_path: Path, option: str, level: float
) -> None:
    save_table(world.table, tmp_path / "table.json")
    Image.fromarray(plain_image("blue")).save(tmp_path / "x.png")
    inputs = ("--zoo", world.zoo.folder, "--profile", world.profile, "--latency", "table.json")
    done = zooselect("fit", *inputs, "--policy", "cascade", option, level, "--json")
    kind = option[2:].replace("-", "_")
    assert done.json()["bundle"]["default"] == {"kind": kind, "level": level}
    zooselect("export", "--zoo", world.zoo.folder)
    for command in ("select", "predict"):
        row = zooselect(command, "my-bundle", "x.png", option, level, "--json", "--require-certified").json()
        assert row["certified"]
        again = zooselect(command, "my-bundle", "x.png", "--json", "--require-certified").json()
        assert again["model"] == row["model"]
    both = zooselect("fit", *inputs, option, level, "--precision", 0.9, code=1)
    assert f"expected one of these options, got --precision and {option}." in both.err


def test_a_fit_for_one_environment_says_which_there_are(zooselect: CommandLine, world: World) -> None:
    inputs = ("--zoo", world.zoo.folder, "--profile", world.profile)
    save_table(world.table, Path("table.json"))
    done = zooselect("fit", *inputs, "--latency", "table.json", "--environment", "fog", code=1)
    assert "It has: clear, dark, noise." in done.err


def test_an_infeasible_budget_names_the_nearest_feasible_one(
    zooselect: CommandLine, world: World, tmp_path: Path
) -> None:
    save_table(world.table, tmp_path / "table.json")
    Image.fromarray(plain_image("blue")).save(tmp_path / "x.png")
    inputs = ("--zoo", world.zoo.folder, "--profile", world.profile, "--latency", "table.json")
    done = zooselect("fit", *inputs, "--policy", "cascade", "--mean-ms", 0.001)
    assert re.search(r"The nearest that is: mean of at most 0\.1\d* ms\.", done.err)
    done = zooselect("fit", *inputs, "--policy", "cascade", "--max-bytes", 10, code=1)
    assert "expected a budget that some model fits into, got 10 bytes; the smallest needs" in done.err
    done = zooselect("predict", world.bundles["cascade"], "x.png", "--p95-ms", 0.001)
    assert re.search(
        r"95th percentile of at most 0\.001 ms is not certified .*; 0\.1\d* is the nea", done.err
    )


def test_right_can_mean_top_k_or_agreement(zooselect: CommandLine, world: World, tmp_path: Path) -> None:
    save_table(world.table, tmp_path / "table.json")
    inputs = ("--zoo", world.zoo.folder, "--profile", world.profile, "--latency", "table.json")
    done = zooselect("fit", *inputs, "--policy", "cascade", "--top-k", 2, "--json")
    assert done.json()["bundle"]["calibration"]["top_k"] == 2
    done = zooselect("fit", *inputs, "--policy", "cascade", "--no-labels", "--json")
    assert done.json()["bundle"]["calibration"]["agree_with"] == "full"
    assert "k from 1 to 2, got 3" in zooselect("fit", *inputs, "--top-k", 3, code=1).err


def test_times_of_another_device_or_zoo_ask_for_bench_or_another_table(
    zooselect: CommandLine, world: World, tmp_path: Path
) -> None:
    models = {name: row for name, row in world.table.models.items() if name != "full"}
    save_table(msgspec.structs.replace(world.table, models=models), tmp_path / "table.json")
    inputs = ("--zoo", world.zoo.folder, "--profile", world.profile, "--latency", "table.json")
    done = zooselect("fit", *inputs, code=1)
    assert "model 'full' is not in the latency table of device 'bench-top'" in done.err
    assert "Measure again with 'zooselect bench', or name the right table with --latency" in done.err
    missing = zooselect("fit", *inputs[:-1], "nowhere.json", code=1)
    assert "nowhere.json: expected a LatencyTable record" in missing.err


@pytest.mark.parametrize("command", [["fit"], ["make", "digits"]])
def test_two_constraints_are_named_as_they_were_typed(command: list[str], zooselect: CommandLine) -> None:
    done = zooselect(*command, "--precision", 0.9, "--accuracy", 0.9, code=1)
    assert "got --precision and --accuracy, which mean the same" in done.err
    done = zooselect(*command, "--max-drop", 0.1, "--mean-ms", 2, code=1)
    assert "got --max-drop and --mean-ms. Give only one" in done.err


def test_a_latency_table_is_named(zooselect: CommandLine, world: World, tmp_path: Path) -> None:
    shutil.copytree(world.profile, tmp_path / "p")
    save_table(world.table, tmp_path / "p" / "latency" / "kitchen.json")
    arguments = (
        "fit",
        "--zoo",
        world.zoo.folder,
        "--profile",
        "p",
        "--policy",
        "cascade",
        "--precision",
        0.8,
    )
    assert "attic" in zooselect(*arguments, "--costs-of", "attic", code=1).err
    with steady(CANDIDATES["cascade"]):
        assert "certified: precision 0.8" in zooselect(*arguments, "--costs-of", "kitchen").out
