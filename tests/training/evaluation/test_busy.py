"""Claims about busy machines: times that other programs lengthened are not compared."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from selector.commands.tables import wrapped
from selector.policies.constraint import Constraint
from tests.support.command_line import CommandLine
from tests.support.world import World
from training.evaluation.busy import busy_run, busy_table, busy_warning
from training.evaluation.evaluate import evaluate, our_name
from training.evaluation.wallclock import Timed
from training.reports.method_table import table
from training.reports.page import verdict
from zoo.models.latency import LatencyTable, load_table, save_table, summarise

QUIET = [1.0] * 95 + [1.1] * 5
INTERRUPTED = [1.0] * 95 + [5.0] * 5  # the median does not show it


def with_times(world: World, times: list[float]) -> LatencyTable:
    """The table of the world, had `full` taken such multiples of its time."""
    row = world.table.models["full"]
    slow = msgspec.structs.replace(row, latency=summarise(np.array(times * 25) * row.latency.p50_ms))
    return msgspec.structs.replace(world.table, models={**world.table.models, "full": slow})


def interrupted(world: World, runs: int) -> LatencyTable:
    """The table of the world, had other programs interrupted so many further runs of `full`."""
    row = world.table.models["full"]
    more = msgspec.structs.replace(row, latency=msgspec.structs.replace(row.latency, interrupted=runs))
    return msgspec.structs.replace(world.table, models={**world.table.models, "full": more})


def timed(times: list[float], *, waited: float | None = None, certified: bool | None = None) -> Timed:
    right = np.ones(len(times), dtype=bool)
    values = np.array(times)
    return Timed("a", right, values, values, {"a": 1.0}, certified, waited)


def test_a_table_is_busy_where_runs_took_far_more_than_their_medians(world: World) -> None:
    assert busy_table(world.table, world.zoo.names) == ""
    assert busy_table(with_times(world, QUIET), world.zoo.names) == ""
    assert "the machine was busy when the latency table of bench-top was measured: 16%" in busy_table(
        with_times(world, INTERRUPTED), world.zoo.names
    )
    assert busy_table(with_times(world, INTERRUPTED), ["tiny"]) == "", "only models that are used count"


def test_a_table_is_busy_where_more_than_a_tenth_of_the_runs_were_interrupted(world: World) -> None:
    runs = world.table.models["full"].latency.runs
    assert busy_table(interrupted(world, runs // 10), world.zoo.names) == ""
    found = busy_table(interrupted(world, runs), world.zoo.names)
    assert "other programs interrupted 50% of the runs of a model" in found
    assert busy_table(interrupted(world, runs), ["tiny"]) == "", "only models that are used count"
    assert busy_warning(world.table, world.zoo.names) == ""
    warning = busy_warning(interrupted(world, runs), world.zoo.names)
    assert warning.startswith("warning: the machine was busy")
    assert re.search("'zooselect bench .*--device bench-top", warning)


def test_a_median_that_is_not_known_well_is_not_compared(world: World) -> None:
    unsteady = with_times(world, [1.0] * 50 + [1.15] * 50)
    assert "the 95 % interval of the median of full" in busy_table(unsteady, world.zoo.names)


@pytest.mark.parametrize(("waited", "busy"), [(0.0, False), (0.09, False), (0.4, True)])
def test_a_run_is_busy_where_the_program_waited_for_a_processor(waited: float, busy: bool) -> None:
    found = busy_run([timed(INTERRUPTED, waited=waited)])
    assert bool(found) == busy
    assert ("40% of that time" in found) == busy


def test_where_several_threads_answer_single_models_show_what_was_lost() -> None:
    assert busy_run([timed(QUIET), timed(INTERRUPTED, certified=True)]) == "", "our own answers may differ"
    assert "went to other programs" in busy_run([timed(INTERRUPTED)])
    assert busy_run([]) == ""


def test_a_busy_machine_gives_no_ratio_anywhere_but_says_what_to_do(world: World) -> None:
    fitted = world.fits["cascade"]
    calm = evaluate(fitted, world.profile, latency=world.table)
    assert not calm.busy
    assert verdict(calm)
    found = evaluate(fitted, world.profile, latency=interrupted(world, 500))
    assert verdict(found) == []
    assert re.search("on a quiet machine with 'zooselect bench .*--device bench-top", found.finding)
    assert found.finding == found.busy, "where no single model is as good"
    assert table(found).replace("\n", " ").startswith(found.busy)
    assert not any("of the time of" in note or "no faster than" in note for note in found.notes)


def test_the_table_in_the_profile_counts_if_the_costs_are_from_it(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.profile, tmp_path / "profile")
    path = tmp_path / "profile" / "latency" / "bench-top.json"
    save_table(interrupted(world, 500), path)
    assert "interrupted 50% of the runs" in evaluate(world.fits["cascade"], tmp_path / "profile").busy
    save_table(with_times(world, [2 * one for one in INTERRUPTED]), path)
    assert not evaluate(world.fits["cascade"], tmp_path / "profile").busy, "nothing is known of these costs"


def test_a_run_that_leaves_a_model_out_does_not_mix_two_clocks(world: World) -> None:
    asked = Constraint(kind="precision", level=0.9)
    simulated = evaluate(world.fits["cascade"], world.profile)
    some = dataclasses.replace(timed([9.0]), name=our_name(asked), certified=True)
    found = evaluate(world.fits["cascade"], world.profile, timed=[some])
    assert found.rows == simulated.rows
    assert found.curves == simulated.curves
    assert not found.wall_clock


def test_what_to_do_about_a_busy_machine_is_a_command_that_runs(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zooselect: CommandLine
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(world.profile, "a profile")
    path = Path("a profile") / "latency" / "bench-top.json"
    save_table(interrupted(world, world.table.models["full"].latency.runs), path)
    found = evaluate(world.fits["cascade"], "a profile", zoo=world.zoo)
    (again,) = re.findall(r"on a quiet machine with '(zooselect .*)', then run 'zooselect fit'", found.busy)
    assert again in wrapped(found.busy, 40), "it stays in one line"
    before = path.read_bytes()
    done = zooselect(*shlex.split(again)[1:], "--runs", 20)
    assert "Next: zooselect fit" in done.out
    assert path.read_bytes() != before
    assert load_table(path).image == world.table.image
