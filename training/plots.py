"""The plots of a report: SVG text whose colours can be exchanged for a dark page."""

from __future__ import annotations

import contextlib
import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from training.callouts import Callout, place_callouts
from training.evaluation import Evaluation, FrontierCurve

INK, MUTED, GRID, OURS, ORACLE = "#1b2431", "#667084", "#e3e7ed", "#d9480f", "#94690f"
DARK = {INK: "#e8ebf1", MUTED: "#98a3b5", GRID: "#2b3445", OURS: "#ff9248", ORACLE: "#e0b54a"}
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_COLOURS = {"ours": OURS, "oracle": ORACLE}
_RAMP = ("#1ba39c", "#2f80d0", "#6a5bd0", "#b1479f")  # cheap to expensive
_STYLE: Any = {
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "sans-serif"],
    "font.size": 9.0,
    "svg.fonttype": "none",
    "svg.hashsalt": "zooselect",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}


def model_colours(models: Sequence[str]) -> dict[str, str]:
    """A colour for every model, along one ramp from the first to the last."""
    ramp = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in _RAMP], dtype=float)
    places = np.linspace(0, len(ramp) - 1, max(len(models), 2))
    colours = {}
    for name, place in zip(models, places, strict=False):
        rgb = [round(float(np.interp(place, range(len(ramp)), ramp[:, i]))) for i in range(3)]
        colours[name] = "#" + "".join(f"{value:02x}" for value in rgb)
    return colours


def darken(svg: str) -> str:
    """The same plot for a dark page."""
    for light, dark in DARK.items():
        svg = svg.replace(light, dark)
    return svg


def frontier_plot(evaluation: Evaluation, *, narrow: bool = False) -> str:
    """Accuracy against mean time: single models as points, the selector as a line, the oracle."""
    with _style():
        figure = Figure(figsize=(3.8, 4.2) if narrow else (8.6, 4.6), dpi=72, layout="constrained")
        axes = figure.add_subplot()
        _prepare(axes, evaluation)
        for curve in evaluation.curves:
            _curve(axes, curve)
        colours = model_colours(evaluation.models)
        callouts = []
        for row in evaluation.rows:
            chosen = row is evaluation.ours
            if row.kind == "ours" and not chosen:
                continue
            colour = colours.get(row.name, INK) if row.kind == "single" else _COLOURS.get(row.kind, MUTED)
            spread = [
                [max(0.0, row.accuracy - row.accuracy_low)],
                [max(0.0, row.accuracy_high - row.accuracy)],
            ]
            axes.errorbar(
                row.mean_ms,
                row.accuracy,
                yerr=spread,
                marker={"oracle": "*", "peer": "D"}.get(row.kind, "o"),
                markersize={"ours": 9, "oracle": 11, "single": 7}.get(row.kind, 5.5),
                color=colour,
                elinewidth=1.2 if chosen else 0.9,
                zorder=6 if chosen else 4,
            )
            callouts.append(
                Callout(row.name, (row.mean_ms, row.accuracy), OURS if chosen else INK, bold=chosen)
            )
        named = {row.name for row in evaluation.rows}
        for curve in evaluation.curves:
            if curve.name not in named and curve.points:
                callouts.append(Callout(curve.name, max(curve.points), _COLOURS.get(curve.kind, MUTED)))
        figure.draw_without_rendering()
        lines = [
            *(curve.points for curve in evaluation.curves),
            *([(row.mean_ms, row.accuracy_low), (row.mean_ms, row.accuracy_high)] for row in evaluation.rows),
        ]
        if evaluation.asked_precision is not None:
            lines.append([(time, evaluation.asked_precision) for time in axes.get_xlim()])
        place_callouts(axes, callouts, lines)
        return _svg(figure)


