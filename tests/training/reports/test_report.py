"""Claims about reports: true to the figures, readable anywhere, safe with any name."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from training.commands.report import register
from typer.testing import CliRunner, Result

from tests.support.world import World
from training.data.folder import folder as image_folder
from training.evaluation.records import (
    Evaluation,
    FeatureShown,
    FrontierCurve,
    GuaranteeRow,
    MethodRow,
    wilson_interval,
)
from training.fitting.export import export_bundle
from training.fitting.fit import fit
from training.fitting.fitted import save_fit
from training.outcomes.profile import profile
from training.reports.callouts import Callout, place_callouts
from training.reports.frontier_plot import best_peers, best_so_far, frontier_plot
from training.reports.method_table import percent, table
from training.reports.page import render, verdict
from training.reports.plots import DARK, darken, model_colours, reliability_plot
from training.reports.spread_plots import guarantee_plot, noise_limit, times_plot
from training.search.comparisons import Comparison, StorageRow
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
        *(method(f"peer-{i}", "peer", 0.9 + i / 200, 0.3 + i / 50, shares=MIX) for i in range(7)),
    ],
    curves=[
        FrontierCurve("zooselect", "ours", [(0.1, 0.92), (0.2, 0.955), (0.9, 0.96)]),
        *(FrontierCurve(f"peer-{i}", "peer", [(0.1, 0.8 + i / 100), (0.9, 0.9)]) for i in range(7)),
    ],
    mixes=[(0.9, MIX), (0.95, MIX)],
    environments={"clear": {"zooselect": 0.98, "tiny": 0.9}, "noise": {"zooselect": 0.93, "tiny": 0.7}},
    reliability={"tiny": [(0.2, 0.25, 10), (0.9, 0.88, 90), (0.5, 0.0, 0)], "full": [(0.95, 0.96, 100)]},
    features=[FeatureShown("brightness_mean", True, "kept", 0.8), FeatureShown("hue", False, "constant")],
    facts=[("device", "this-machine")],
    notes=["The oracle is a ceiling."],
    next_commands=["zooselect predict --help"],
    gain=(0.012, 0.004),
    times={"zooselect": [0.1, 0.1, 0.4, 0.1], "full": [1.2, 1.3, 1.1]},
    guarantee=[GuaranteeRow(100, 200, 2, None, 0), GuaranteeRow(1000, 200, 9, 1.25, 200)],
    comparisons=[
        Comparison(
            kind="probe",
            label="probe, committee",
            models=("tiny", "full"),
            reaches=True,
            accuracy=0.951,
            mean_ms=0.21,
            chosen=True,
        )
    ],
    storage=[StorageRow(size_bytes=8412, models=("tiny",), reaches=False, accuracy=0.84, mean_ms=0.03)],
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


def test_the_table_lines_up_and_marks_what_was_not_timed() -> None:
    lines = table(EVALUATION).splitlines()
    assert lines[0].split("  ")[0] == "method"
    assert "95 % ✓" in lines[6]
    assert "tiny 61 % · small 30 % · full 9 %" in lines[6]
    assert "99 % ✗" in lines[7]
    assert "~0.050" in lines[8]
    assert lines[-1].startswith("~ added up")
    assert {line.index(".", 30) for line in lines[2:9]} == {lines[2].index(".", 30)}


def test_the_table_names_the_models_that_answer_most_and_adds_up_the_rest() -> None:
    shares = {"a": 0.3, "b": 0.02, "c": 0.25, "d": 0.2, "e": 0.2, "f": 0.03}
    text = table(dataclasses.replace(EMPTY, rows=[method("ours", "ours", 0.9, 1.0, shares=shares)]))
    assert "a 30 % · c 25 % · d 20 % · e 20 %" in text
    assert "others 5 %" in text


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


def test_the_fastest_equal_of_other_methods_is_compared_if_timed_alike() -> None:
    as_good = [method("slow", "peer", 0.96, 0.8), method("quick", "peer", 0.956, 0.4)]
    adding = [method("added up", "peer", 0.97, 0.3, wall_clock=False), method("worse", "peer", 0.9, 0.1)]
    rows = [*EVALUATION.rows[:7], *as_good, *adding]
    assert verdict(dataclasses.replace(EVALUATION, rows=rows))[-1].row.name == "quick"


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
    assert all(name in squeezed or len(name) > 20 for name in names)  # a longer one may take two lines


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
    assert dataclasses.replace(EVALUATION, reference_model="small").reference is EVALUATION.rows[2]
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


def report(*arguments: object) -> Result:
    """Run the command as a user does."""
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


@pytest.fixture(scope="module")
def made(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images of colours, and profile, fit and bundle of them."""
    folder = tmp_path_factory.mktemp("made")
    for i in range(120):
        image = Image.fromarray(world.data.image(3 * i))
        path = folder / "photos" / world.data.classes[world.data.labels[3 * i]] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    profile(world.zoo, image_folder(folder / "photos"), folder / "profile", progress=False)
    fitted = fit(folder / "profile", world.zoo, world.table, precision=0.6, policy="cascade")
    save_fit(fitted, folder / "fit")
    export_bundle(fitted, world.zoo, folder / "bundle")
    return folder


def test_the_command_writes_a_page_about_what_was_fitted(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    result = report(
        "--fit", made / "fit", "--profile", made / "profile", "--out", out, "--title", "My camera"
    )
    assert result.exit_code == 0, result.output
    text = visible(out.read_text("utf-8"))
    for shown in ("My camera", "Why this policy", "When storage is short", "added up from measured costs"):
        assert shown in text
    assert "How long one answer takes" not in text


def test_with_images_the_times_on_the_page_are_real(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    result = report(
        *("--fit", made / "fit", "--profile", made / "profile", "--out", out, "--json"),
        *("--bundle", made / "bundle", "--data", made / "photos", "--precision", "0.5"),
    )
    assert result.exit_code == 0, result.output
    facts = json.loads(result.output.splitlines()[-1])
    assert facts["wall_clock"]
    assert facts["asked"] == "precision 0.5"
    text = visible(out.read_text("utf-8"))
    assert "How long one answer takes" in text
    assert "timed end to end" in text


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--data", "digits"], "expected --bundle with --data"),
        (["--bundle", "somewhere"], "expected --data with --bundle"),
        (["--precision", "0.9", "--max-drop", "0.1"], "Give only one"),
        (["--out", "."], "Name --out my-report.html"),
    ],
)
def test_the_command_says_what_is_missing(made: Path, arguments: list[str], advice: str) -> None:
    result = report("--fit", made / "fit", "--profile", made / "profile", *arguments)
    assert isinstance(result.exception, ZooError)
    assert advice in str(result.exception)


def test_help_has_an_example() -> None:
    assert "Example: zooselect report --bundle" in re.sub(r"\s+", " ", report("--help").output)
