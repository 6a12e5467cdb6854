"""The plot of a timeline: accuracy, latency, bytes and installed models over the inputs."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from training.evaluation.timeline import NOT_REACHED, Timeline, moving_mean, spans
from training.reports.plots import (
    FAINT,
    GRID,
    INK,
    MUTED,
    NARROW,
    ORACLE,
    OURS,
    WIDE,
    model_colours,
    styled,
    svg_text,
)

MEAN_WINDOW_INPUTS = 50  # inputs of which the plot shows the mean accuracy
_MIN_INPUTS = 10  # of a phase, before it has one
_BAR_INCHES = 0.17  # inches of one model
_MAX_NAME_CHARACTERS = 22


def timeline_plot(timeline: Timeline, *, narrow: bool = False) -> str:
    """Panels over the same inputs, as SVG text; over networks, with who answered and what was sent."""
    bars = spans([answer.installed for answer in timeline.answers])
    moving = timeline.deadline_ms is not None
    heights = [2.0, 1.2, *((0.75, 1.0) if moving else ()), 1.2, 0.25 + _BAR_INCHES * len(bars)]
    with styled():
        figure = Figure(
            figsize=(NARROW if narrow else WIDE, sum(heights) + 1.3), dpi=72, layout="constrained"
        )
        panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        _accuracy(panels[0], timeline)
        _latency(panels[1], timeline)
        if moving:
            _answered_by(panels[2], timeline)
            _sent(panels[3], timeline)
        _bytes(panels[-2], timeline)
        _models(panels[-1], bars, narrow=narrow)
        for axes in panels:
            _events(axes, timeline)
            axes.set_xlim(0, len(timeline.answers))
            axes.tick_params(length=0, pad=5)
            axes.set_axisbelow(True)
        _phases(panels[0], timeline, narrow=narrow)
        panels[-1].set_xlabel("inputs")
        panels[-1].xaxis.set_major_locator(MaxNLocator(3 if narrow else 10, integer=True))
        return svg_text(figure)


def _accuracy(axes: Axes, timeline: Timeline) -> None:
    """Moving means that begin anew with every phase, so that none mixes two environments."""
    for phase in timeline.phases:
        part = slice(phase.first, phase.first + phase.inputs)
        x = np.arange(phase.first, phase.first + phase.inputs) + 1
        own = [one for one in timeline.own[part] if one is not None]
        if len(own) == phase.inputs:
            mean = moving_mean(own, MEAN_WINDOW_INPUTS)[_MIN_INPUTS:]
            axes.plot(x[_MIN_INPUTS:], mean, color=ORACLE, linewidth=1.2, linestyle=(0, (4, 2)))
        right = moving_mean([answer.right for answer in timeline.answers[part]], MEAN_WINDOW_INPUTS)
        axes.plot(x[_MIN_INPUTS:], right[_MIN_INPUTS:], color=OURS, linewidth=1.6)
    axes.axhline(timeline.precision, color=GRID, linewidth=1.0, zorder=0)
    axes.set_ylim(0, 1.04)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.0f} %"))
    axes.set_ylabel("accuracy")


def _latency(axes: Axes, timeline: Timeline) -> None:
    times = np.array([answer.latency_ms for answer in timeline.answers])
    x = np.arange(len(times)) + 1
    sure = np.array([answer.certified for answer in timeline.answers])
    for chosen, colour in ((sure, OURS), (~sure, MUTED)):
        axes.scatter(x[chosen], times[chosen], s=3, color=colour, linewidths=0, alpha=0.6)
    if timeline.deadline_ms is not None:
        axes.axhline(timeline.deadline_ms, color=FAINT, linewidth=1.0, linestyle=(0, (4, 2)), zorder=0)
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylabel("ms")


def _bytes(axes: Axes, timeline: Timeline) -> None:
    x = np.arange(len(timeline.answers)) + 1
    moved = [answer.bytes_moved / 1e6 for answer in timeline.answers]
    stored = [answer.stored_bytes / 1e6 for answer in timeline.answers]
    axes.step(x, moved, where="post", color=OURS, linewidth=1.6)
    axes.step(x, stored, where="post", color=INK, linewidth=1.0)
    axes.axhline(timeline.budget_bytes / 1e6, color=FAINT, linewidth=1.0, linestyle=(0, (4, 2)))
    axes.set_ylim(0, 1.1 * max(*moved, *stored, timeline.budget_bytes / 1e6))
    axes.set_ylabel("MB")


def _answered_by(axes: Axes, timeline: Timeline) -> None:
    """A stroke for each answer: of the server, of the device, or of the device as no server was reached."""
    rows = [0 if one.asked else 2 if one.reason == NOT_REACHED else 1 for one in timeline.answers]
    x, places = np.arange(len(rows)) + 1, np.array(rows)
    sure = np.array([answer.certified for answer in timeline.answers])
    for chosen, colour in ((sure, OURS), (~sure, MUTED)):
        axes.scatter(x[chosen], places[chosen], marker="|", s=40, color=colour, linewidths=0.5)
    axes.set_yticks(range(3), labels=["server", "device", "not reached"], color=INK)
    axes.set_ylim(2.6, -0.6)


def _sent(axes: Axes, timeline: Timeline) -> None:
    sent = [answer.sent_bytes / 1e3 for answer in timeline.answers]
    axes.step(np.arange(len(sent)) + 1, sent, where="post", color=OURS, linewidth=1.6)
    axes.set_ylim(0, 1.1 * max(*sent, 1e-3))
    axes.set_ylabel("kB sent")


def _models(axes: Axes, bars: dict[str, list[tuple[int, int]]], *, narrow: bool) -> None:
    colours = model_colours(list(bars))
    for row, (name, parts) in enumerate(bars.items()):
        widths = [(first, end - first) for first, end in parts]
        axes.broken_barh(widths, (row - 0.36, 0.72), facecolors=colours[name], linewidths=0)
    most = _MAX_NAME_CHARACTERS // 2 if narrow else _MAX_NAME_CHARACTERS
    labels = [name if len(name) <= most else f"{name[: most - 1]}…" for name in bars]
    axes.set_yticks(range(len(bars)), labels=labels, fontsize=7 if narrow else 8, color=INK)
    axes.set_ylim(len(bars) - 0.4, -0.6)


def _events(axes: Axes, timeline: Timeline) -> None:
    for mark in timeline.marks:
        if mark.kind in ("change", "network"):
            axes.axvline(mark.at, color=FAINT, linewidth=1.0, zorder=0)
        elif mark.kind == "server":
            axes.axvline(mark.at, color=INK, linewidth=0.8, zorder=0)
        elif mark.kind == "alarm":
            axes.axvline(mark.at, color=OURS, linewidth=1.0, linestyle=(0, (1.2, 1.6)), zorder=0)
        elif mark.kind == "switch":
            axes.axvline(mark.at, color=INK, linewidth=0.8, linestyle=(0, (5, 2)), zorder=0)


def _phases(axes: Axes, timeline: Timeline, *, narrow: bool) -> None:
    for phase in timeline.phases:
        name = phase.environment + ("" if phase.specialist is not None else "\nno specialist")
        if phase.network is not None:
            name += f", {phase.network}" if narrow else f"\n{phase.network}"
        axes.text(
            phase.first + phase.inputs / 2,
            1.06,
            name,
            ha="left" if narrow else "center",
            va="bottom",
            rotation=40 if narrow else 0,
            fontsize=7 if narrow else 9,
            color=INK,
        )
