"""Somebody at a terminal: a command with a terminal of its own, and what is typed there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.fresh_interpreter import ROOT

_MAIN = "import sys; sys.path.insert(0, sys.argv.pop(1)); from selector.cli import main; main()"


def typed(*arguments: str, answers: list[str], folder: Path) -> tuple[int, str]:
    """Exit code of a ``zooselect`` command, and what its terminal shows.

    Parameters
    ----------
    answers
        One after the other is typed, whenever the terminal shows a question.
    """
    terminal, side = os.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "ZOOSELECT_PASSPHRASE"}
    with subprocess.Popen(
        [sys.executable, "-c", _MAIN, str(ROOT), *arguments],
        stdin=side,
        stdout=side,
        stderr=side,
        cwd=folder,
        env=environment,
        start_new_session=True,  # without the terminal of whoever runs the tests
    ) as process:
        os.close(side)
        shown, left = b"", list(answers)
        while True:
            try:
                new = os.read(terminal, 4096)
            except OSError:  # the other side is closed
                new = b""
            if not new:
                break
            shown += new
            if shown.endswith(b": ") and left:
                os.write(terminal, left.pop(0).encode() + b"\n")
        os.close(terminal)
    return process.returncode, shown.decode()
