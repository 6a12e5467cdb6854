"""Plain text in columns and lines: tables, the same in a terminal and in a pipe, and wrapped sentences."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterable, Sequence

GAP = "  "
_QUOTED_COMMAND = re.compile(r"'zooselect(?: (?:'[^']*'|[^\s']+))+'")  # a word of it may be quoted, too
_TOGETHER = "\N{NO-BREAK SPACE}"


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


def wrapped(text: str, width: int) -> str:
    """Sentences in lines of at most `width` columns; a command in quotes stays whole, to be copied.

    Examples
    --------
    >>> print(wrapped("Measure again with 'zooselect bench my-zoo', then fit.", 24))
    Measure again with
    'zooselect bench my-zoo',
    then fit.
    """
    whole = _QUOTED_COMMAND.sub(lambda found: found[0].replace(" ", _TOGETHER), text)
    lines = textwrap.wrap(whole, max(width, 20), break_on_hyphens=False, break_long_words=False)
    return "\n".join(lines).replace(_TOGETHER, " ")
