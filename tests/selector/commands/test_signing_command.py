"""Claims about the commands that make and use keys: who is asked for a passphrase, and who is not."""

from __future__ import annotations

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


ON_A_TERMINAL = """
import os, pty, signal, sys, time
child, terminal = pty.fork()
if child == 0:
    if sys.argv[1] == "background":
        if os.fork():
            time.sleep(100)
        os.setpgid(0, 0)
    from selector.commands.signing import passphrase
    from selector.__main__ import main
    sys.argv = ["zooselect", "publish", "keys", sys.argv[2]]
    main()
said = b""
try:
    while piece := os.read(terminal, 1000):
        said += piece
        if b"Passphrase" in piece:
            os.write(terminal, b"\\x03")
        if sys.argv[1] == "background" and b"foreground" in said:
            os.kill(child, signal.SIGKILL)
            break
except OSError:
    pass
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.decode())
"""


@pytest.mark.skipif(os.name != "posix", reason="needs terminals of POSIX")
@pytest.mark.parametrize(
    ("where", "status", "words"),
    [("foreground", "130", "interrupted; "), ("background", "-9", "ZOOSELECT_PASSPHRASE")],
)
def test_an_interrupt_at_the_prompt_or_nobody_to_ask_ends_in_words(
    tmp_path: Path, where: str, status: str, words: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ZOOSELECT_PASSPHRASE"}
    command = [sys.executable, "-c", ON_A_TERMINAL, where, str(tmp_path / "keys")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.stdout.split()[0] == status, done.stdout + done.stderr
    assert words in done.stdout
    assert "Traceback" not in done.stdout
