"""An evaluation as a plain-text table: the methods, and how often each model answers."""

from __future__ import annotations

import math
import textwrap

from selector.commands import tables
from training.evaluation.records import Evaluation, MethodRow

WIDTH = 100  # columns of a terminal
_NO_BREAK = "\N{NO-BREAK SPACE}"
_MIN_NAME, _MAX_NAME, _MIN_SHARES, _MOST_SHARES = 12, 26, 24, 4


def table(evaluation: Evaluation) -> str:
    """The methods as a plain-text table of about :data:`WIDTH` columns.

    What a reader has to know first stands above them. A time that was added up from measured costs instead
    of timed end to end is marked with ``~``.
    """
    rows, digits = evaluation.rows, decimals(evaluation)
    heads = ["method", "kind", "asked", "accuracy", f"mean {evaluation.unit}", f"p95 {evaluation.unit}"]
    sends = any(row.sent_share is not None for row in rows)
    heads += ["sent", "kB sent"] if sends else []
    cells = [
        [
            *(row.name, row.kind, _asked(row), _accuracy(row)),
            *(_time(row, ms, digits, marked=not evaluation.on_cost) for ms in _times(row)),
            *(_sent(row) if sends else ()),
        ]
        for row in rows
    ]
    align = f"llrrrr{'rr' if sends else ''}l"
    if not any(map(_asked, rows)):
        align = align.replace("r", "", 1)
        for line in (heads, *cells):
            del line[2]
    fixed = sum(
        max(map(len, column)) + len(tables.GAP) for column in list(zip(heads, *cells, strict=True))[1:]
    )
    room = WIDTH - fixed - len(tables.GAP)  # of names and shares
    longest = max((len(row.name) for row in rows), default=0)
    names = max(_MIN_NAME, min(longest, _MAX_NAME, room - _MIN_SHARES))
    shares = max(_MIN_SHARES, room - names)
    for line, row in zip(cells, rows, strict=True):
        line[0] = "\n".join(textwrap.wrap(row.name, names))
        line.append(_wrapped(_shares(row), shares))
    shown = tables.table([*heads, "share of inputs"], cells, align)
    if evaluation.finding:
        shown = "\n".join([tables.wrapped(evaluation.finding, WIDTH), "", shown])
    if any(not row.wall_clock for row in rows) and not evaluation.on_cost:
        shown += "\n\n~ added up from measured costs, not timed end to end"
    return shown


def percent(share: float, digits: int = 1) -> str:
    """A share as text: ``95.3 %``; never rounded up to 100 or down to 0."""
    text = f"{share * 100:.{digits}f}"
    if share < 1 and float(text) == 100:
        return f"> {100 - 10**-digits:.{digits}f} %"
    if share > 0 and float(text) == 0:
        return f"< {10**-digits:.{digits}f} %"
    return f"{text} %"


def milliseconds(value: float, digits: int) -> str:
    """A time as text: ``0.041``, ``1,250.0``."""
    return f"{value:,.{digits}f}"


def decimals(evaluation: Evaluation) -> int:
    """Enough for two significant digits of the smallest time, so that a column lines up."""
    smallest = min((row.mean_ms for row in evaluation.rows if row.mean_ms > 0), default=1.0)
    return min(max(1 - math.floor(math.log10(smallest)), 0), 8)


def _times(row: MethodRow) -> tuple[float, float]:
    return row.mean_ms, row.p95_ms


def _asked(row: MethodRow) -> str:
    mark = {True: "✓", False: "✗", None: ""}[row.certified]
    precision = "" if row.precision is None else f"{row.precision * 100:g} %"
    return f"{precision} {mark}".strip()


def _accuracy(row: MethodRow) -> str:
    return f"{row.accuracy * 100:.1f} ± {(row.accuracy_high - row.accuracy_low) * 50:.1f} %"


def _time(row: MethodRow, value: float, digits: int, *, marked: bool) -> str:
    return ("~" if marked and not row.wall_clock else "") + milliseconds(value, digits)


def _sent(row: MethodRow) -> tuple[str, str]:
    """The share of the inputs that are sent to a server, and thousands of bytes per input."""
    if row.sent_share is None or row.sent_kb is None:
        return "", ""
    return percent(row.sent_share), f"{row.sent_kb:.2f}"


def _shares(row: MethodRow) -> list[str]:
    """Who answers how often, the models that answer most by name."""
    if row.kind == "single":
        return []
    some = {name: share for name, share in row.shares.items() if share}
    largest = sorted(some, key=some.__getitem__, reverse=True)[:_MOST_SHARES]
    items = [f"{name} {percent(share, 0)}" for name, share in some.items() if name in largest]
    rest = sum(share for name, share in some.items() if name not in largest)
    return [*items, *([f"others {percent(rest, 0)}"] if rest else [])]


def _wrapped(items: list[str], width: int) -> str:
    """Items with dots between them, in lines that break between items where they can."""
    together = [item.replace(" ", _NO_BREAK) for item in items]
    lines = textwrap.wrap(f"{_NO_BREAK}· ".join(together), width, break_on_hyphens=False)
    return "\n".join(line.replace(_NO_BREAK, " ").removesuffix(" ·") for line in lines)
