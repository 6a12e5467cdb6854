"""Layouts of tables that people have: that of RouterBench, and the long one of leaderboards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import numpy as np
import pyarrow as pa

from zoo.errors import DataError

Layout = Literal["wide", "routerbench", "long"]
COST = "|total_cost"
RESPONSE = "|model_response"
LONG = ("id", "model", "right")  # columns that the long layout needs


def as_wide(table: pa.Table, layout: str) -> pa.Table:
    """A table in the layout of :mod:`training.outcomes.table`.

    Parameters
    ----------
    layout
        ``wide`` is that layout. ``routerbench`` has ``sample_id`` and ``eval_name``, and of every model M the
        columns ``M`` (quality), ``M|total_cost`` and ``M|model_response`` (Hu et al. 2024). ``long`` has
        one row
        for an input and a model, with ``id``, ``model``, ``right``, and where there are any ``score``,
        ``cost``, ``group``, ``environment`` and features.

    Raises
    ------
    DataError
        When the layout is unknown, or the table does not have it.
    """
    if layout not in get_args(Layout):
        raise DataError(f"expected a layout among {', '.join(get_args(Layout))}, got {layout!r}. Name one.")
    convert: Mapping[str, Callable[[pa.Table], pa.Table]] = {"routerbench": _routerbench, "long": _long}
    return convert[layout](table) if layout in convert else table


def _routerbench(table: pa.Table) -> pa.Table:
    names = table.column_names
    models = [name.removesuffix(COST) for name in names if name.endswith(COST)]
    missing = [name for name in ("sample_id", *models) if name not in names]
    if not models or missing:
        raise DataError(
            "expected the layout of RouterBench, with sample_id and of every model M the columns M and "
            f"M{COST}, got no {missing[0] if missing else f'column that ends with {COST}'}. Name the layout "
            "that it has."
        )
    columns = {"id": table["sample_id"]}
    if "eval_name" in names:
        columns["environment"] = table["eval_name"]
    for model in models:
        columns[f"{model}.right"] = table[model]
        columns[f"{model}.cost"] = table[model + COST]
    kept = [name for name in names if name.startswith("feature.")]
    return pa.table(columns | {name: table[name] for name in kept})


def _long(table: pa.Table) -> pa.Table:
    names = table.column_names
    missing = [name for name in LONG if name not in names]
    if missing:
        raise DataError(
            f"expected the long layout, one row for an input and a model, with {', '.join(LONG)}, got no "
            f"{missing[0]!r}. Name the layout that it has."
        )
    known = ("group", "environment", "label")
    answers = [name for name in ("right", "score", "logits", "cost") if name in names]
    shared = [name for name in names if name in known or name.startswith("feature.")]
    unknown = sorted(set(names) - {"id", "model", *answers, *shared})
    if unknown:
        raise DataError(
            f"expected columns id, model, {', '.join((*known, *answers))} and feature.NAME, got "
            f"{unknown[0]!r}. "
            "Rename it, or leave it out with --ignore."
        )
    ids = np.array(table["id"].cast(pa.string()).to_pylist(), dtype=object)
    models = np.array(table["model"].cast(pa.string()).to_pylist(), dtype=object)
    if any(one is None for one in (*ids, *models)):
        raise DataError("expected an id and a model in every row, got none in some. Fill the cells.")
    inputs, first, place = np.unique(ids.astype(str), return_index=True, return_inverse=True)
    order = np.argsort(first)  # inputs as they come first in the table
    columns: dict[str, pa.ChunkedArray | pa.Array] = {"id": pa.array(inputs[order].tolist())}
    columns |= {name: table[name].take(pa.array(first[order])) for name in shared}
    for model in dict.fromkeys(models.tolist()):
        rows = np.flatnonzero(models == model)
        if len(set(place[rows].tolist())) < len(rows):
            raise DataError(f"expected one row of {model!r} for every input, got several for one. Keep one.")
        where: list[int | None] = [None] * len(inputs)
        for row in rows.tolist():
            where[place[row]] = row
        taken = pa.array([where[i] for i in order.tolist()], pa.int64())
        columns |= {f"{model}.{name}": table[name].take(taken) for name in answers}
    return pa.table(columns)
