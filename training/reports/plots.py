"""How the plots of a report look, as SVG text for light and dark pages; and reliability diagrams."""

from __future__ import annotations

import contextlib
import io
import math
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

WIDE, NARROW = 8.6, 3.8  # inches of a picture; the page scales it to its own width
INK, MUTED, FAINT, GRID = "#1b2431", "#667084", "#b6bfcc", "#e3e7ed"
OURS, ORACLE = "#d9480f", "#94690f"
DARK = {
    INK: "#e8ebf1",
    MUTED: "#98a3b5",
    FAINT: "#4d596d",
    GRID: "#2b3445",
    OURS: "#ff9248",
    ORACLE: "#e0b54a",
}
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_RAMP = ("#1ba39c", "#2f80d0", "#6a5bd0", "#b1479f")  # cheap to expensive
_TITLE_WIDTH = 26  # letters above a panel of a reliability diagram
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


def scale_times(axes: Axes, times: Sequence[float]) -> None:
    """Give the x axis the range of `times` in milliseconds: even in their logarithms where that is large."""
    used = [time for time in times if time > 0]
    if used and max(used) > 10 * min(used):
        low, high = min(used) / 1.3, max(used) * 1.3
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(FixedLocator(_steps(low, high)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif used:
        margin = 0.12 * (max(used) - min(used)) or 0.1 * max(used)
        axes.set_xlim(max(0.0, min(used) - margin), max(used) + margin)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_axisbelow(True)
    axes.tick_params(length=0, which="both", pad=5)


def reliability_plot(
    reliability: Mapping[str, Sequence[tuple[float, float, int]]],
    colours: Mapping[str, str],
    *,
    narrow: bool = False,
) -> str:
    """Observed against predicted probability of a right answer, one panel a model."""
    columns = 2 if narrow else 4  # also for one model
    lines = math.ceil(len(reliability) / columns)
    width = NARROW if narrow else WIDE
    side = width / columns
    titles = max((math.ceil(len(name) / (_TITLE_WIDTH - 6)) for name in reliability), default=1)
    with styled():
        figure = Figure(
            figsize=(side * columns, (side + 0.15 * titles + (0.0 if narrow else 0.25)) * lines),
            dpi=72,
            layout="constrained",
        )
        grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
        for axes in grid.flat[len(reliability) :]:
            axes.set_visible(False)
        for axes, (name, bins) in zip(grid.flat, reliability.items(), strict=False):
            used = [(predicted, observed, count) for predicted, observed, count in bins if count]
            total = sum(count for *_, count in used)
            off = sum(count * abs(p - o) for p, o, count in used) / total if total else 0.0
            axes.plot([0, 1], [0, 1], color=GRID, linewidth=1.2, zorder=1)
            x, y = [p for p, *_ in used], [o for _, o, _ in used]
            colour = colours.get(name.split(" + ")[-1], MUTED)  # of several models, the one that ran last
            axes.plot(x, y, color=colour, linewidth=1.2, alpha=0.55, zorder=2)
            sizes = [6 + 110 * count / total for *_, count in used]
            axes.scatter(x, y, s=sizes, color=colour, zorder=3, linewidths=0)
            title = "\n".join(textwrap.wrap(name, _TITLE_WIDTH, break_on_hyphens=False)) or name
            axes.set_title(f"{title}\n", fontsize=9, color=INK, loc="left", pad=2)
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
        return svg_text(figure)


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """While a plot is made: the settings that all plots share."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # Only the layout uses matplotlib's own font; the page is shown in one that has the glyph.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def svg_text(figure: Figure) -> str:
    """The figure as SVG text in the fonts of the page."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    return re.sub(r"'DejaVu Sans'[^;\"<]*", FONTS, svg[svg.index("<svg") :])


def _steps(low: float, high: float) -> list[float]:
    steps = [m * 10.0**e for e in range(-9, 9) for m in (1, 2, 5)]
    inside = [step for step in steps if low <= step <= high]
    return inside if len(inside) <= 8 else [step for step in inside if f"{step:e}"[0] == "1"]
