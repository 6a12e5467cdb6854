"""The command scenario: what it refuses, before anything is made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from training.commands.scenario import register
from zoo.errors import DataError, UnreachableError, ZooError


def run(*arguments: object) -> Result:
    app = typer.Typer()

    @app.callback()
    def main() -> None:
        """Stands for the whole command line, which has more commands than this one."""

    register(app)
    return CliRunner().invoke(app, ["scenario", *map(str, arguments)])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            ["--environments", "clear,dark", "--unknown", "dark"],
            DataError,
            r"expected an --unknown environment that is not among clear, dark, got 'dark'\.",
        ),
        (["--data", "here"], DataError, r"expected --data and --weights together, got one of them\."),
        (["--weights", "here"], DataError, r"expected --data and --weights together, got one of them\."),
        (["--network", "--server"], DataError, r"expected neither --data nor --server with it"),
        (["--network", "--networks", "wifi,5h"], UnreachableError, r"a network among .*, got '5h'"),
        (["--data", "nowhere", "--weights", "nowhere"], ZooError, "one float array"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    tmp_path: Path, options: list[str], error: type[ZooError], message: str
) -> None:
    done = run("--out", tmp_path / "out", *options)
    assert isinstance(done.exception, error)
    assert re.search(message, str(done.exception))
    assert not list(tmp_path.rglob("*.onnx"))


@pytest.mark.parametrize("options", [["--inputs", "5"], ["--budget", "0"], ["--rate", "0"]])
def test_numbers_out_of_range_are_refused_with_the_range(tmp_path: Path, options: list[str]) -> None:
    done = run("--out", tmp_path / "out", *options)
    assert done.exit_code == 2
    assert options[0] in done.output
    assert not (tmp_path / "out").exists()