def reliability_plot(
    reliability: Mapping[str, Sequence[tuple[float, float, int]]],
    colours: Mapping[str, str],
    *,
    narrow: bool = False,
) -> str:
    """Observed against predicted probability of a right answer, one panel a model."""
    columns = 2 if narrow else 4  # also for one model: the page scales the picture to its own width
    lines = math.ceil(len(reliability) / columns)
    width = 3.8 if narrow else 8.6
    side = width / columns
    with _style():
        figure = Figure(figsize=(side * columns, (side + 0.4) * lines), dpi=72, layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
        for axes in grid.flat[len(reliability) :]:
            axes.set_visible(False)
        for axes, (name, bins) in zip(grid.flat, reliability.items(), strict=False):
            used = [(predicted, observed, count) for predicted, observed, count in bins if count]
            total = sum(count for *_, count in used)
            off = sum(count * abs(p - o) for p, o, count in used) / total if total else 0.0
            axes.plot([0, 1], [0, 1], color=GRID, linewidth=1.2, zorder=1)
            x, y = [p for p, *_ in used], [o for _, o, _ in used]
            axes.plot(x, y, color=colours.get(name, MUTED), linewidth=1.2, alpha=0.55, zorder=2)
            sizes = [6 + 110 * count / total for *_, count in used]
            axes.scatter(x, y, s=sizes, color=colours.get(name, MUTED), zorder=3, linewidths=0)
            axes.set_title(f"{name}\n", fontsize=9, color=INK, loc="left", pad=2)
            axes.text(
                0, 1.03, f"off by {off * 100:.1f} points", transform=axes.transAxes, fontsize=8, color=MUTED
            )
            axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(FixedLocator([0, 1]))
                axis.set_major_formatter(FuncFormatter(lambda value, _: "100 %" if value else "0"))
            axes.tick_params(length=0)
        figure.supxlabel("predicted to be right", fontsize=9, color=MUTED)
        figure.supylabel("were right", fontsize=9, color=MUTED)
        return _svg(figure)


@contextlib.contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # Only the layout uses matplotlib's own font; the page is shown in one that has the glyph.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def _prepare(axes: Axes, evaluation: Evaluation) -> None:
    points = [(row.mean_ms, row.accuracy) for row in evaluation.rows]
    points += [point for curve in evaluation.curves for point in curve.points]
    times = [time for time, _ in points if time > 0]
    if times and max(times) > 10 * min(times):
        axes.set_xscale("log")
        axes.set_xlim(min(times) / 1.5, max(times) * 1.5)
        axes.xaxis.set_major_locator(FixedLocator(_steps(min(times) / 1.5, max(times) * 1.5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif times:
        margin = 0.12 * (max(times) - min(times)) or 0.1 * max(times)
        axes.set_xlim(max(0.0, min(times) - margin), max(times) + margin)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    heights = [height for _, height in points] + [evaluation.asked_precision or points[0][1]]
    margin = max(0.1 * (max(heights) - min(heights)), 0.01)
    axes.set_ylim(max(0.0, min(heights) - margin), min(1.0 + margin / 3, max(heights) + margin))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g} %"))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 1.0])
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, which="both", pad=5)
    axes.set_xlabel("mean time per input, ms")
    axes.set_title("accuracy", fontsize=9, color=MUTED, loc="left")
    if evaluation.asked_precision is not None:
        _asked(axes, evaluation.asked_precision, points)


def _asked(axes: Axes, precision: float, points: Sequence[tuple[float, float]]) -> None:
    axes.axhline(precision, color=OURS, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
    places = axes.transLimits.transform(axes.transScale.transform(points))
    level = axes.transLimits.transform(axes.transScale.transform((points[0][0], precision)))[1]
    near = [0.5, *(x for x, y in places if abs(y - level) < 0.08)]
    left = min(near) >= 1 - max(near)  # the side with more room
    axes.annotate(
        f"asked: {precision * 100:g} %",
        (0 if left else 1, precision),
        xycoords=("axes fraction", "data"),
        xytext=(3 if left else -3, 3),
        textcoords="offset points",
        ha="left" if left else "right",
        color=OURS,
        fontsize=8,
    )


def _curve(axes: Axes, curve: FrontierCurve) -> None:
    points = sorted(curve.points)
    colour = _COLOURS.get(curve.kind, MUTED)
    axes.plot(
        [time for time, _ in points],
        [accuracy for _, accuracy in points],
        color=colour,
        linewidth=2.2 if curve.kind == "ours" else 1.2,
        linestyle="-" if curve.kind == "ours" else (0, (5, 2)),
        marker="o" if curve.kind == "ours" else None,
        markersize=3.5,
        zorder=5 if curve.kind == "ours" else 3,
        solid_capstyle="round",
    )


def _steps(low: float, high: float) -> list[float]:
    steps = [m * 10.0**e for e in range(-9, 9) for m in (1, 2, 5)]
    inside = [step for step in steps if low <= step <= high]
    return inside if len(inside) <= 8 else [step for step in inside if f"{step:e}"[0] == "1"]


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    return re.sub(r"'DejaVu Sans'[^;\"<]*", FONTS, svg[svg.index("<svg") :])
