"""Claims about the benchmarks' command line and their line of figures."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import benchmarks
from benchmarks.__main__ import app
from benchmarks.result import finish
from benchmarks.selection.zoos import (
    SUITES,
)


def test_figures_that_are_not_known_are_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"error": float("nan"), "rows": [{"price": float("inf"), "count": np.int64(3)}]}
    finish("made", figures, seed=0, folder=tmp_path)
    line = json.loads(capsys.readouterr().out)
    assert line["error"] is None
    assert line["rows"] == [{"price": None, "count": 3}]


def test_every_suite_has_a_command_and_an_unknown_peer_is_refused() -> None:
    named = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    assert named == {
        *SUITES,
        *["answering", "certificates", "clock", "cuts", "distribution", "drift", "network", "scale"],
        *["one-file", "providers", "web"],
        *["soak", "speed", "estimators", "mmlu-pro", "routerbench", "three-nets", "three-nets-told"],
    }
    done = CliRunner().invoke(app, ["digits", "--peers", "single,nonsense"])
    assert done.exit_code == 1
    assert "got nonsense" in done.output
    assert "max-softmax-cascade" in done.output


def test_every_module_of_the_benchmarks_imports_what_exists() -> None:
    for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks."):
        importlib.import_module(module.name)


def test_asking_for_help_imports_nothing_heavy() -> None:
    heavy = {"torch", "onnx", "sklearn", "zoo.convert"}
    code = f"import sys, benchmarks.__main__; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout.strip() == "set()"


def test_every_module_of_the_suites_loads() -> None:
    pytest.importorskip("torch")
    for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks."):
        importlib.import_module(module.name)
