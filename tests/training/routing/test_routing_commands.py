"""From a CSV of two models' answers to a router, on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("pyarrow")

from selector import Router
from tests.support.command_line import CommandLine
from tests.support.small_table import table_rows, write_csv


def test_the_commands_lead_from_a_table_to_a_router(zooselect: CommandLine, tmp_path: Path) -> None:
    write_csv(tmp_path / "answers.csv", table_rows(500))
    done = zooselect("outcomes", "answers.csv", "--cost-unit", "usd")
    assert "500 rows × 2 models, 1 features" in done.out
    assert "(oracle)" in done.out
    assert "Next: zooselect fit --max-drop 0.01" in done.out
    done = zooselect("fit", "--precision", "0.75", "--policy", "cascade")
    assert "certified: precision 0.75 at 95% confidence" in done.out
    assert " usd in cross-validation" in done.out
    done = zooselect("evaluate", "--max-drop", "0.2")
    assert "mean usd" in done.out
    page = (tmp_path / "my-report.html").read_text()
    assert "mean usd" in page
    assert " ms<" not in page
    done = zooselect("export", "--out", "my-router")
    assert "2 models that your application runs" in done.out
    assert Router.load(tmp_path / "my-router").certificate() is not None


def test_options_that_do_not_fit_the_profile_are_refused(zooselect: CommandLine, tmp_path: Path) -> None:
    write_csv(tmp_path / "answers.csv", table_rows(100))
    zooselect("outcomes", "answers.csv")
    assert "got --mean-ms" in zooselect("fit", "--mean-ms", "3", code=1).err
    assert "'zooselect outcomes'" in zooselect("fit", "--profile", "none", "--mean-cost", "3", code=1).err
    done = zooselect("fit", "--precision", "0.99", "--require-certified", code=3)
    assert "Not certified with" in done.err
    assert zooselect("outcomes", "answers.csv", "--json").json()["left_out_with_gaps"] == 0
