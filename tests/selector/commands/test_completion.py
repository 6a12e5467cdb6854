"""Claims about completion in a shell: it is offered, never installed unasked, and knows values."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer._completion_classes import BashComplete

from selector.cli import add_commands, app
from tests.support.colours import colour_zoo
from zoo import Zoo

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


COMPLETED = {
    "fit --environment d": ["dark"],
    "fit --profile p --environment ": ["by-night", "clear"],
    "fit --models full,s": ["full,small"],
    "fit --zoo other --models ": ["net"],
    "select b --costs-of k": ["kitchen"],
    "predict b --environment bl": ["blur"],
    "make photos t": ["tiny"],
    "zoo adapt s": ["small"],
    "zoo adapt small --labels-from f": ["full"],
    "zoo adapt small --what normalisation,": [
        "normalisation,normalisation",
        "normalisation,biases",
        "normalisation,head",
    ],
    "zoo compress fu": ["full"],
    "zoo compress full --student m": ["medium"],
    "zoo rename ti": ["tiny"],
    "zoo remove ti": ["tiny"],
    "zoo train --sizes tiny,s": ["tiny,small"],
    "zoo train --torch-device c": ["cpu", "cuda"],
    "zoo add --channels b": ["bgr"],
    "fit --zoo nowhere --models ": [],
}


def test_names_of_closed_sets_and_of_what_is_there_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.chdir(tmp_path)
    colour_zoo(tmp_path / "my-zoo")
    colour_zoo(tmp_path / "other").rename("tiny", "net")
    for name in ("small", "full"):
        Zoo.open("other").remove(name)
    Path("p").mkdir()
    parquet.write_table(pa.table({"environment": ["clear", "by-night", "clear"]}), "p/samples.parquet")
    Path("b").mkdir()
    Path("b/bundle.json").write_text('{"costs": [{"device": "desk"}, {"device": "kitchen"}]}', "utf-8")
    command = typer.main.get_command(whole_command_line())
    for line, expected in COMPLETED.items():
        *words, incomplete = line.split(" ")
        found = BashComplete(command, {}, "zooselect", "_ZOOSELECT_COMPLETE").get_completions(
            words, incomplete
        )
        assert [item.value for item in found] == expected, line


def whole_command_line() -> typer.Typer:
    add_commands()
    return app
