"""A table of outcomes that were measured elsewhere: one row an input, columns of every model, checked.

Columns: ``id``; ``group``, ``environment`` and ``label`` where there are any; ``feature.NAME``; and of every
model M ``M.right`` (whether it was right, or a quality between 0 and 1), ``M.score`` (any number that grows
with confidence), ``M.logits`` and ``M.cost`` (of this answer). The name of a model ends at the last dot.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from selector.routing.evidence import environment_features
from selector.routing.record import MAX_FEATURES, MAX_MODELS
from training.outcomes.layouts import as_wide
from zoo.errors import DataError
from zoo.files import open_file, read_json, sha256_file

ENDINGS = ("right", "score", "logits", "cost")
KNOWN = ("id", "group", "environment", "label")
FEATURE = "feature."
MAX_ROWS = 5_000_000
MAX_COLUMNS = 4096
MAX_CELLS = 400_000_000
MAX_FILE_BYTES = 4 * 2**30
MAX_CLASSES = 10_000
MAX_COST = 1e12
MAX_NAME = 128  # characters
ONE_ENVIRONMENT = "all"  # where the table names none

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OutcomeTable:
    """Outcomes of n inputs and M models, as they were read; what is missing is NaN.

    Whoever has outcomes in memory can make one; :func:`check_table` says what is wrong with it.
    """

    models: tuple[str, ...]
    ids: NDArray[np.str_]  # [n]
    groups: NDArray[np.str_]  # [n], shared by variants of one original
    environments: NDArray[np.str_]  # [n]
    right: Floats  # [n, M], 0 or 1, or a quality between them
    paid: Floats  # [n, M], cost of this answer
    scores: Floats  # [n, M], all NaN where a model has none
    labels: NDArray[np.int64] | None = None  # [n], class of the right answer, -1 where unknown
    logits: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)  # model → [n, C], NaN: none
    features: Floats = field(default_factory=lambda: np.empty((0, 0)))  # [n, F]
    feature_names: tuple[str, ...] = ()
    unit: str = "cost units"
    sha256: str = ""  # of the file

    def __len__(self) -> int:
        return len(self.ids)


def read_table(
    path: str | Path,
    *,
    unit: str | None = None,
    costs: str | Path | None = None,
    models: Sequence[str] = (),
    ignore: Sequence[str] = (),
    layout: str = "wide",
    told: bool = False,
) -> OutcomeTable:
    """Read a Parquet or CSV file of outcomes.

    Parameters
    ----------
    unit
        Of costs, in words.
    costs
        A JSON file with one cost for all answers of a model, in place of columns: an object from model to
        number, or such an object under ``cost`` beside a ``unit``.
    models
        Read only these; by default all.
    ignore
        Columns to leave out.
    layout
        ``wide``, as the module says, or one of :func:`training.outcomes.layouts.as_wide`.
    told
        Whether the application knows the environment of every input and tells it: it becomes features.

    Raises
    ------
    DataError
        When the file is no such table, is too large, or a column cannot be read.

    Examples
    --------
    >>> from training.outcomes.table import read_table
    >>> table = read_table("answers.csv", unit="usd")
    >>> table.models
    ('small', 'large')
    """
    source = Path(path)
    found = _arrow(source)
    strange = [name for name in ignore if name not in found.column_names]
    if strange:
        raise DataError(f"{source}: expected columns to ignore, got none named {', '.join(strange)}.")
    found = as_wide(found.drop_columns(list(ignore)), layout)
    names = _columns(found.column_names, source)
    every = list(dict.fromkeys(model for model, _ in names.answers))
    unknown = [name for name in models if name not in every]
    if unknown:
        raise DataError(
            f"{source}: expected models among {', '.join(every)}, got {', '.join(unknown)}. Name others."
        )
    chosen = tuple(name for name in every if not models or name in models)
    count = found.num_rows
    fixed, fixed_unit = ({}, None) if costs is None else _fixed_costs(Path(costs), chosen)

    def column(model: str, ending: str) -> Floats:
        name = names.answers.get((model, ending))
        return np.full(count, np.nan) if name is None else _numbers(found, name, source)

    for model in chosen:
        if (model, "cost") not in names.answers and model not in fixed:
            raise DataError(
                f"{source}: expected the cost of every model, got no column '{model}.cost'. Add it, or give "
                "one cost a model with --costs (in Python: costs=…)."
            )
        endings = {ending for name, ending in names.answers if name == model}
        if "right" not in endings and not ("logits" in endings and "label" in names.known):
            raise DataError(
                f"{source}: expected '{model}.right', or '{model}.logits' and 'label', got neither. "
                "Add a column, or leave the model out with --models."
            )
    ids = _texts(found, "id", source)
    logits = {
        model: _lists(found, names.answers[model, "logits"], source)
        for model in chosen
        if (model, "logits") in names.answers
    }
    labels = _labels(found, source) if "label" in names.known else None
    right = np.stack([column(model, "right") for model in chosen], axis=1)
    for j, model in enumerate(chosen):
        if (model, "right") not in names.answers:
            if labels is None:
                raise DataError(
                    f"{source}: expected '{model}.right', or labels that are whole numbers beside its "
                    "logits, got labels of another kind. Add the column."
                )
            known = np.isfinite(logits[model]).all(axis=1) & (labels >= 0)
            right[known, j] = logits[model][known].argmax(axis=1) == labels[known]
    paid = [np.full(count, fixed[model]) if model in fixed else column(model, "cost") for model in chosen]
    features = [_numbers(found, FEATURE + name, source) for name in names.features]
    environments = np.full(count, ONE_ENVIRONMENT)
    if "environment" in names.known:
        environments = _texts(found, "environment", source)
    places = _places(environments, len(features), source) if told else ()
    features += [(environments == place).astype(np.float64) for place in places]
    return OutcomeTable(
        models=chosen,
        ids=ids,
        groups=_texts(found, "group", source) if "group" in names.known else ids,
        environments=environments,
        right=right,
        paid=np.stack(paid, axis=1),
        scores=np.stack([column(model, "score") for model in chosen], axis=1),
        labels=labels,
        logits=logits,
        features=np.stack(features, axis=1) if features else np.empty((count, 0)),
        feature_names=(*names.features, *environment_features(places)),
        unit=unit or fixed_unit or "cost units",
        sha256=sha256_file(source),
    )


@dataclass(frozen=True)
class _Columns:
    known: tuple[str, ...]
    features: tuple[str, ...]
    answers: Mapping[tuple[str, str], str]  # model, ending → column


def _columns(found: Sequence[str], source: Path) -> _Columns:
    """What each column is."""
    twice = sorted({name for name in found if list(found).count(name) > 1})
    if twice:
        raise DataError(f"{source}: expected distinct columns, got {twice[0]!r} twice. Rename one.")
    known, features, unknown = [], [], []
    answers: dict[tuple[str, str], str] = {}
    for name in found:
        model, dot, ending = name.rpartition(".")
        if name in KNOWN:
            known.append(name)
        elif name.startswith(FEATURE) and len(name) > len(FEATURE):
            features.append(name.removeprefix(FEATURE))
        elif dot and model and ending in ENDINGS:
            answers[model, ending] = name
        else:
            unknown.append(name)
    if unknown:
        raise DataError(
            f"{source}: expected columns {', '.join(KNOWN)}, feature.NAME and MODEL.{{{','.join(ENDINGS)}}}, "
            f"got {', '.join(map(repr, unknown[:5]))}{' and others' if len(unknown) > 5 else ''}. Rename "
            "them, or leave them out with --ignore (in Python: ignore=…)."
        )
    if "id" not in known:
        raise DataError(f"{source}: expected a column 'id', got {', '.join(found[:8])}. Add one.")
    names = [model for model, _ in answers]
    if not names or len(set(names)) > MAX_MODELS or len(features) > MAX_FEATURES:
        raise DataError(
            f"{source}: expected 1 to {MAX_MODELS} models (columns such as small.right) and at most "
            f"{MAX_FEATURES:,} features, got {len(set(names))} and {len(features):,}. Leave some out with "
            "--models or --ignore."
        )
    odd = [name for name in (*names, *features) if len(name) > MAX_NAME or not name.isprintable()]
    if odd:
        raise DataError(
            f"{source}: expected names of at most {MAX_NAME} printable characters, got {odd[0]!r:.150}. "
            "Rename it."
        )
    return _Columns(tuple(known), tuple(features), answers)


def _arrow(source: Path) -> pa.Table:
    """The file, after a look at how large it is."""
    kind = source.suffix.lower()
    if kind not in (".parquet", ".csv"):
        raise DataError(
            f"{source}: expected a file whose name ends with .parquet or .csv, got {kind or 'no ending'}."
        )
    try:
        size = source.stat().st_size
        if size > MAX_FILE_BYTES:
            raise DataError(
                f"{source}: expected at most {MAX_FILE_BYTES / 2**30:g} GiB, got {size / 2**30:.1f}. Take a "
                "part."
            )
        with open_file(source) as stream:
            if kind == ".parquet":
                file = pq.ParquetFile(stream)
                _check_size(file.metadata.num_rows, file.schema_arrow.names, source)
                table = file.read(use_threads=False)
            else:  # threads that still run when an error ends the command may abort it
                table = pc.read_csv(stream, read_options=pc.ReadOptions(use_threads=False))
    except OSError as error:
        raise DataError(
            f"{source}: expected a table of outcomes, got: {str(error)[:200]}. Check the path."
        ) from error
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{source}: expected a {kind[1:].replace('csv', 'CSV').replace('parquet', 'Parquet')} file, got: "
            f"{str(error)[:200].rstrip('.')}. Write it again."
        ) from error
    _check_size(table.num_rows, table.column_names, source)
    return table


def _check_size(rows: int, columns: Sequence[str], source: Path) -> None:
    if rows == 0:
        raise DataError(f"{source}: expected at least one row, got none. Give outcomes.")
    if rows > MAX_ROWS or len(columns) > MAX_COLUMNS or rows * len(columns) > MAX_CELLS:
        raise DataError(
            f"{source}: expected at most {MAX_ROWS:,} rows, {MAX_COLUMNS:,} columns and {MAX_CELLS:,} cells, "
            f"got {rows:,} × {len(columns):,}. Take a part of the rows: more samples than that prove nothing "
            "more."
        )


def _numbers(table: pa.Table, name: str, source: Path) -> Floats:
    """A column as float64, NaN where there is nothing."""
    column = table[name]
    if not (
        pa.types.is_boolean(column.type)
        or pa.types.is_integer(column.type)
        or pa.types.is_floating(column.type)
        or pa.types.is_null(column.type)
        or pa.types.is_decimal(column.type)
    ):
        raise DataError(
            f"{source}: expected numbers, or true and false, in the column {name!r}, got {column.type}. "
            "Write them as numbers, one column a value of a category."
        )
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    values: Floats = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
    return values


def _texts(table: pa.Table, name: str, source: Path) -> NDArray[np.str_]:
    column = table[name]
    try:
        values = column.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"{source}: expected text or numbers in {name!r}, got {column.type}. Write it as text."
        ) from error
    empty = sum(not value for value in values)
    if empty:
        raise DataError(
            f"{source}: expected a value in every row of {name!r}, got none in {empty:,}. Fill the cells, or "
            "leave the rows out."
        )
    longest = max(map(len, values))
    if longest > 512:
        raise DataError(
            f"{source}: expected at most 512 characters in {name!r}, got {longest:,}. Shorten them."
        )
    return np.array(values, dtype=np.str_)


def _labels(table: pa.Table, source: Path) -> NDArray[np.int64] | None:
    """Labels as places among the logits, or None where they are no whole numbers."""
    column = table["label"]
    if not pa.types.is_integer(column.type):
        return None
    return np.array(column.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)


def _lists(table: pa.Table, name: str, source: Path) -> NDArray[np.float32]:
    """Logits ``[n, C]``, from lists of numbers or, in CSV, from text such as ``[1.5, -2]``."""
    rows: list[Any] = table[name].to_pylist()
    try:
        rows = [json.loads(row) if isinstance(row, str) else row for row in rows]
        widths = {len(row) for row in rows if row is not None}
        if len(widths) != 1 or not 2 <= (width := widths.pop()) <= MAX_CLASSES:
            raise ValueError("other lengths")
        if len(rows) * width > MAX_CELLS:
            raise ValueError("too many numbers")
        return np.array([[np.nan] * width if row is None else row for row in rows], dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{source}: expected in {name!r} lists of equally many numbers, 2 to {MAX_CLASSES:,}, got "
            f"{error}. Write one number a class."
        ) from error


def _places(environments: NDArray[np.str_], others: int, source: Path) -> tuple[str, ...]:
    """The environments that an application may tell."""
    places = tuple(sorted(set(environments.tolist())))
    if not 2 <= len(places) <= MAX_FEATURES - others:
        raise DataError(
            f"{source}: expected 2 to {MAX_FEATURES - others:,} environments to be told, got "
            f"{len(places):,}. Give a column 'environment' with that many, or leave out --tell-environment "
            "(in Python: told=True)."
        )
    odd = [place for place in places if len(place) > MAX_NAME - 16 or not place.isprintable()]
    if odd:
        raise DataError(
            f"{source}: expected environments of at most {MAX_NAME - 16} printable characters, got "
            f"{odd[0]!r:.150}. Rename it."
        )
    return places


def _fixed_costs(path: Path, models: Sequence[str]) -> tuple[dict[str, float], str | None]:
    """One cost a model, and the unit where the file says it."""
    try:
        record = json.loads(read_json(path, what="costs of models"))
        unit = record.get("unit") if isinstance(record, dict) else None
        found = record["cost"] if isinstance(record.get("cost"), dict) else record
        costs = {str(name): float(value) for name, value in found.items() if name in models}
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f'{path}: expected JSON such as {{"small": 0.1, "large": 2}}, got: {str(error)[:150]}.'
        ) from error
    missing = [name for name in models if name not in costs]
    if missing:
        raise DataError(f"{path}: expected a cost of every model, got none of {', '.join(missing)}. Add it.")
    return costs, None if not isinstance(unit, str) else unit.split("(")[0].strip()[:64] or None
