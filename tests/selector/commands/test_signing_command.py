"""Claims about the commands that make and use keys: who is asked for a passphrase, and who is not."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.terminal import typed
from zoo.publisher.keys import Keys


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_new_keys_get_a_passphrase_that_is_asked_for_twice(tmp_path: Path) -> None:
    code, shown = typed(
        "publish", "keys", "keys", answers=["sesame", "barley", "sesame", "sesame"], folder=tmp_path
    )
    assert code == 0, shown
    assert "New private keys in keys, encrypted." in shown
    assert "sesame" not in shown
    assert Keys.open(tmp_path / "keys", passphrase="sesame").public("root")
    code, shown = typed("publish", "refresh", "repo", "--keys", "keys", answers=["sesame"], folder=tmp_path)
    assert shown.count("Passphrase of the keys") == 1
    assert "nothing published" in shown
    assert code == 1


def test_a_program_gets_keys_as_the_variable_and_the_option_say(
    zooselect: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZOOSELECT_PASSPHRASE", raising=False)
    assert "in one, not encrypted (set ZOOSELECT_PASSPHRASE" in zooselect("publish", "keys", "one").out
    monkeypatch.setenv("ZOOSELECT_PASSPHRASE", "sesame")
    assert "in two, encrypted." in zooselect("publish", "keys", "two").out
    assert "in three, not" in zooselect("publish", "keys", "three", "--no-passphrase").out
    monkeypatch.setenv("ZOOSELECT_PASSPHRASE", "")
    assert "ZOOSELECT_PASSPHRASE: expected a passphrase" in zooselect("publish", "keys", "four", code=1).err
    assert not (tmp_path / "four").exists()


def test_keys_of_some_roles_go_into_a_folder_of_their_own(zooselect: CommandLine, tmp_path: Path) -> None:
    said = zooselect("publish", "keys", "offline", "--roles", "root,targets", "--root-keys", 2).out
    assert "without the root key devices can never be given new keys" in said
    assert "without the root key" not in zooselect("publish", "keys", "online", "--roles", "timestamp").out
    assert [role for role, _ in Keys.open(tmp_path / "offline")] == ["root", "root", "targets"]
    assert "got moon" in zooselect("publish", "keys", "x", "--roles", "moon", code=1).err


WITH_A_TERMINAL = """
import fcntl, os, signal, subprocess, sys, termios
signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where these tests run in the background
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
where, *command = sys.argv[1:]
if where == "foreground":
    os.execv(command[0], command)
sys.exit(subprocess.run(command, process_group=0).returncode)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs terminals of POSIX")
@pytest.mark.parametrize(
    ("where", "status", "words"),
    [("foreground", 130, "interrupted; "), ("background", 1, "ZOOSELECT_PASSPHRASE")],
)
def test_an_interrupt_at_the_prompt_or_nobody_to_ask_ends_in_words(
    tmp_path: Path, where: str, status: int, words: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ZOOSELECT_PASSPHRASE"}
    command = [sys.executable, "-m", "selector", "publish", "keys", str(tmp_path / "keys")]
    terminal, side = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", WITH_A_TERMINAL, where, *command],
        stdin=side,
        stdout=side,
        stderr=side,
        env=environment,
        start_new_session=True,
    ) as process:
        os.close(side)
        shown = b""
        with contextlib.suppress(OSError):  # the other side is closed
            while new := os.read(terminal, 4096):
                shown += new
                if shown.endswith(b": "):
                    os.write(terminal, b"\x03")
        os.close(terminal)
    assert process.returncode == status, shown
    assert words in shown.decode()
    assert b"Traceback" not in shown
