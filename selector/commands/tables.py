"""Plain-text tables, the same in a terminal and in a pipe: heads, a rule, and rows in columns."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

GAP = "  "


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> str:
    """Heads, a rule and rows, in columns as wide as their widest cell.

    Parameters
    ----------
    rows
        As many cells each as there are heads. A cell may have several lines.
    align
        A letter for every column: ``l`` for text, ``r`` for numbers. Default: the first column is text, the
        others are numbers.

    Raises
    ------
    ValueError
        When a row or `align` has more or fewer columns than `heads`.
    """
    sides = align or "l" + "r" * (len(heads) - 1)
    lines = [
        [part or "" for part in line]
        for row in [heads, *rows]
        for line in itertools.zip_longest(*(cell.split("\n") for cell in row))
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [
        GAP.join(
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(line, widths, sides, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join([shown[0], "─" * max(map(len, shown)), *shown[1:]])
