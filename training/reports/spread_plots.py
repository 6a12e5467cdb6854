"""Plots of what varies from run to run: times of single calls, and certificates over many random draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray
from scipy.special import bdtr

from training.evaluation.records import GuaranteeRow
from training.reports.plots import FAINT, GRID, INK, MUTED, NARROW, OURS, WIDE, scale_times, styled, svg_text

_BINS = {True: 44, False: 90}  # by whether the picture is narrow
_SHOWN = 0.995  # share of the calls that lie inside the picture


def times_plot(
    times: Mapping[str, Sequence[float]], colours: Mapping[str, str], *, narrow: bool = False
) -> str:
    """Histograms of the milliseconds of single calls, one strip a method, with mean and 95th percentile.

    Methods without any call are left out; at least one must have some.
    """
    used = {name: np.asarray(calls, dtype=np.float64) for name, calls in times.items() if len(calls)}
    edges = [float(np.quantile(calls, q)) for calls in used.values() for q in (1 - _SHOWN, _SHOWN)]
    with styled():
        height = (1.3 if narrow else 1.05) * len(used) + 0.5
        figure = Figure(figsize=(NARROW if narrow else WIDE, height), dpi=72, layout="constrained")
        strips = figure.subplots(len(used), 1, squeeze=False, sharex=True)[:, 0]
        scale_times(strips[0], edges)
        low, high = strips[0].get_xlim()
        space = np.geomspace if strips[0].get_xscale() == "log" else np.linspace
        bins = space(low, high, _BINS[narrow] + 1)
        for axes, (name, calls) in zip(strips, used.items(), strict=True):
            _strip(axes, name, calls, bins, colours.get(name, OURS))
        strips[-1].set_xlabel("one answer, ms")
        return svg_text(figure)


def guarantee_plot(rows: Sequence[GuaranteeRow], *, narrow: bool = False) -> str:
    """Share of violated certificates, and the price of the guarantee, by number of certify samples."""
    with styled():
        figure = Figure(figsize=(NARROW, 5.0) if narrow else (WIDE, 3.1), dpi=72, layout="constrained")
        left, right = figure.subplots(*((2, 1) if narrow else (1, 2)))
        samples = [row.samples for row in rows]
        for axes in (left, right):
            axes.set_xscale("log")
            axes.set_xlim(min(samples) / 1.3, max(samples) * 1.3)
            axes.xaxis.set_major_locator(FixedLocator(_apart(samples, 1.5 if narrow else 1.3)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.tick_params(length=0, which="both", pad=5)
            axes.grid(color=GRID, linewidth=0.8)
            axes.set_axisbelow(True)
            axes.set_xlabel("certify samples")
        _violated(left, rows)
        _price(right, [(row.samples, row.price) for row in rows if row.price is not None])
        return svg_text(figure)


def noise_limit(row: GuaranteeRow) -> float:
    """Share of violated draws that chance exceeds once in forty times when the guarantee just holds."""
    counts = np.arange(row.splits + 1)
    return int(np.argmax(bdtr(counts, row.splits, row.allowed) >= 0.975)) / max(1, row.splits)


def _strip(axes: Axes, name: str, calls: NDArray[np.float64], bins: NDArray[np.float64], colour: str) -> None:
    inside = calls.clip(bins[0], bins[-1])
    axes.hist(inside, bins=list(bins), color=colour, alpha=0.85, linewidth=0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    mean, tail = float(calls.mean()), float(np.quantile(calls, 0.95))
    for value, style in ((mean, "-"), (tail, (0, (2, 2)))):
        if bins[0] <= value <= bins[-1]:
            axes.axvline(value, color=INK, linewidth=1.1, linestyle=style)
    axes.set_title(name, fontsize=9, color=INK, loc="left", pad=3)
    axes.set_title(
        f"mean {mean:.3g}, 95 % within {tail:.3g} ms", fontsize=8.5, color=MUTED, loc="right", pad=3
    )
    axes.tick_params(length=0, which="both", pad=5)


def _violated(axes: Axes, rows: Sequence[GuaranteeRow]) -> None:
    samples = [row.samples for row in rows]
    shares = [row.violated / max(1, row.splits) for row in rows]
    allowed = [row.allowed for row in rows]
    noise = [noise_limit(row) for row in rows]
    axes.fill_between(samples, allowed, noise, color=FAINT, alpha=0.35, linewidth=0, step=None)
    axes.plot(samples, allowed, color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)))
    axes.plot(samples, shares, color=OURS, linewidth=2, marker="o", markersize=5)
    axes.set_ylim(0, max(*shares, *noise) * 1.25)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g} %"))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_title("certificates that did not hold", fontsize=9, color=MUTED, loc="left")
    axes.annotate(
        "allowed, and what chance adds",
        (1, noise[-1]),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=MUTED,
    )


def _price(axes: Axes, points: Sequence[tuple[int, float]]) -> None:
    axes.axhline(1.0, color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)))
    axes.plot([n for n, _ in points], [price for _, price in points], color=OURS, linewidth=2, marker="o")
    top = max((price for _, price in points), default=1.0)
    axes.set_ylim(min(0.95, *(price for _, price in points), 0.95), max(1.3, top * 1.08))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_title("time, over that of the best threshold in hindsight", fontsize=9, color=MUTED, loc="left")


def _apart(samples: Sequence[int], factor: float) -> list[int]:
    """Ticks that are far enough from each other to be read."""
    kept: list[int] = []
    for count in sorted(set(samples)):
        if not kept or count >= factor * kept[-1]:
            kept.append(count)
    return kept
