"""The command ``zooselect``, run in this process through its real entry point."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from selector import cli


@dataclass(frozen=True)
class Done:
    """How one command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as strict JSON: NaN and infinity are none."""

        def refuse(name: str) -> Any:
            raise AssertionError(f"{name} is no JSON")

        return json.loads(self.out, parse_constant=refuse)


class CommandLine:
    """Runs ``zooselect`` commands in this process, through its real entry point."""

    def __init__(self, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self._capture, self._patch = capture, patch

    def __call__(self, *arguments: object, code: int = 0) -> Done:
        self._patch.setattr(sys, "argv", ["zooselect", *map(str, arguments)])
        self._capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        found = self._capture.readouterr()
        assert (ended.value.code or 0) == code, found.err
        return Done(code, found.out, found.err)


@pytest.fixture
def zooselect(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return CommandLine(capsys, monkeypatch)
