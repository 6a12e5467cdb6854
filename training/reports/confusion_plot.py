"""The heat map of confusions: true class by answered class."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from training.reports.plots import GRID, INK, MUTED, NARROW, OURS, WIDE, styled, svg_text

_MAX_NAME_CHARACTERS = 16
_MAX_COUNTED_CLASSES = 12  # so many have their counts in the cells
_GOOD = "#1ba39c"
_FAINTEST = 0.12  # opacity of a single answer, so that it is seen


def confusion_plot(names: Sequence[str], matrix: Sequence[Sequence[int]], *, narrow: bool = False) -> str:
    """A square a pair of classes, the stronger the larger its share of the true class, as SVG text.

    Parameters
    ----------
    matrix
        Counts of the true class (row) by the answered class (column).
    """
    count = len(names)
    height = NARROW if narrow else min(0.65 * WIDE, 2.0 + 0.3 * count)
    labels = [
        name if len(name) <= _MAX_NAME_CHARACTERS else f"{name[: _MAX_NAME_CHARACTERS - 1]}…"
        for name in names
    ]
    size = 8.0 if count <= _MAX_COUNTED_CLASSES else 6.5 if narrow else 7.5
    with styled():
        figure = Figure(figsize=(NARROW if narrow else WIDE, height), dpi=72, layout="constrained")
        axes = figure.add_subplot()
        for i, row in enumerate(matrix):
            total = sum(row)
            for j, found in enumerate(row):
                if not found:
                    continue
                share = found / total
                axes.add_patch(
                    Rectangle(
                        (j - 0.46, i - 0.46),
                        0.92,
                        0.92,
                        facecolor=_GOOD if i == j else OURS,
                        alpha=_FAINTEST + (1 - _FAINTEST) * share * (0.45 if i == j else 1.0),
                        linewidth=0,
                    )
                )
                if count <= _MAX_COUNTED_CLASSES:
                    axes.text(
                        j, i, str(found), ha="center", va="center", fontsize=6.5 if narrow else 8, color=INK
                    )
        axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5), aspect="equal")
        axes.set_xticks(range(count), labels=labels, rotation=90, fontsize=size, color=INK)
        axes.set_yticks(range(count), labels=labels, fontsize=size, color=INK)
        axes.tick_params(length=0, pad=4)
        for spine in axes.spines.values():
            spine.set_color(GRID)
        axes.set_xlabel("answered", color=MUTED)
        axes.set_ylabel("true class", color=MUTED)
        return svg_text(figure)
