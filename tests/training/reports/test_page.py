"""Claims about report pages: true to the figures, readable anywhere, safe with any name."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from tests.support.evaluations import EMPTY, EVALUATION, MIX, PLAIN, method, rendered, visible
from training.reports.frontier_plot import frontier_plot
from training.reports.method_table import table
from training.reports.page import render, verdict
from zoo.errors import ZooError


def test_the_page_shows_every_figure(tmp_path: Path) -> None:
    text = visible(rendered(EVALUATION, tmp_path))
    for shown in ("6.0× faster", "2.0× faster", "95.5 %", "0.200 ms", "Certified", "~ 0.050", "98.0 %"):
        assert shown.replace("~ ", "~") in text
    for shown in ("brightness_mean", "constant", "this-machine", "ceiling", "zooselect predict --help"):
        assert shown in text
    for shown in ("0.8 µs", "1.2 ± 0.4", "probe, committee chosen tiny → full 95.1 %", "tiny 8.4 kB 84.0 %"):
        assert shown in text.replace("\N{NO-BREAK SPACE}", " ")
    for shown in (
        "1,000 200 100.0 % 4.5 % 5.0 %, 8.0 % 1.25×",
        "peer-6 93.0 %",
        "precision of at least 95 %",
    ):
        assert shown in text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = rendered(EVALUATION, tmp_path)
    links = re.findall(r'\b(?:src|srcset|href|action)="([^"]*)"', page)
    assert len(links) == 16
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
    best, enough, *others = verdict(EVALUATION)
    assert not others
    assert (best.row.name, round(best.times, 6), best.faster) == ("full", 6.0, True)
    assert (enough.row.name, round(enough.times, 6)) == ("small", 2.0)
    assert enough.points == pytest.approx(0.2)
    assert not verdict(dataclasses.replace(EVALUATION, rows=EVALUATION.rows[:3]))


def test_a_page_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ZooError, match="cannot write"):
        render(EVALUATION, tmp_path / "file" / "report.html")


def test_a_constraint_that_is_no_precision_is_named_and_marked(tmp_path: Path) -> None:
    row = method("zooselect", "ours", 0.95, 0.2, certified=True)
    some = dataclasses.replace(EMPTY, rows=[row], asked="mean of at most 2 ms")
    assert "mean of at most 2 ms, proven" in visible(rendered(some, tmp_path))
    assert "✓" in table(some)


def test_features_that_do_not_pay_are_said_not_to(tmp_path: Path) -> None:
    text = visible(rendered(dataclasses.replace(EVALUATION, gain=(-0.034, 0.004)), tmp_path))
    assert "They do not pay on these images: −3.4 ± 0.4 points" in text


def test_the_hardest_environment_comes_first_with_its_distance_to_the_reference(tmp_path: Path) -> None:
    shown = {"clear": {"zooselect": 0.98, "full": 0.97}, "noise": {"zooselect": 0.73, "full": 0.74}}
    text = visible(rendered(dataclasses.replace(EVALUATION, environments=shown), tmp_path))
    assert text.index("noise 73.0") < text.index("clear 98.0")
    assert "−1.0" in text
    assert "+1.0" in text


def test_what_is_left_out_of_an_evaluation_has_no_section(tmp_path: Path) -> None:
    text = visible(rendered(EMPTY, tmp_path))
    for heading in ("By environment", "How long", "What features", "Why this", "guarantee"):
        assert heading not in text


def test_the_fastest_equal_of_other_methods_is_compared_if_timed_alike() -> None:
    as_good = [method("slow", "peer", 0.96, 0.8), method("quick", "peer", 0.956, 0.4)]
    adding = [method("added up", "peer", 0.97, 0.3, wall_clock=False), method("worse", "peer", 0.9, 0.1)]
    rows = [*EVALUATION.rows[:7], *as_good, *adding]
    assert verdict(dataclasses.replace(EVALUATION, rows=rows))[-1].row.name == "quick"


def test_what_another_clock_timed_is_compared_with_nothing_and_said_to_be_left_out(tmp_path: Path) -> None:
    rows = [method("full", "single", 0.965, 1.2, wall_clock=False), *EVALUATION.rows[1:5]]
    mixed = dataclasses.replace(PLAIN, rows=rows, curves=[])
    assert "full" not in [one.row.name for one in verdict(mixed)]
    assert "Not drawn, because timed by another clock: full." in visible(rendered(mixed, tmp_path))


def test_the_level_that_was_asked_for_is_marked(tmp_path: Path) -> None:
    text = visible(rendered(PLAIN, tmp_path)).replace("\N{NO-BREAK SPACE}", " ")
    assert "≥ 95 % asked" in text
    assert "≥ 90 % asked" not in text
    times = dataclasses.replace(
        PLAIN, asked_precision=None, mix_kind="mean_ms", asked_level=0.2, mixes=[(0.1, MIX), (0.2, MIX)]
    )
    shown = visible(rendered(times, tmp_path)).replace("\N{NO-BREAK SPACE}", " ")
    assert "mean ≤ 0.2 ms asked" in shown


def test_who_answers_names_only_models_that_do(tmp_path: Path) -> None:
    rows = [*PLAIN.rows, *(method(f"idle-{i}", "single", 0.7, 2.0 + i) for i in range(3))]
    text = visible(rendered(dataclasses.replace(PLAIN, rows=rows), tmp_path))
    after = text[text.index("Who answers") :]
    assert "at others. tiny small full" in after
    assert "idle" not in after


def test_every_table_scrolls_inside_its_card(tmp_path: Path) -> None:
    page = rendered(EVALUATION, tmp_path)
    tables = re.findall(r'(<div class="scroll">\s*)?<table class="(\w+)', page)
    assert len(tables) >= 4
    assert all(inside or kind == "dropped" for inside, kind in tables)
