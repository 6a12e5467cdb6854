"""Claims about plots: any range of values, light and dark, text in the fonts of the page."""

from __future__ import annotations

import base64
import dataclasses
import re
from pathlib import Path

import pytest

from tests.support.evaluations import EVALUATION, rendered
from training.evaluation.records import (
    GuaranteeRow,
)
from training.reports.frontier_plot import frontier_plot
from training.reports.plots import DARK, darken, model_colours, reliability_plot
from training.reports.spread_plots import guarantee_plot, noise_limit, times_plot


def test_histograms_name_mean_and_tail_and_leave_methods_without_calls_out() -> None:
    svg = times_plot({"zooselect": [1.0] * 90 + [11.0] * 10, "idle": []}, {})
    assert "mean 2, 95 % within 11 ms" in svg
    assert "idle" not in svg


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("calls", [[0.0], [1.0, 1.0], [1e-3, 5e3]])
def test_histograms_take_any_range_of_times(calls: list[float], narrow: bool) -> None:
    assert "mean" in times_plot({"a": calls, "b": [1.0]}, {}, narrow=narrow)


def test_chance_may_add_to_what_is_allowed() -> None:
    row = GuaranteeRow(100, 200, 0, None)
    assert noise_limit(row) == pytest.approx(0.08)
    assert noise_limit(dataclasses.replace(row, splits=20_000)) < 0.054
    assert "allowed" in guarantee_plot([row], narrow=True)


def test_a_long_name_above_a_reliability_diagram_is_broken_into_lines() -> None:
    names = " + ".join(f"model-number-{i}" for i in range(4))
    svg = reliability_plot({names: [(0.5, 0.5, 3)]}, {"model-number-3": "#123456"})
    assert all(f"model-number-{i}" in svg for i in range(4))
    assert names not in svg
    assert "#123456" in svg


def test_plots_have_a_dark_form_without_any_light_colour() -> None:
    svg = frontier_plot(EVALUATION)
    assert all(colour in svg for colour in DARK)
    assert not any(colour in darken(svg) for colour in DARK)


def test_plots_are_text_in_the_fonts_of_the_page(tmp_path: Path) -> None:
    page = rendered(EVALUATION, tmp_path)
    for uri in re.findall(r"base64,([^\"]+)", page):
        svg = base64.b64decode(uri).decode()
        assert svg.startswith("<svg")
        assert "system-ui" in svg
        assert "DejaVu" not in svg


def test_model_colours_are_distinct_and_stay_with_the_name() -> None:
    names = [f"m{i}" for i in range(12)]
    colours = model_colours(names)
    assert len(set(colours.values())) == 12
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours.values())
    assert model_colours([]) == {}
