"""Claims about completion in a shell: it is offered, never installed unasked, and knows values."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "from selector.cli import main; main()"


def run(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stderr == ""
    return done.stdout


def complete(line: str) -> list[str]:
    words = line.split(" ")
    return run(
        _ZOOSELECT_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1)
    ).splitlines()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_what_is_shown_can_be_sourced_and_installs_nothing(tmp_path: Path) -> None:
    script = run("--show-completion", "bash", HOME=str(tmp_path))
    asked = subprocess.run(
        ["bash", "-c", f"{script}\ncomplete -p zooselect"], capture_output=True, text=True, timeout=60
    )
    assert "_zooselect_completion zooselect" in asked.stdout
    assert not {".bashrc", ".bash_completions", ".config"} & {path.name for path in tmp_path.iterdir()}


def test_commands_and_values_are_completed() -> None:
    assert {"fit", "make", "zoo"} <= set(complete("zooselect "))
    assert complete("zooselect fit --policy c") == ["cascade"]
    assert complete("zooselect profile --environments dark,no") == ["dark,noise"]
