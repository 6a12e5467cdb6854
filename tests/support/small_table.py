"""A table of two models' answers: the small one is sure where it is right, on short inputs."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Rows = list[dict[str, Any]]
COSTS = {"small": 0.1, "large": 1.0}


def table_rows(count: int = 900, *, seed: int = 0, graded: bool = False) -> Rows:
    """Rows of a table: the small model knows most short inputs, and says how sure it is."""
    rng = np.random.default_rng(seed)
    rows: Rows = []
    for i in range(count):
        hard = rng.random()
        small, large = hard < 0.7 and rng.random() < 0.97, rng.random() < 0.95 - 0.1 * hard
        row: dict[str, Any] = {"id": f"q{i}", "small.right": int(small), "large.right": int(large)}
        if graded:
            row["small.right"] = round(0.9 * small + 0.1 * rng.random(), 3)
            row["large.right"] = round(0.9 * large + 0.1 * rng.random(), 3)
        row["small.score"] = round(float(6 - 8 * hard + rng.normal()), 4)
        row["large.score"] = round(float(rng.normal() + 2 * large), 4)
        for name, cost in COSTS.items():
            row[f"{name}.cost"] = round(cost * rng.uniform(0.5, 1.5), 5)
        row["feature.length"] = round(10 + 40 * hard + 3 * rng.normal(), 3)
        rows.append(row)
    return rows


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """The rows as a file; None is an empty cell."""
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow(row)
    return path
