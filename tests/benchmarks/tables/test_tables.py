"""Suites on tables charge every method for what was paid, and compare them on the same samples."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("pyarrow")

from benchmarks.selection.mixes import Point
from benchmarks.tables.aiq import aiq
from benchmarks.tables.experiments import by_experiment
from benchmarks.tables.repeated import peers_for, repeat_table
from tests.support.small_router import store_rows
from tests.support.small_table import table_rows
from training.outcomes.table_profile import load_table_outcomes, read_table_record


def test_the_average_improvement_is_that_of_the_hull() -> None:
    cheap, dear, useless = Point(0.5, 1.0, 1.0), Point(0.9, 3.0, 3.0), Point(0.4, 2.0, 2.0)
    assert aiq([cheap, useless, dear], 1.0, 3.0) == pytest.approx(0.7)
    assert aiq([cheap], 1.0, 3.0) == pytest.approx(0.5)


def test_peers_and_ours_pay_for_the_same_answers(tmp_path: Path) -> None:
    folder = store_rows(tmp_path, table_rows(400))
    outcomes = load_table_outcomes(folder, splits=("fit", "tune", "certify", "test"))
    peers = peers_for(outcomes, ["single", "routerbench-knn", "max-softmax-cascade"])
    assert peers == ["single", "routerbench-knn"]  # a cascade does not tell which of its models were paid
    found, _ = repeat_table(read_table_record(folder), outcomes, 0, peers)
    singles = found.repetition.frontiers["single"]
    assert found.repetition.named in [Point(one.accuracy, one.mean_ms, 0.0) for one in singles]
    assert found.aiq["zooselect"] > found.aiq["single"]
    assert found.oracle.accuracy >= max(one.accuracy for one in found.repetition.settings)
    assert found.drop.cost <= found.drop.reference_cost


def test_every_experiment_has_a_certificate_of_its_own(tmp_path: Path) -> None:
    rows = [
        row | {"environment": f"{'dark' if i % 2 else 'blur'}:{i % 3}"}
        for i, row in enumerate(table_rows(800))
    ]
    folder = store_rows(tmp_path, rows)
    record, outcomes = (
        read_table_record(folder),
        load_table_outcomes(folder, splits=("fit", "tune", "certify", "test")),
    )
    found = by_experiment(record, outcomes, 0)
    assert [one.experiment for one in found] == ["blur", "dark"]
    assert sum(one.samples for one in found) == pytest.approx(200, abs=20)
    assert by_experiment(record, outcomes.environment("blur:0"), 0) == []
