"""Result files: every figure of a run with the versions, the machine, the seed and the command."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from training.evaluation import MethodRow
from zoo.files import write_atomic
from zoo.latency import machine

PACKAGES = ("zooselect", "numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx", "torch", "torchvision")


def versions() -> dict[str, str]:
    """Versions of the packages that figures depend on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


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


def finish(suite: str, figures: dict[str, Any], *, seed: int, folder: Path) -> dict[str, Any]:
    """Complete a suite's figures, write them to ``<folder>/<suite>-<time>.json``, print one JSON line."""
    result = {
        "suite": suite,
        **figures,
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
    print(json.dumps(result))
    return result
