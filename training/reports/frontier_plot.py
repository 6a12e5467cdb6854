"""The plot of all methods: accuracy against mean time, legible with many of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from training.evaluation.records import Evaluation, FrontierCurve, MethodRow
from training.reports.callouts import Callout, place_callouts
from training.reports.plots import (
    FAINT,
    GRID,
    INK,
    MUTED,
    ORACLE,
    OURS,
    model_colours,
    scale_times,
    styled,
    svg_text,
)
from training.reports.point_key import keyed_figure

_COLOURS = {"ours": OURS, "oracle": ORACLE}
_MARKERS = {"oracle": "*", "peer": "D"}
_MAX_ORACLE_HEIGHTS = (
    0.6  # an oracle so many heights above all others does not take their room: it stands at the edge
)
_SIZES = {"ours": 9.0, "oracle": 11.0, "single": 7.0}
_PEERS, _PEERS_NARROW = 4, 2  # so many of the best have their names in the plot
_ROOMY = 8  # so many names fit a plot of the usual height; each further one makes it higher
_INCHES_A_NAME, _INCHES_A_NAME_NARROW = 0.12, 0.28
_MOST_NAMES, _MOST_NAMES_NARROW = 10, 6  # with more single models, points have numbers and a key below
_MAX_NAME, _MAX_NAME_NARROW = 56, 28  # characters; the table has the whole name
_FAINT_INTERVAL = 0.35  # opacity of the intervals of many single models
_DASHES = ((0, (5, 2)), (0, (1.2, 1.6)), (0, (7, 2, 1.2, 2)), (0, (3, 1.5)))

Point = tuple[float, float]  # mean_ms, accuracy


def frontier_plot(evaluation: Evaluation, *, narrow: bool = False) -> str:
    """Accuracy against mean time: single models and settings as points, methods as lines, the oracle.

    All times are of one clock, which the axis names; what was timed by another one is left out.
    """
    evaluation = replace(
        evaluation,
        rows=list(filter(evaluation.on_clock, evaluation.rows)),
        curves=list(filter(evaluation.on_clock, evaluation.curves)),
    )
    peers = best_peers(evaluation, _PEERS_NARROW if narrow else _PEERS)
    singles = evaluation.singles
    numbered = len(singles) > (_MOST_NAMES_NARROW if narrow else _MOST_NAMES)
    written = {row.name: _short(row.name, narrow) for row in singles}
    colours = model_colours(evaluation.models)
    names = (0 if numbered else len(singles)) + len(peers) + 2
    extra = max(0, names - _ROOMY) * (_INCHES_A_NAME_NARROW if narrow else _INCHES_A_NAME)
    height = (4.4 if narrow else 4.9) + extra
    key = list(written.values()) if numbered else []
    if numbered:
        written = {row.name: str(i) for i, row in enumerate(singles, 1)}
    with styled():
        figure, axes = keyed_figure(key, [colours[name] for name in written], height, narrow=narrow)
        _prepare(axes, evaluation, narrow=narrow)
        callouts = []
        drawn = {curve.name for curve in evaluation.curves if curve.points}
        for row in evaluation.rows:
            _row(axes, row, evaluation, shown=row.kind != "peer" or row.name in peers, faint=numbered)
            if row.kind == "single":
                callouts.append(Callout(written[row.name], _at(row), INK))
            elif row.kind == "peer" and row.name in peers and row.name not in drawn:
                callouts.append(Callout(_short(row.name, narrow), _at(row), MUTED))
            elif row.kind == "oracle":
                callouts.append(_ceiling(axes, row))
        if evaluation.ours is not None:
            ours = evaluation.ours
            callouts.insert(0, Callout(_short(ours.name, narrow), _at(ours), OURS, bold=True))
        named = {row.name for row in evaluation.rows}
        lines = []
        for curve in evaluation.curves:
            if not curve.points:
                continue
            points = best_so_far(curve.points)
            lines.append(points)
            _curve(axes, curve, points, peers)
            if curve.name in peers or (curve.kind == "ours" and not _starts_any(curve.name, named)):
                callouts.append(
                    Callout(_short(curve.name, narrow), points[-1], _COLOURS.get(curve.kind, MUTED))
                )
        figure.draw_without_rendering()
        lines += [
            [(row.mean_ms, row.accuracy_low), (row.mean_ms, row.accuracy_high)] for row in evaluation.rows
        ]
        if evaluation.asked_precision is not None:
            lines.append([(time, evaluation.asked_precision) for time in axes.get_xlim()])
        place_callouts(axes, callouts, lines)
        return svg_text(figure)


def _starts_any(name: str, others: Iterable[str]) -> bool:
    """Whether a row of the same method, at one setting, bears the name already."""
    return any(other == name or other.startswith(f"{name} ") for other in others)


def _short(name: str, narrow: bool) -> str:
    """The name, or both ends of one that is too long for the plot."""
    most = _MAX_NAME_NARROW if narrow else _MAX_NAME
    if len(name) <= most:
        return name
    end = (most - 1) // 2
    return f"{name[: most - 1 - end]}…{name[-end:]}"


def best_so_far(points: Sequence[Point]) -> list[Point]:
    """The settings that no cheaper or equally cheap one beats in accuracy, cheapest first."""
    ordered = sorted(points, key=lambda point: (point[0], -point[1]))
    best = accumulate((accuracy for _, accuracy in ordered), max)
    kept: list[Point] = []
    for point, reached in zip(ordered, best, strict=True):
        if point[1] == reached and (not kept or reached > kept[-1][1]):
            kept.append(point)
    return kept


def best_peers(evaluation: Evaluation, most: int) -> list[str]:
    """Names of the `most` peers that are the most accurate over all budgets of time, best first."""
    points: dict[str, list[Point]] = {}
    for curve in evaluation.curves:
        if curve.kind == "peer":
            points.setdefault(curve.name, []).extend(curve.points)
    for row in evaluation.peers:
        points.setdefault(row.name, []).append((row.mean_ms, row.accuracy))
    points = {name: found for name, found in points.items() if found}
    times = [time for found in points.values() for time, _ in found if time > 0]
    if not times:
        return list(points)[:most]
    floor = min(accuracy for found in points.values() for _, accuracy in found)
    budgets = np.geomspace(min(times), max(times), 16) * (1 + 1e-9)

    def worth(name: str) -> float:
        reached = [max((a for t, a in points[name] if t <= budget), default=floor) for budget in budgets]
        return float(np.mean(reached))

    return sorted(points, key=worth, reverse=True)[:most]


def _at(row: MethodRow) -> Point:
    return row.mean_ms, row.accuracy


def _ceiling(axes: Axes, row: MethodRow) -> Callout:
    """The name of the oracle, with its accuracy where it lies above the picture."""
    top = axes.get_ylim()[1]
    if row.accuracy < top:
        return Callout(row.name, _at(row), INK)
    return Callout(f"{row.name} {row.accuracy * 100:.1f} %, above", (row.mean_ms, top), INK)


def _row(axes: Axes, row: MethodRow, evaluation: Evaluation, *, shown: bool, faint: bool) -> None:
    chosen = row is evaluation.ours
    height = min(row.accuracy, axes.get_ylim()[1])
    colour = _COLOURS.get(row.kind, MUTED if shown else FAINT)
    if row.kind == "single":
        colour = model_colours(evaluation.models)[row.name]
    minor = row.kind == "peer" or (row.kind == "ours" and not chosen)
    if minor or height < row.accuracy:  # intervals of all would be a thicket
        spread = None
    else:
        below, above = row.accuracy - row.accuracy_low, row.accuracy_high - row.accuracy
        spread = [[max(0.0, below)], [max(0.0, above)]]
    drawn = axes.errorbar(
        row.mean_ms,
        height,
        yerr=spread,
        marker=_MARKERS.get(row.kind, "o"),
        markersize=_SIZES.get(row.kind, 4.5) if chosen or row.kind != "ours" else 5.5,
        color=colour,
        elinewidth=1.2 if chosen else 0.8,
        zorder=6 if chosen else 3.5 if minor and shown else 4 if shown else 2.5,
        clip_on=height == row.accuracy,
    )
    if faint and row.kind == "single":
        for interval in drawn.lines[2]:
            interval.set_alpha(_FAINT_INTERVAL)


def _curve(axes: Axes, curve: FrontierCurve, points: Sequence[Point], peers: Sequence[str]) -> None:
    ours, shown = curve.kind == "ours", curve.name in peers
    axes.plot(
        [time for time, _ in points],
        [accuracy for _, accuracy in points],
        color=_COLOURS.get(curve.kind, MUTED if shown else FAINT),
        linewidth=2.2 if ours else 1.2 if shown else 0.8,
        linestyle=_DASHES[peers.index(curve.name) % len(_DASHES)] if shown else "-",
        marker="o" if ours and len(points) <= 12 else None,
        markersize=3.5,
        zorder=5 if ours else 3 if shown else 2,
        solid_capstyle="round",
    )


def _prepare(axes: Axes, evaluation: Evaluation, *, narrow: bool) -> None:
    points = [_at(row) for row in evaluation.rows]
    points += [point for curve in evaluation.curves for point in best_so_far(curve.points)]
    scale_times(axes, [time for time, _ in points])
    heights = [row.accuracy for row in evaluation.rows if row.kind != "oracle"]
    heights += [accuracy for curve in evaluation.curves for _, accuracy in best_so_far(curve.points)]
    heights += [evaluation.asked_precision or points[0][1]]
    ceiling = max((row.accuracy for row in evaluation.rows if row.kind == "oracle"), default=0.0)
    if (
        ceiling - max(heights) < _MAX_ORACLE_HEIGHTS * (max(heights) - min(heights))
        or len(evaluation.rows) < 3
    ):
        heights.append(ceiling or heights[0])
    margin = max(0.1 * (max(heights) - min(heights)), 0.01)
    axes.set_ylim(max(0.0, min(heights) - margin), min(1.0 + margin / 3, max(heights) + margin))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g} %"))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 1.0])
    axes.grid(color=GRID, linewidth=0.8)
    clock = "timed end to end" if evaluation.wall_clock else "added up from the latency table"
    gap = "\n" if narrow else " "
    on_clock = f"mean time per input, ms{gap}({clock})"
    axes.set_xlabel(f"mean cost per input, {evaluation.unit}" if evaluation.on_cost else on_clock)
    axes.set_title("accuracy", fontsize=9, color=MUTED, loc="left")
    if evaluation.asked_precision is not None:
        _asked(axes, evaluation.asked_precision, points)


def _asked(axes: Axes, precision: float, points: Sequence[Point]) -> None:
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
