"""Claims about the command line as a process: whatever happens to it, it says one sentence or nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.support.command_line import CommandLine
from tests.support.small_models import plain_image
from zoo.errors import ZooError
from zoo.files import write_atomic

if TYPE_CHECKING:
    from tests.support.world import World

pytest.importorskip("PIL")


def image_at(path: Path) -> Path:
    from PIL import Image

    Image.fromarray(np.asarray(plain_image("red"))).save(path, format="png")
    return path


def test_names_of_files_steer_no_terminal(zooselect: CommandLine, world: World, tmp_path: Path) -> None:
    odd = image_at(tmp_path / "a\x1b[31m\nb\u202e.png")
    invalid = image_at(tmp_path / os.fsdecode(b"c\xff.png"))
    shown = zooselect("predict", world.bundles["cascade"], odd, invalid).out
    assert r"a\u001b[31m\u000ab\u202e.png" in shown
    assert r"c\udcff.png" in shown
    found = zooselect("predict", world.bundles["cascade"], odd, "--json")
    assert found.json()["image"] == str(odd)
    for missing in ("no\x1b[31m", "no\nsuch", "x" * 5000):
        done = zooselect("predict", world.bundles["cascade"], missing, code=1)
        done_too = zooselect("predict", missing, odd, code=1)
        for one in (done, done_too):
            assert one.err.startswith("error: ")
            assert one.err.count("\n") == 1
            assert "\x1b" not in one.err


def test_what_is_no_file_is_told_and_nothing_waits(
    zooselect: CommandLine, world: World, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for arguments in (
        ("predict", world.bundles["cascade"], "pipe"),
        ("device", "init", "dev", "--url", "http://127.0.0.1:1", "--root", "pipe"),
    ):
        done = zooselect(*arguments, code=1)
        assert "a pipe, not a file" in done.err
        assert done.err.count("\n") == 1


def start(*arguments: object, out: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "selector", *map(str, arguments)]
    return subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_output_that_cannot_be_written_is_one_sentence(world: World, tmp_path: Path) -> None:
    image = image_at(tmp_path / "a.png")
    with Path("/dev/full").open("wb") as full:
        process = start("predict", world.bundles["cascade"], image, out=full.fileno())
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said.count("\n")) == (1, 1)
    assert said.startswith("error: the output: No space left on device.")
    with pytest.raises(ZooError, match="a device, not a file"):
        write_atomic(Path("/dev/full"), b"")


def test_a_reader_that_has_gone_ends_it_quietly(world: World, tmp_path: Path) -> None:
    image = image_at(tmp_path / "a.png")
    reading, writing = os.pipe()
    os.close(reading)
    process = start("predict", world.bundles["cascade"], image, out=writing)
    os.close(writing)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (1, "")


INTERRUPT = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Interrupted(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "selector.commands.plan":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where these tests run in the background
sys.meta_path.insert(0, Interrupted())
sys.argv = ["zooselect", "--help"]
from selector.__main__ import main
main()
"""


def test_an_interrupt_while_modules_load_ends_it_quietly() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 128 + signal.SIGINT
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert done.stderr.startswith("interrupted")
