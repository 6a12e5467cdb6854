"""Claims about labelled inputs in a table: Parquet and .npz hold the same rows; what is wrong is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.small_tensors import KIND
from training.data.sources import load
from zoo.errors import DataError, InputError
from zoo.inputs.signal import Signal

ROWS: dict[str, Any] = {
    "tokens": [[1, 2, 3], [4], [5, 6]],
    "row": [[0.5, 1.0], [2.0, 3.0], [-1.0, 0.0]],
    "label": ["minus", "plus", "minus"],
    "id": ["a", "b", "c"],
}


def written(folder: Path, rows: dict[str, Any]) -> str:
    pq.write_table(pa.table(rows), folder / "rows.parquet")
    return str(folder / "rows.parquet")


def test_parquet_and_npz_give_the_same_inputs(tmp_path: Path) -> None:
    first = load(written(tmp_path, ROWS), kind=KIND)
    assert (first.classes, first.ids, first.labels.tolist()) == (
        ("minus", "plus"),
        ["a", "b", "c"],
        [0, 1, 0],
    )
    tokens = np.array([[1, 2, 3], [4, 0, 0], [5, 6, 0]])
    columns = {"tokens": tokens, "row": np.array(ROWS["row"], np.float32), "label": np.array(ROWS["label"])}
    np.savez(tmp_path / "rows.npz", id=np.array(ROWS["id"]), **columns)
    second = load(str(tmp_path / "rows.npz"), kind=KIND)
    assert first.sha256 == second.sha256
    apart = {"row.x": [0.5, 2.0, -1.0], "row.y": [1.0, 3.0, 0.0]}
    third = load(
        written(tmp_path, {**apart, **{key: ROWS[key] for key in ("tokens", "label", "id")}}), kind=KIND
    )
    assert third.sha256 == first.sha256


def test_signals_come_from_tables_too(tmp_path: Path) -> None:
    path = written(tmp_path, {"signal": [b"ab", b"{}!"], "label": [0, 1]})
    assert load(path, kind=Signal()).image(1).tobytes() == b"{}!"
    path = written(tmp_path, {"signal": [[1, 2], [3]], "label": ["x", "y"]})
    assert load(path, kind=Signal("int16", 8000)).image(0).dtype == np.int16


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label": None}, "expected a column 'label', got tokens, row, id"),
        ({"tokens": None}, "expected a column 'tokens', which the models take, or several"),
        ({"label": ["plus"] * 3}, "expected at least two classes"),
        ({"row": [[0.5, 1.0], None, [0.0, 0.0]]}, "expected no gaps, got some in row"),
        ({"tokens": [[1], [2], [1.5]]}, "row 2: expected 'tokens' of the type int64, got float64"),
        ({"tokens": [[1], [2] * 13, [3]]}, r"row 1: .*got the shape \[13\].*--skip-bad"),
        ({"tokens": [[{"a": 1}], [{"a": 2}], [{"a": 3}]]}, "row 0: expected 'tokens' of the type int64"),
        ({"row": [[[1.0], [2.0, 3.0]]] * 3}, "row 0: expected 'row' of the type float32, got object"),
        ({"label": [1.0, float("nan"), 2.0]}, "expected one word or number a row in label.*got gaps"),
    ],
    ids=["label", "column", "class", "gap", "type", "long", "records", "ragged", "no label"],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    rows = {key: value for key, value in {**ROWS, **changed}.items() if value is not None}
    with pytest.raises(DataError, match=message):
        load(written(tmp_path, rows), kind=KIND)


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    columns = [pa.array(ROWS[name]) for name in ("tokens", "row", "label", "label")]
    pq.write_table(pa.table(columns, names=["tokens", "row", "label", "label"]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="expected columns of distinct names, got tokens, row, label, label"):
        load(str(tmp_path / "a.parquet"), kind=KIND)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label": np.array("a")}, r"one word or number a row in label.*got the shape \[\]"),
        ({"row": np.float32(1)}, "expected rows for each of 3 labels, got {'row': 1}"),
        ({"row": None, "row.a": np.ones(3), "row.b": np.ones(2)}, r"one number a row in each column row\.…"),
    ],
    ids=["label", "row", "parts"],
)
def test_arrays_that_are_no_columns_are_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    columns = {"tokens": np.ones((3, 3), int), "row": np.ones((3, 2)), "label": np.array([b"a", b"b", b"a"])}
    np.savez(tmp_path / "a.npz", note=np.array("of mine"), **columns)
    assert load(str(tmp_path / "a.npz"), kind=KIND).classes == ("a", "b")
    rows = {key: value for key, value in {**columns, **changed}.items() if value is not None}
    np.savez(tmp_path / "a.npz", **rows)
    with pytest.raises(DataError, match=message):
        load(str(tmp_path / "a.npz"), kind=KIND)


def test_rows_that_cannot_be_read_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, {**ROWS, "row": [[0.5, float("nan")], [2.0, 3.0], [-1.0, 0.0]]})
    data = load(path, kind=KIND, skip_bad=True)
    assert (data.ids, data.skipped) == (["b", "c"], [f"{path}: row 0"])
    path = written(tmp_path, {**ROWS, "row": [[0.5, 1.0], [2.0, float("nan")], [-1.0, 0.0]]})
    with pytest.raises(DataError, match=r"rows of every class that can be read, got none of \['plus'\]"):
        load(path, kind=KIND, skip_bad=True)


def test_a_file_that_unpacks_to_more_than_an_input_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", tokens=np.zeros(2**20, np.int64), row=np.zeros(2, np.float32))
    with pytest.raises(InputError, match="expected at most 64 arrays of"):
        KIND.load(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04nothing")
    with pytest.raises(InputError, match=r"expected a \.npz file"):
        KIND.load(tmp_path / "b.npz")
    with pytest.raises(InputError, match=r"rows\.parquet: .* Give a \.npz file of one input\."):
        KIND.load(written(tmp_path, ROWS))
