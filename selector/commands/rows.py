"""Rows that are printed one by one, as a table for people or as JSON lines; a bar of what has arrived."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from selector.commands.say import say
from selector.commands.tables import table
from zoo.text import printable

if TYPE_CHECKING:
    from zoo.client.change import Progress


class Rows:
    """Prints each row when it is added, so that none is lost when the command ends early.

    Parameters
    ----------
    widest
        For every column the widest value that is expected: a table is as wide before its first row. A wider
        value is printed whole, and moves the rest of its row.
    """

    def __init__(self, widest: Mapping[str, Any], *, as_json: bool) -> None:
        self._widest, self._as_json = widest, as_json
        self._begun = False

    def add(self, row: Mapping[str, Any]) -> None:
        """Print one row; its keys are those of `widest`."""
        if self._as_json:
            say(json.dumps(row))
            return
        heads = [name.replace("_", " ") for name in row]
        cells = [[_text(line[name]) for name in row] for line in (self._widest, row)]
        head, rule, _, shown = table(heads, cells, "l" * len(heads)).split("\n", 3)
        if not self._begun:
            say(f"{head}\n{rule}")
            self._begun = True
        say(shown)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return printable(" → ".join(value))
    return "–" if value is None else printable(str(value))


def fetching_bar() -> Progress:
    """Shows how much has arrived, where somebody watches."""
    from tqdm import tqdm

    bar = tqdm(unit="B", unit_scale=True, desc="fetching", leave=False, delay=0.5, disable=None)

    def show(there: int, total: int) -> None:
        bar.total = total
        bar.update(there - bar.n)
        if there >= total:
            bar.close()

    return show
