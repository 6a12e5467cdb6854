"""Claims about processes that share tasks: results come in order, and are those of one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.world import World
from training.cluster.processes import Processes
from training.data.splits import FIT, TUNE
from training.outcomes.folds import grouped_folds
from training.search.candidates import Situation
from training.search.simulations import recalibrate, simulate
from zoo.errors import DataError, ZooError

COSTS_MS = {"tiny": 0.1, "small": 0.3, "full": 1.0}
UNGUARDED = """
from training.cluster.processes import Processes
print("once")
with Processes(2) as processes:
    print(sum(processes.run(pow, 2, range(10))))
"""


@pytest.fixture(scope="module")
def two() -> object:
    with Processes(2) as processes:
        yield processes


def times(shared: NDArray[np.float64], task: int) -> float:
    assert not shared.flags.writeable  # mapped, not copied
    return float(shared[task]) * task


def ending(_: None, task: int) -> int:
    if task == 1:
        os._exit(9)
    return task


def looking(kept: dict[int, int], _: int) -> int:
    return len(kept)


def refusing(_: None, task: int) -> int:
    raise DataError(f"expected another task, got {task}.")


def test_results_come_in_the_order_of_the_tasks(two: Processes) -> None:
    many = np.arange(100_000.0)
    assert two.run(times, many, range(40)) == [float(i * i) for i in range(40)]


def test_what_is_made_of_results_may_be_kept_where_the_tasks_look(two: Processes) -> None:
    kept: dict[int, int] = {}
    for task, found in enumerate(two.run(looking, kept, range(200))):
        kept[task] = found
    assert set(kept.values()) == {0}


def test_an_error_of_ours_comes_back_as_it_was_raised(two: Processes) -> None:
    with pytest.raises(DataError, match=r"expected another task, got [01]\."):
        two.run(refusing, None, range(2))


def test_a_process_that_ends_is_said(two: Processes) -> None:
    with pytest.raises(ZooError, match="got one that was ended; there may be too little memory"):
        two.run(ending, None, range(4))


@pytest.mark.parametrize("jobs", [0, -1, 1000])
def test_refuses_a_number_of_jobs_that_is_none(jobs: int) -> None:
    with pytest.raises(DataError, match=f"jobs: expected 1 to 256 processes, got {jobs}"):
        Processes(jobs)


def test_the_program_that_calls_needs_no_guard(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(UNGUARDED)
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        timeout=100,
        env=given,
    )
    assert done.stdout.split() == ["once", str(2**10 - 1)], done.stderr


def test_a_search_finds_the_same_with_one_job_and_with_two(world: World, two: Processes) -> None:
    development = world.outcomes.split(FIT, TUNE)
    folds = grouped_folds(development.groups)
    found = []
    for processes in (Processes(1), two):
        at = Situation(development, development, folds, COSTS_MS, 0.01, 0.005)
        simulate(at, ("cascade", "probe"), processes)
        recalibrate(at, at.outcomes.models, processes)
        found.append(at)
    one, other = found
    assert list(one.known) == list(other.known)
    assert len(one.known) > 30
    for name, points in one.known.items():
        for point, same in zip(points, other.known[name], strict=True):
            assert (point.threshold, point.doubt, point.right) == (same.threshold, same.doubt, same.right)
            np.testing.assert_array_equal(point.costs_ms, same.costs_ms)
            np.testing.assert_array_equal(point.counts, same.counts)
    for model, fitted in one.pools.known.items():
        for fit, same_fit in zip(fitted.fits, other.pools.known[model].fits, strict=True):
            assert fit.scale == same_fit.scale
            np.testing.assert_array_equal(fit.bias, same_fit.bias)
            np.testing.assert_array_equal(fit.weights, same_fit.weights)
