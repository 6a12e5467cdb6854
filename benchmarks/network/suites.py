"""The parts of the suite ``network``, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.network.answers import run_answers, run_digits, run_photos
from benchmarks.network.cluster import run_cluster
from benchmarks.network.serving import run_serving
from benchmarks.selection.zoos import Given

PARTS: Mapping[str, Callable[[Given, Path], dict[str, Any]]] = {
    "answers": run_answers,
    "photos": run_photos,
    "digits": run_digits,
    "serving": run_serving,
    "cluster": run_cluster,
}
