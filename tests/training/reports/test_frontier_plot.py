"""Claims about the plot of all methods: legible with many of them and at any range of times."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.support.evaluations import EMPTY, EVALUATION, MIX, method
from training.reports.callouts import Callout, place_callouts
from training.reports.frontier_plot import best_peers, best_so_far, frontier_plot


def test_of_many_peers_only_the_best_are_named_in_the_plot() -> None:
    assert best_peers(EVALUATION, 3) == ["peer-6", "peer-5", "peer-4"]
    wide, narrow = frontier_plot(EVALUATION), frontier_plot(EVALUATION, narrow=True)
    assert [f"peer-{i}" in wide for i in range(7)] == [i >= 3 for i in range(7)]
    assert [f"peer-{i}" in narrow for i in range(7)] == [i >= 5 for i in range(7)]


def test_a_line_joins_settings_that_nothing_cheaper_beats() -> None:
    assert best_so_far([(0.3, 0.8), (0.1, 0.7), (0.2, 0.9), (0.2, 0.95), (0.4, 0.96)]) == [
        (0.1, 0.7),
        (0.2, 0.95),
        (0.4, 0.96),
    ]
    assert best_so_far([]) == []


def test_a_distant_oracle_does_not_squeeze_the_plot() -> None:
    rows = [*EVALUATION.rows[2:5], method("oracle", "oracle", 0.999, 0.05, shares=MIX)]
    near = dataclasses.replace(EMPTY, rows=[method("a", "single", 0.80, 1.0), *rows])
    far = dataclasses.replace(
        EMPTY, rows=[method("a", "single", 0.81, 1.0), method("b", "single", 0.8, 0.5), rows[-1]]
    )
    assert "above" not in frontier_plot(near)
    assert "oracle 99.9 %, above" in frontier_plot(far)


@pytest.mark.parametrize("times", [(1.0, 1.0), (1.0, 1.1), (0.001, 5000.0), (0.0, 1.0)])
def test_plots_take_any_range_of_times(times: tuple[float, float]) -> None:
    rows = [method(f"m{i}", "single", 0.5, time) for i, time in enumerate(times)]
    for narrow in (False, True):
        assert "m1" in frontier_plot(dataclasses.replace(EVALUATION, rows=rows), narrow=narrow)


@pytest.mark.parametrize("seed", range(5))
def test_names_in_a_plot_do_not_cover_each_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    figure = Figure(figsize=(8.6, 4.6), dpi=72)
    axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1))
    figure.draw_without_rendering()
    points = rng.normal(0.5, 0.12, (14, 2)).clip(0.05, 0.95)
    callouts = [Callout(f"resnet{20 + i}-int8", (x, y), "black") for i, (x, y) in enumerate(points.tolist())]
    boxes = place_callouts(axes, callouts, [[(0.0, 0.2), (1.0, 0.8)]])
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


@pytest.mark.parametrize("narrow", [False, True])
def test_every_single_model_is_named(narrow: bool) -> None:
    rng = np.random.default_rng(0)
    names = [f"model-number-{i}" for i in range(16)]
    rows = [method(name, "single", rng.uniform(0.6, 0.9), rng.uniform(0.5, 20)) for name in names]
    svg = frontier_plot(dataclasses.replace(EMPTY, rows=rows), narrow=narrow)
    assert all(f">{name}</text>" in svg for name in names)


def test_a_name_too_long_for_a_narrow_plot_keeps_both_ends() -> None:
    rows = [method("a-very-long-name-of-a-model-0123456789-int8", "single", 0.8, 1.0)]
    svg = frontier_plot(dataclasses.replace(EMPTY, rows=rows), narrow=True)
    assert "a-very-long-na" in svg
    assert "89-int8</text>" in svg


@pytest.mark.parametrize("wall_clock", [True, False])
def test_all_that_is_drawn_is_of_the_clock_that_the_axis_names(wall_clock: bool) -> None:
    rows = [method(f"m{i}", "single", 0.9, 1.0 + i, wall_clock=bool(i)) for i in range(2)]
    rows.append(method("ours", "ours", 0.9, 1.0, wall_clock=wall_clock))
    curves = [dataclasses.replace(EVALUATION.curves[0], name="line", wall_clock=not wall_clock)]
    svg = frontier_plot(dataclasses.replace(EMPTY, rows=rows, curves=curves))
    assert (">m1<" in svg) == wall_clock
    assert (">m0<" in svg) != wall_clock
    assert ">line<" not in svg
    assert ("timed end to end" if wall_clock else "added up from the latency table") in svg
