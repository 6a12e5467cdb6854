"""The key below a plot whose points have numbers instead of names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.reports.plots import INK, MUTED, NARROW, WIDE

_LINE_INCHES = 0.2
_LETTER_INCHES, _NUMBER_INCHES = 0.082, 0.42  # of a name, on average; the number, the dot and the gap before
_FRAME_INCHES = 0.6  # of the picture's width, that axes leave to the scale
_MOST_COLUMNS = 4


def keyed_figure(
    names: Sequence[str], colours: Sequence[str], height: float, *, narrow: bool
) -> tuple[Figure, Axes]:
    """A figure with axes of about `height` inches, and below them the names of its points, numbered from 1.

    Parameters
    ----------
    names
        In the order of their numbers; without any, the figure has no key.
    colours
        Of the points.
    """
    width = NARROW if narrow else WIDE
    if not names:
        figure = Figure(figsize=(width, height), dpi=72, layout="constrained")
        return figure, figure.add_subplot()
    column = _NUMBER_INCHES + _LETTER_INCHES * max(map(len, names))
    columns = max(1, min(_MOST_COLUMNS, int((width - _FRAME_INCHES) / column)))
    lines = math.ceil(len(names) / columns)
    below = _LINE_INCHES * lines
    figure = Figure(figsize=(width, height + below), dpi=72, layout="constrained")
    axes, key = figure.subplots(2, 1, height_ratios=[height, below])
    key.set(xlim=(0, columns), ylim=(lines, 0))
    key.axis("off")
    for i, (name, colour) in enumerate(zip(names, colours, strict=True)):
        place, line = divmod(i, lines)
        letters: dict[str, Any] = {"va": "center", "fontsize": 8.5}
        per_inch = columns / (width - _FRAME_INCHES)
        key.plot(place + 0.06 * per_inch, line + 0.5, "o", color=colour, markersize=6, clip_on=False)
        key.text(place + 0.30 * per_inch, line + 0.5, str(i + 1), color=MUTED, ha="right", **letters)
        key.text(place + 0.36 * per_inch, line + 0.5, name, color=INK, ha="left", **letters)
    return figure, axes
