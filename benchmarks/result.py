"""Result files: every figure of a run with the versions, the machine, the seed and the command."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort

from training.evaluation.records import MethodRow
from zoo.files import write_atomic
from zoo.models.machine import machine

PACKAGES = (
    "zooselect",
    "numpy",
    "onnx",
    "scikit-learn",
    "skl2onnx",
    "torch",
    "torchvision",
)
OPTIONAL = ("asf", "deslib")


def versions() -> dict[str, str]:
    """Versions of the packages that figures depend on."""
    known = {name: importlib.metadata.version(name) for name in PACKAGES}
    known["onnxruntime"] = ort.__version__  # a package with other providers may stand in its place
    for name in OPTIONAL:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            known[name] = importlib.metadata.version(name)
    return known


def method(row: MethodRow) -> dict[str, Any]:
    """One method of a suite as a JSON object."""
    return {
        "name": row.name,
        "kind": row.kind,
        "precision": row.precision,
        "accuracy": round(row.accuracy, 5),
        "accuracy_low": round(row.accuracy_low, 5),
        "accuracy_high": round(row.accuracy_high, 5),
        "mean_ms": round(row.mean_ms, 5),
        "p95_ms": round(row.p95_ms, 5),
        "certified": row.certified,
        "wall_clock": row.wall_clock,
        "shares": {name: round(share, 4) for name, share in row.shares.items()},
    }


def finish(
    suite: str, figures: dict[str, Any], *, seed: int, folder: Path, file_only: Sequence[str] = ()
) -> dict[str, Any]:
    """Complete a suite's figures, write them to ``<folder>/<suite>-<time>.json``, print one JSON line.

    What `file_only` names is too long for the line and only in the file.
    """
    result: dict[str, Any] = {
        "suite": suite,
        **_strict(figures),
        "seed": seed,
        "versions": versions(),
        "machine": msgspec.to_builtins(machine()),
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_atomic(
        folder / f"{suite}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json",
        json.dumps(result, indent=2).encode() + b"\n",
    )
    print(json.dumps({name: value for name, value in result.items() if name not in file_only}))
    return result


def _strict(value: Any) -> Any:
    """`value` in types that JSON has; what is not a number there becomes null."""
    if isinstance(value, dict):
        return {name: _strict(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
