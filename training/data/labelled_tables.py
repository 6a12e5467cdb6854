"""Labelled inputs in one table: ``.npz`` with an array for every column, or Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.images import ListedInputs
from zoo.errors import DataError, InputError
from zoo.files import open_file
from zoo.inputs.kind import GraphInput, InputKind
from zoo.inputs.numpy_files import read_npz

SUFFIXES = (".npz", ".parquet")
LABEL = "label"
_NAMES = ("id", "group", "environment")
MAX_BYTES = 2**34  # of a .npz file, unpacked


def labelled_table(path: str | Path, kind: InputKind, *, skip_bad: bool = False) -> ListedInputs:
    """The rows of a table as labelled inputs.

    Columns: ``label`` (the class), one for every input of the models under its name; optionally ``id``,
    ``group`` (the original, which variants share) and ``environment``. Where there is no column ``x``, those
    called ``x.…`` stand side by side for it, in their order. Other columns are ignored.

    Parameters
    ----------
    path
        A ``.npz`` file with arrays ``[n, …]``, or a Parquet file, where an array is a list of numbers.
    kind
        What the models take.
    skip_bad
        Leave rows out that hold none of it; ``skipped`` names them.

    Raises
    ------
    DataError
        When a column is missing, has gaps, or holds what the models do not take; the row is named.

    Examples
    --------
    >>> from training.data.labelled_tables import labelled_table
    >>> data = labelled_table("rows.parquet", kind)  # doctest: +SKIP
    """
    columns = _columns(Path(path))
    if LABEL not in columns:
        raise DataError(f"{path}: expected a column {LABEL!r}, got {', '.join(columns)}. Add the classes.")
    labels = _words(columns[LABEL], path)
    count = len(labels)
    values = {one.name: _column(columns, one, path) for one in kind.inputs}
    named = {name: _words(columns[name], path) for name in _NAMES if name in columns}
    held: Mapping[str, Sized] = {**values, **named}
    short = {name: len(value) for name, value in held.items() if len(value) != count}
    if short or not count:
        raise DataError(f"{path}: expected rows for each of {count} labels, got {short or 'none'}.")
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise DataError(f"{path}: expected at least two classes in {LABEL!r}, got {classes}.")
    items, kept, skipped = [], [], []
    for i in range(count):
        row = {one.name: _cell(values[one.name][i], one) for one in kind.inputs}
        try:
            items.append(kind.item(row if len(row) > 1 else next(iter(row.values()))))
            kept.append(i)
        except InputError as error:
            if not skip_bad:
                raise DataError(
                    f"{path}: row {i}: {error} Correct the row, or leave out all that cannot be read with "
                    "skip_bad (--skip-bad on the command line)."
                ) from error
            skipped.append(f"{path}: row {i}")
    if gone := sorted(set(classes) - {labels[i] for i in kept}):
        raise DataError(f"{path}: expected rows of every class that can be read, got none of {gone}.")
    index = {name: i for i, name in enumerate(classes)}
    found = ListedInputs(
        kind,
        items,
        classes,
        [named["id"][i] if "id" in named else f"row-{i:06d}" for i in kept],
        [index[labels[i]] for i in kept],
        **{f"{name}s": [named[name][i] for i in kept] for name in _NAMES[1:] if name in named},
    )
    found.skipped = skipped
    return found


def _columns(path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        if path.suffix.lower() == ".npz":
            return read_npz(path, MAX_BYTES)
        import pyarrow.parquet as pq

        with open_file(path) as stream:
            table = pq.ParquetFile(stream).read()
        held = {
            name: column.to_numpy() for name, column in zip(table.column_names, table.columns, strict=True)
        }
    except (InputError, OSError, ValueError, NotImplementedError) as error:  # pyarrow's own are of the latter
        raise DataError(
            f"{path}: expected a table that can be read, got: {str(error)[:200].rstrip('.')}."
        ) from error
    if len(held) < table.num_columns:
        raise DataError(
            f"{path}: expected columns of distinct names, got {', '.join(table.column_names)}. Rename them."
        )
    gaps = [name for name in held if table[name].null_count]
    if gaps:
        raise DataError(
            f"{path}: expected no gaps, got some in {', '.join(gaps)}. Fill them or leave them out."
        )
    return held


def _column(columns: Mapping[str, NDArray[Any]], one: GraphInput, path: str | Path) -> NDArray[Any]:
    if one.name in columns:
        return np.atleast_1d(columns[one.name])
    parts = [value for name, value in columns.items() if name.startswith(f"{one.name}.")]
    if not parts:
        raise DataError(
            f"{path}: expected a column {one.name!r}, which the models take, or several that are called "
            f"{one.name}.…, got {', '.join(columns)}."
        )
    shapes = sorted({part.shape for part in parts})
    if len(shapes) > 1 or len(shapes[0]) != 1:
        raise DataError(
            f"{path}: expected one number a row in each column {one.name}.…, got the shapes "
            f"{', '.join(map(str, shapes))}."
        )
    return np.stack(parts, axis=1)


def _cell(value: Any, one: GraphInput) -> NDArray[Any]:
    """One value as the array that the models take; its type is changed where no whole number changes."""
    if isinstance(value, bytes):
        return np.frombuffer(value, np.uint8)
    found = np.asarray(value)
    while found.dtype == object and found.ndim:  # lists of lists
        parts = [np.asarray(part) for part in found.tolist()]
        if not parts or not parts[0].ndim or len({part.shape for part in parts}) > 1:
            break
        found = np.stack(parts)
    sizes = one.axes[1:]
    if found.ndim == 1 and len(sizes) > 1 and all(isinstance(size, int) for size in sizes):
        whole = tuple(size for size in sizes if isinstance(size, int))
        found = found.reshape(whole) if found.size == np.prod(whole) else found
    wanted = np.dtype(one.type)
    if found.dtype == wanted or found.dtype.kind not in "biuf":
        return found
    with np.errstate(all="ignore"):
        changed = found.astype(wanted)
        same = wanted.kind == "f" or bool((changed == found).all())
    return changed if same else found


def _words(values: NDArray[Any], path: str | Path) -> list[str]:
    if values.ndim != 1 or (values.dtype.kind == "f" and not np.isfinite(values).all()):
        what = "gaps" if values.ndim == 1 else f"the shape {list(values.shape)}"
        raise DataError(
            f"{path}: expected one word or number a row in {LABEL}, {', '.join(_NAMES)}, got {what}."
        )
    return [
        value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        for value in values.tolist()
    ]
