"""A table of outcomes is read as its owner means it, and what cannot be right is said in their words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("scipy")

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.small_table import Rows, table_rows, write_csv
from training.outcomes import table as reading
from training.outcomes.table import read_table
from training.outcomes.table_checks import CheckedTable, check_table
from training.outcomes.table_profile import load_table_outcomes, store_table
from zoo.errors import DataError, StaleError


def checked(path: Path, rows: Rows, **options: Any) -> CheckedTable:
    return check_table(read_table(write_csv(path / "t.csv", rows), **{"unit": "usd"} | options))


def test_the_name_of_a_model_ends_at_the_last_dot(tmp_path: Path) -> None:
    rows = [{"id": i, "v1.5.right": i % 2, "v1.5.cost": 2} for i in range(4)]
    table = read_table(write_csv(tmp_path / "t.csv", rows))
    assert table.models == ("v1.5",)
    assert table.right[:, 0].tolist() == [0, 1, 0, 1]
    assert table.groups.tolist() == table.ids.tolist() == ["0", "1", "2", "3"]


def test_parquet_and_csv_say_the_same(tmp_path: Path) -> None:
    rows = table_rows(20)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    one, other = read_table(tmp_path / "t.parquet"), read_table(write_csv(tmp_path / "t.csv", rows))
    for name in ("right", "paid", "scores", "features"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_costs_of_models_come_from_a_file(tmp_path: Path) -> None:
    rows = [{name: value for name, value in row.items() if "cost" not in name} for row in table_rows(8)]
    costs = tmp_path / "costs.json"
    costs.write_text(json.dumps({"unit": "GFLOPs (of an image)", "cost": {"small": 1.5, "large": 12}}))
    table = read_table(write_csv(tmp_path / "t.csv", rows), costs=costs)
    assert (table.unit, table.paid[0].tolist()) == ("GFLOPs", [1.5, 12.0])
    costs.write_text('{"small": 1}')
    with pytest.raises(DataError, match="got none of large"):
        read_table(tmp_path / "t.csv", costs=costs)


def test_rows_with_gaps_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = table_rows(20)
    rows[3]["large.cost"] = rows[5]["small.right"] = rows[6]["small.score"] = None
    rows[7]["feature.length"] = None
    found = checked(tmp_path, rows)
    assert (found.left_out, len(found.table)) == (3, 17)
    assert "large has cost in 19 of 20 rows" in found.notes
    assert any("feature length is missing in 5.9%" in note for note in found.notes)


def spoil(key: str, value: Any) -> Callable[[Rows], None]:
    return lambda rows: rows[2].__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (spoil("small.right", 1.2), "quality between 0 and 1"),
        (spoil("small.right", -0.1), "quality between 0 and 1"),
        (spoil("large.cost", -1), "costs from 0"),
        (spoil("large.cost", float("inf")), "costs from 0"),
        (spoil("small.score", float("inf")), "finite scores"),
        (spoil("feature.length", float("inf")), "features that are numbers"),
        (spoil("id", "q1"), "distinct ids, got 'q1' 2 times"),
        (lambda rows: [row.update({"small.cost": 0, "large.cost": 0}) for row in rows], "got 0 for every"),
        (lambda rows: [row.update({"large.right": None}) for row in rows[1:]], "in 1 of 12.*--models"),
    ],
)
def test_values_that_cannot_be_right_are_refused(
    tmp_path: Path, change: Callable[[Rows], None], said: str
) -> None:
    rows = table_rows(12)
    change(rows)
    with pytest.raises(DataError, match=said):
        checked(tmp_path, rows)


@pytest.mark.parametrize(
    ("renamed", "said"),
    [
        ({"small.score": "small.certainty"}, r"got 'small\.certainty'.*--ignore"),
        ({"small.score": "certainty"}, "got 'certainty'"),
        ({"id": "feature.id"}, "expected a column 'id'"),
        ({"small.right": "feature.x"}, r"expected 'small\.right'"),
        ({"small.cost": "feature.x"}, r"no column 'small\.cost'"),
    ],
)
def test_columns_that_mean_nothing_are_refused(tmp_path: Path, renamed: dict[str, str], said: str) -> None:
    rows = [{renamed.get(name, name): value for name, value in row.items()} for row in table_rows(6)]
    with pytest.raises(DataError, match=said):
        read_table(write_csv(tmp_path / "t.csv", rows))


def test_cells_that_name_a_row_are_not_empty(tmp_path: Path) -> None:
    rows = table_rows(6)
    rows[3]["id"] = None
    with pytest.raises(DataError, match="in every row of 'id', got none in 1"):
        read_table(write_csv(tmp_path / "t.csv", rows))


def test_an_environment_that_is_told_becomes_features(tmp_path: Path) -> None:
    rows = [row | {"environment": "dn"[i % 2]} for i, row in enumerate(table_rows(6))]
    table = read_table(write_csv(tmp_path / "t.csv", rows), told=True)
    assert table.feature_names == ("length", "environment is d", "environment is n")
    assert table.features[:2, 1:].tolist() == [[1, 0], [0, 1]]
    with pytest.raises(DataError, match=r"environments to be told, got 1.*--tell-environment"):
        read_table(write_csv(tmp_path / "t.csv", table_rows(6)), told=True)


def test_columns_can_be_ignored_and_models_left_out(tmp_path: Path) -> None:
    rows = [row | {"question": "why"} for row in table_rows(6)]
    path = write_csv(tmp_path / "t.csv", rows)
    assert read_table(path, ignore=["question"], models=["large"]).models == ("large",)
    with pytest.raises(DataError, match="models among small, large"):
        read_table(path, ignore=["question"], models=["huge"])


def test_files_that_are_empty_broken_or_too_large_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in {
        "a.csv": b"",
        "b.csv": b"id,m.right\n",
        "c.parquet": b"PAR1",
        "d.txt": b"id",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="expected"):
            read_table(tmp_path / name)
    with pytest.raises(DataError, match="Check the path"):
        read_table(tmp_path / "none.csv")
    monkeypatch.setattr(reading, "MAX_ROWS", 5)
    with pytest.raises(DataError, match="expected at most 5 rows"):
        read_table(write_csv(tmp_path / "t.csv", table_rows(6)))


def test_a_feature_that_tells_who_is_right_is_warned_of(tmp_path: Path) -> None:
    rows = table_rows(200)
    for row in rows:
        row["feature.leak"] = row["large.right"] + 0.0
    assert [text.split(":")[0] for text in checked(tmp_path, rows).warnings] == [
        "feature leak alone tells whether large is right (area under the ROC curve 1.000)"
    ]
    for row in rows:
        row["feature.leak"] = 1.0 if row["large.right"] else None
    assert "that feature leak is missing alone tells whether large" in checked(tmp_path, rows).warnings[0]
    assert checked(tmp_path, table_rows(60)).warnings == ()


def test_splits_are_by_group_and_judge_one_sample_of_each(tmp_path: Path) -> None:
    rows = [
        row | {"id": f"{i}-{place}", "group": f"g{i}", "environment": place}
        for i, row in enumerate(table_rows(80))
        for place in ("day", "night")
    ]
    found = checked(tmp_path, rows)
    assert "80 groups have samples in several environments" in found.notes[0]
    record = store_table(found, tmp_path / "p")
    held = load_table_outcomes(tmp_path / "p", splits=("certify", "test"))
    assert len(set(held.groups.tolist())) == len(held)
    chosen = load_table_outcomes(tmp_path / "p", splits=("fit", "tune"))
    assert len(set(chosen.groups.tolist())) * 2 == len(chosen)
    assert not set(held.groups.tolist()) & set(chosen.groups.tolist())
    assert record.samples + record.left_out == len(rows)


def test_logits_with_labels_say_who_is_right(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"id": i, "label": i % 3, "m.logits": json.dumps(rng.normal(size=3).tolist()), "m.cost": 1}
        for i in range(60)
    ]
    record = store_table(checked(tmp_path, rows), tmp_path / "p")
    outcomes = load_table_outcomes(tmp_path / "p")
    assert (record.evidence, record.classes) == ("logits", 3)
    np.testing.assert_array_equal(outcomes.right, outcomes.predicted == outcomes.labels[:, np.newaxis])
    rows[0]["m.logits"] = "[1, 2]"
    with pytest.raises(DataError, match="equally many numbers"):
        read_table(write_csv(tmp_path / "t.csv", rows))


def test_a_profile_of_other_outcomes_is_not_overwritten(tmp_path: Path) -> None:
    store_table(checked(tmp_path, table_rows(60)), tmp_path / "p")
    store_table(checked(tmp_path, table_rows(60)), tmp_path / "p")
    other = checked(tmp_path, table_rows(61))
    with pytest.raises(StaleError, match="--restart"):
        store_table(other, tmp_path / "p")
    assert store_table(other, tmp_path / "p", restart=True).samples == 61
    assert len(list((tmp_path / "p").glob("*.parquet"))) == 1


def test_a_damaged_profile_is_refused(tmp_path: Path) -> None:
    store_table(checked(tmp_path, table_rows(60)), tmp_path / "p")
    (file,) = (tmp_path / "p").glob("*.parquet")
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(DataError, match="Read the table again"):
        load_table_outcomes(tmp_path / "p")
