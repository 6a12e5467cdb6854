"""Layouts that others publish their outcomes in become ours, and nothing is lost on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("scipy")

from tests.support.small_table import table_rows, write_csv
from training.outcomes.table import read_table
from zoo.errors import DataError


def test_router_bench_names_models_and_their_costs(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"sample_id": f"arc.{i}", "prompt": "…", "eval_name": "arc", "a/7b": 0.25, "a/7b|model_response": "x",
         "a/7b|total_cost": 0.001 * i, "oracle_model_to_route_to": "a/7b"}
        for i in range(5)
    ]  # fmt: skip
    table = read_table(write_csv(tmp_path / "t.csv", rows), layout="routerbench", unit="usd")
    assert (table.models, table.environments[0], table.right[0, 0]) == (("a/7b",), "arc", 0.25)
    np.testing.assert_allclose(table.paid[:, 0], 0.001 * np.arange(5))
    with pytest.raises(DataError, match="layout of RouterBench"):
        read_table(write_csv(tmp_path / "t.csv", table_rows(4)), layout="routerbench")


def test_the_long_layout_has_a_row_for_every_answer(tmp_path: Path) -> None:
    wide = table_rows(30)
    long = [
        {"id": row["id"], "model": name, "feature.length": row["feature.length"]}
        | {ending: row[f"{name}.{ending}"] for ending in ("right", "score", "cost")}
        for name in ("small", "large")
        for row in wide
        if (row["id"], name) != ("q3", "large")
    ]
    one = read_table(write_csv(tmp_path / "w.csv", wide))
    other = read_table(write_csv(tmp_path / "l.csv", long), layout="long")
    kept = np.arange(30) != 3
    assert one.ids.tolist() == other.ids.tolist()
    for name in ("right", "paid", "scores", "features"):
        np.testing.assert_array_equal(getattr(one, name)[kept], getattr(other, name)[kept])
    assert np.isnan(other.right[3]).tolist() == [False, True]
    with pytest.raises(DataError, match="several for one"):
        read_table(write_csv(tmp_path / "l.csv", [*long, long[0]]), layout="long")
    with pytest.raises(DataError, match="got no 'model'"):
        read_table(tmp_path / "w.csv", layout="long")
    with pytest.raises(DataError, match="a layout among wide"):
        read_table(tmp_path / "w.csv", layout="tall")
