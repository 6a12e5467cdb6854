"""Claims about the commands that make and use keys: who is asked for a passphrase, and who is not."""

from __future__ import annotations

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
