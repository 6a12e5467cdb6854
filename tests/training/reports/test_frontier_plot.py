"""Claims about the plot of all methods: legible with many of them and at any range of times."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.support.evaluations import EMPTY, EVALUATION, MIX, method
from training.evaluation.records import Evaluation
from training.reports.callouts import Callout, place_callouts
from training.reports.frontier_plot import _short, best_peers, best_so_far, frontier_plot
from training.reports.plots import styled
from training.reports.point_key import keyed_figure


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


def many(count: int, name: str = "model-number-{}") -> Evaluation:
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0.5, 20, count))
    rows = [
        method(name.format(i), "single", rng.uniform(0.6, 0.9), float(time)) for i, time in enumerate(times)
    ]
    return dataclasses.replace(EMPTY, rows=rows)


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("count", [4, 16, 30])
def test_every_single_model_is_named_once_beside_its_point_or_in_a_key(count: int, narrow: bool) -> None:
    svg = frontier_plot(many(count), narrow=narrow)
    assert all(svg.count(f">model-number-{i}</text>") == 1 for i in range(count))
    numbers = [svg.count(f">{i + 1}</text>") for i in range(count)]
    assert min(numbers) >= (2 if count > 10 else 0), "at the point and in the key"


@pytest.mark.parametrize("narrow", [False, True])
def test_long_names_in_a_key_stay_inside_the_picture(narrow: bool) -> None:
    names = [f"a-network-of-some-length-{i}-adapted-to-the-dark-int8" for i in range(12)]
    figure, axes = keyed_figure([_short(name, narrow) for name in names], ["black"] * 12, 4.0, narrow=narrow)
    with styled():
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in figure.axes[1].texts]
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    assert max(box.y1 for box in boxes) <= axes.get_window_extent().y0
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_lines_to_names_cross_no_other_name() -> None:
    figure = Figure(figsize=(5.0, 4.4), dpi=72)
    axes = figure.add_subplot()
    points = np.random.default_rng(1).uniform(0.3, 0.7, (12, 2))
    callouts = [Callout(f"net-{i}", (x, y), "black") for i, (x, y) in enumerate(points.tolist())]
    boxes = place_callouts(axes, callouts, [])
    ends = axes.transData.transform(points)
    for i, (end, box) in enumerate(zip(ends, boxes, strict=True)):
        line = end + np.linspace(0, 1, 200)[:, np.newaxis] * ((box.min + box.max) / 2 - end)
        for other in boxes[:i] + boxes[i + 1 :]:
            assert not ((line > other.min) & (line < other.max)).all(axis=1).any()


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
