"""Claims about what stands in for kills: a copy before an operation is what a kill there leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fresh_interpreter import ROOT
from tests.support.moments import moments_of
from zoo.files import write_atomic

DYING = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.support.moments import watch
from tests.test_moments import write
folder, moment = Path(sys.argv[2]), int(sys.argv[3])
watch(folder, lambda number: number == moment and os.kill(os.getpid(), signal.SIGKILL))
write(folder)
"""


def write(folder: Path) -> None:
    """Some files, one after the other; the last one replaces the first."""
    write_atomic(folder / "part" / "one.json", b"1" * 10)
    write_atomic(folder / "two.json", b"2" * 100_000)
    with (folder / "kept open").open("wb", buffering=1000) as stream:
        stream.write(b"x" * 10)  # not given to the system yet
        (folder / "two.json").unlink()
    write_atomic(folder / "part" / "one.json", b"3" * 10)


def lies_in(folder: Path) -> list[tuple[str, bytes]]:
    """Names and contents; a temporary file has a name of its own in every run."""
    return sorted(
        ("temporary" if path.suffix == ".tmp" or path.name.startswith(".") else path.name, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_kill_leaves_what_a_copy_at_that_moment_shows(tmp_path: Path) -> None:
    copies = moments_of(lambda: write(tmp_path / "whole"), tmp_path / "whole", tmp_path / "copies")
    assert len(copies) >= 7
    for copy in copies:
        folder = tmp_path / f"killed-{copy.name}"
        command = [sys.executable, "-c", DYING, str(ROOT), str(folder), str(int(copy.name))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert lies_in(folder) == lies_in(copy)


def test_the_moments_are_there_in_the_order_in_which_they_were(tmp_path: Path) -> None:
    copies = moments_of(lambda: write(tmp_path / "whole"), tmp_path / "whole", tmp_path / "copies")
    assert lies_in(copies[0]) == []
    assert len({str(lies_in(copy)) for copy in copies}) >= 5
    assert lies_in(copies[-1]) != lies_in(tmp_path / "whole")


def test_nothing_is_watched_afterwards(tmp_path: Path) -> None:
    copies = moments_of(lambda: write(tmp_path / "whole"), tmp_path / "whole", tmp_path / "copies")
    os.mkdir(tmp_path / "whole" / "later")  # noqa: PTH102
    assert sorted((tmp_path / "copies").iterdir()) == copies
