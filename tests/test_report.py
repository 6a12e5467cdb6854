"""Claims about reports: true to the figures, readable anywhere, safe with any name."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from training.callouts import Callout, place_callouts
from training.evaluation import Evaluation, FrontierCurve, MethodRow, wilson_interval
from training.plots import DARK, darken, frontier_plot, model_colours
from training.report import percent, render, table, verdict
from zoo.errors import DataError, ZooError


def method(name: str, kind: Any, accuracy: float, mean_ms: float, **more: Any) -> MethodRow:
    low, high = wilson_interval(round(accuracy * 1000), 1000)
    facts = {
        "precision": None,
        "p95_ms": mean_ms * 2,
        "shares": {name: 1.0},
        "certified": None,
        "wall_clock": True,
        **more,
    }
    return MethodRow(
        name, kind, accuracy=accuracy, accuracy_low=low, accuracy_high=high, mean_ms=mean_ms, **facts
    )


MIX = {"tiny": 0.61, "small": 0.3, "full": 0.09}
EVALUATION = Evaluation(
    title="Digits under changing environments",
    subtitle="1,000 test images",
    asked_precision=0.95,
    rows=[
        method("full", "single", 0.965, 1.2),
        method("tiny", "single", 0.84, 0.03),
        method("small", "single", 0.953, 0.4),
        method("zooselect", "ours", 0.92, 0.1, precision=0.9, certified=True, shares=MIX),
        method("zooselect", "ours", 0.955, 0.2, precision=0.95, certified=True, shares=MIX),
        method("zooselect", "ours", 0.96, 0.9, precision=0.99, certified=False, shares=MIX),
        method("oracle", "oracle", 0.99, 0.05, shares=MIX, wall_clock=False),
    ],
    curves=[FrontierCurve("zooselect", "ours", [(0.1, 0.92), (0.2, 0.955), (0.9, 0.96)])],
    mixes=[(0.9, MIX), (0.95, MIX)],
    environments={"clear": {"zooselect": 0.98, "tiny": 0.9}, "noise": {"zooselect": 0.93, "tiny": 0.7}},
    reliability={"tiny": [(0.2, 0.25, 10), (0.9, 0.88, 90), (0.5, 0.0, 0)], "full": [(0.95, 0.96, 100)]},
    features=[("brightness_mean", True, "0.8 µs"), ("hue", False, "constant")],
    facts=[("device", "this-machine")],
    notes=["The oracle is a ceiling."],
    next_commands=["zooselect predict --help"],
)
EMPTY = Evaluation("Nothing", "", None, [], [], [], {}, {}, [], [], [], [])


def rendered(evaluation: Evaluation, folder: Path) -> str:
    render(evaluation, folder / "report.html")
    return (folder / "report.html").read_text("utf-8")


class Balance(HTMLParser):
    """Collects the text of a page and insists that every element is closed."""

    void = frozenset({"meta", "img", "source", "link", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def visible(page: str) -> str:
    parser = Balance()
    parser.feed(page)
    assert not parser.open
    return re.sub(r"\s+", " ", " ".join(parser.text))


def test_the_page_shows_every_figure(tmp_path: Path) -> None:
    text = visible(rendered(EVALUATION, tmp_path))
    for shown in ("6.0× faster", "2.0× faster", "95.5 %", "0.200 ms", "Certified", "~ 0.050", "98.0 %"):
        assert shown.replace("~ ", "~") in text
    for shown in ("brightness_mean", "constant", "this-machine", "ceiling", "zooselect predict --help"):
        assert shown in text


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = rendered(EVALUATION, tmp_path)
    links = re.findall(r'\b(?:src|srcset|href|action)="([^"]*)"', page)
    assert len(links) == 8
    assert all(link.startswith("data:image/svg+xml;base64,") for link in links)
    assert not re.search(r"<script|@import|url\(|https?:", page)


def test_equal_evaluations_give_equal_pages(tmp_path: Path) -> None:
    assert rendered(EVALUATION, tmp_path) == rendered(EVALUATION, tmp_path)


def test_an_evaluation_without_anything_is_a_page_and_a_table(tmp_path: Path) -> None:
    assert "Nothing" in visible(rendered(EMPTY, tmp_path))
    assert "method" in table(EMPTY)


@pytest.mark.parametrize("row", [0, 3, 6])
def test_one_row_of_any_kind_is_enough(tmp_path: Path, row: int) -> None:
    one = dataclasses.replace(EMPTY, rows=[EVALUATION.rows[row]])
    assert EVALUATION.rows[row].name in visible(rendered(one, tmp_path))


def test_names_are_text_whatever_they_hold(tmp_path: Path) -> None:
    name = "<script>alert(1)</script> $x_1$ {{ e }} 模型 & co"
    odd = dataclasses.replace(
        EVALUATION,
        title=name,
        rows=[method(name, "single", 0.9, 1.0), method(name, "ours", 0.9, 0.5)],
        environments={name: {name: 0.5}},
        reliability={name: [(0.5, 0.5, 3)]},
        features=[(name, True, name)],
        notes=[name],
    )
    page = rendered(odd, tmp_path)
    assert "<script" not in page
    assert visible(page).count("<script>alert(1)</script> $x_1$ {{ e }} 模型") > 5
    assert "$x_1$" in frontier_plot(odd)


def test_a_slower_selector_is_called_slower(tmp_path: Path) -> None:
    slow = method("zooselect", "ours", 0.9531, 2.4, precision=0.95, certified=False)
    page = visible(rendered(dataclasses.replace(EVALUATION, rows=[*EVALUATION.rows[:3], slow]), tmp_path))
    assert "2.0× slower" in page
    assert "1.2 points less accurate" in page
    assert "just as accurate" in page
    assert "Not certified" in page


def test_the_selector_is_compared_with_the_best_and_with_the_cheapest_that_is_enough() -> None:
    best, enough = verdict(EVALUATION)
    assert (best.row.name, round(best.times, 6), best.faster) == ("full", 6.0, True)
    assert (enough.row.name, round(enough.times, 6)) == ("small", 2.0)
    assert enough.points == pytest.approx(0.2)
    assert not verdict(dataclasses.replace(EVALUATION, rows=EVALUATION.rows[:3]))


def test_a_page_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ZooError, match="cannot write"):
        render(EVALUATION, tmp_path / "file" / "report.html")


def test_the_table_lines_up_and_marks_what_was_not_timed() -> None:
    lines = table(EVALUATION).splitlines()
    assert lines[0].split("  ")[0] == "method"
    assert "95 % ✓" in lines[6]
    assert "tiny 61 % · small 30 % · full 9 %" in lines[6]
    assert "99 % ✗" in lines[7]
    assert "~0.050" in lines[8]
    assert lines[-1].startswith("~ added up")
    assert {line.index(".", 30) for line in lines[2:9]} == {lines[2].index(".", 30)}


@settings(max_examples=60)
@given(
    names=st.lists(
        st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True), min_size=1, max_size=12, unique=True
    ),
    width=st.integers(72, 140),
)
def test_the_table_fits_its_width(names: list[str], width: int) -> None:
    shares = dict.fromkeys(names, 1 / len(names))
    rows = [method(name, "single", 0.9, 1.0) for name in names]
    rows.append(method("ours", "ours", 0.955, 123.4, precision=0.955, certified=True, shares=shares))
    text = table(dataclasses.replace(EVALUATION, rows=rows), width)
    assert max(map(len, text.splitlines())) <= width
    squeezed = re.sub(r"\s", "", text)
    assert all(name in squeezed or len(name) > 26 for name in names)


def test_shares_are_never_rounded_to_all_or_nothing() -> None:
    assert [percent(share) for share in (0, 0.0001, 0.5, 0.9999, 1)] == [
        "0.0 %",
        "< 0.1 %",
        "50.0 %",
        "> 99.9 %",
        "100.0 %",
    ]
    assert percent(0.004, 0) == "< 1 %"


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


@pytest.mark.parametrize("times", [(1.0, 1.0), (1.0, 1.1), (0.001, 5000.0), (0.0, 1.0)])
def test_plots_take_any_range_of_times(times: tuple[float, float]) -> None:
    rows = [method(f"m{i}", "single", 0.5, time) for i, time in enumerate(times)]
    for narrow in (False, True):
        assert "m1" in frontier_plot(dataclasses.replace(EVALUATION, rows=rows), narrow=narrow)


def test_model_colours_are_distinct_and_stay_with_the_name() -> None:
    names = [f"m{i}" for i in range(12)]
    colours = model_colours(names)
    assert len(set(colours.values())) == 12
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours.values())
    assert model_colours([]) == {}


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


def test_the_best_guess_of_what_matters_comes_from_the_rows() -> None:
    assert [row.name for row in EVALUATION.singles] == ["tiny", "small", "full"]
    assert EVALUATION.reference is EVALUATION.rows[0]
    assert EVALUATION.cheapest_enough is EVALUATION.rows[2]
    assert EVALUATION.ours is EVALUATION.rows[4]
    assert EVALUATION.models == ["tiny", "small", "full"]
    assert dataclasses.replace(EVALUATION, asked_precision=None).ours is EVALUATION.rows[3]
    assert (EMPTY.reference, EMPTY.cheapest_enough, EMPTY.ours) == (None, None, None)


def test_wilson_intervals_are_those_of_the_literature() -> None:
    low, high = wilson_interval(15, 20)  # Newcombe 1998 gives such figures to three digits
    assert (round(low, 3), round(high, 3)) == (0.531, 0.888)
    assert wilson_interval(0, 10)[0] == 0.0
    assert wilson_interval(10, 10)[1] == 1.0
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_wilson_intervals_hold_the_share_or_are_refused(k: int, n: int) -> None:
    if k > n:
        with pytest.raises(DataError, match="between 0 and the"):
            wilson_interval(k, n)
    elif n:
        low, high = wilson_interval(k, n)
        assert 0 <= low <= k / n <= high <= 1
