"""Claims about keys: only their owner reads them, and what was interrupted goes on."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.moments import moments_of
from zoo.errors import KeysError
from zoo.publisher.keys import ROLES, UNFINISHED_FILE, Keys, create_keys, unfinished
from zoo.publisher.rotation import rotate
from zoo.publisher.signing import Signing

needs_modes = pytest.mark.skipif(sys.platform == "win32", reason="needs modes of files")


def pems(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.pem")}


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    create_keys(tmp_path / "keys")
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").glob("*.pem")} == {0o600}


def test_encrypted_keys_need_their_passphrase(tmp_path: Path) -> None:
    made = create_keys(tmp_path / "keys", passphrase="open sesame")
    assert all(b"ENCRYPTED" in path.read_bytes() for path in (tmp_path / "keys").glob("*.pem"))
    assert list(Keys.open(tmp_path / "keys", passphrase="open sesame")) == sorted(
        made, key=lambda item: (ROLES.index(item[0]), item[1])
    )
    with pytest.raises(KeysError, match="expected the passphrase"):
        Keys.open(tmp_path / "keys")
    with pytest.raises(KeysError, match="another passphrase"):
        Keys.open(tmp_path / "keys", passphrase="open barley")


def test_keys_are_not_made_twice(tmp_path: Path) -> None:
    create_keys(tmp_path / "keys")
    before = sorted((tmp_path / "keys").iterdir())
    with pytest.raises(KeysError, match="no keys"):
        create_keys(tmp_path / "keys")
    assert sorted((tmp_path / "keys").iterdir()) == before
    with pytest.raises(KeysError, match="a folder for keys"):
        Keys()


def test_damaged_and_other_keys_are_refused(tmp_path: Path) -> None:
    (tmp_path / "root-1.pem").touch(0o600)
    (tmp_path / "root-1.pem").write_bytes(b"no key")
    with pytest.raises(KeysError, match="something else"):
        Keys.open(tmp_path)
    curve = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "root-1.pem").write_bytes(curve.private_bytes(*pem))
    with pytest.raises(KeysError, match="ed25519"):
        Keys.open(tmp_path)
    (tmp_path / "root-1.pem").unlink()
    (tmp_path / "root-1.pem").mkdir(mode=0o700)
    with pytest.raises(KeysError, match="Run this as the owner"):
        Keys.open(tmp_path)


def test_a_folder_that_cannot_hold_keys_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeysError, match="cannot write keys"):
        create_keys(tmp_path / "file" / "keys")


@needs_modes
@pytest.mark.parametrize("mode", [0o666, 0o640, 0o604, 0o620])
def test_a_key_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    create_keys(tmp_path / "keys")
    path = next((tmp_path / "keys").glob("timestamp-*.pem"))
    path.chmod(mode)
    with pytest.raises(KeysError, match=f"got mode {mode:04o}. Run: chmod 600 {path}"):
        Keys.open(tmp_path / "keys")
    path.chmod(0o400)
    assert Keys.open(tmp_path / "keys").public("timestamp")


@needs_modes
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_a_folder_into_which_others_may_put_keys_is_refused(tmp_path: Path, mode: int) -> None:
    create_keys(tmp_path / "keys", roles=["timestamp"])
    (tmp_path / "keys").chmod(mode)
    advice = f"then run: chmod 700 {tmp_path / 'keys'}"
    with pytest.raises(KeysError, match=advice):
        Keys.open(tmp_path / "keys")
    with pytest.raises(KeysError, match=advice):
        create_keys(tmp_path / "keys", roles=["root"])
    (tmp_path / "keys").chmod(0o755)
    assert Keys.open(tmp_path / "keys").public("timestamp")


@needs_modes
def test_a_key_of_another_user_is_refused_but_for_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_keys(tmp_path / "keys")
    owner = (tmp_path / "keys").stat().st_uid
    if owner == 0:  # what belongs to root is as good as one's own
        shutil.chown(tmp_path / "keys", 4711)
        owner = 4711
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(KeysError, match=f"got user {owner}"):
        Keys.open(tmp_path / "keys")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert Keys.open(tmp_path / "keys").public("root")


def test_where_there_are_no_modes_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("zoo.private_files.HAS_MODES", False)
    create_keys(tmp_path / "keys")
    Keys.open(tmp_path / "keys")
    assert [record.message[:47] for record in caplog.records] == [
        "On this system nothing checks who else may read"
    ]


def test_git_does_not_see_keys(tmp_path: Path) -> None:
    create_keys(tmp_path / "keys")
    assert (tmp_path / "keys" / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize("passphrase", [None, "open sesame"])
def test_making_keys_goes_on_wherever_it_was_interrupted(tmp_path: Path, passphrase: str | None) -> None:
    def make(folder: Path) -> Keys:
        return create_keys(folder, roles=("root", "timestamp"), root_keys=2, passphrase=passphrase)

    copies = moments_of(lambda: make(tmp_path / "keys"), tmp_path / "keys", tmp_path / "copies")
    assert len(copies) >= 9
    for copy in copies:
        before = pems(copy)
        made = make(copy)
        assert [role for role, _ in made] == ["root", "root", "timestamp"]
        assert before.items() <= pems(copy).items()
        assert len(pems(copy)) == 3
        assert sorted(path.name for path in copy.iterdir() if path.suffix != ".pem") == [
            ".gitignore",
            ".lock",
        ]
    with pytest.raises(KeysError, match="no keys of root, timestamp"):
        make(tmp_path / "keys")


def test_only_what_was_interrupted_goes_on(tmp_path: Path) -> None:
    copies = moments_of(lambda: create_keys(tmp_path / "keys"), tmp_path / "keys", tmp_path / "copies")
    half = copies[len(copies) // 2]
    assert unfinished(half)
    before = pems(half)
    for change in ({"root_keys": 2}, {"roles": ["timestamp"]}, {"passphrase": "open sesame"}):
        with pytest.raises(KeysError, match="to go on with what was interrupted"):
            create_keys(half, **change)  # type: ignore[arg-type]
    assert pems(half) == before
    (half / UNFINISHED_FILE).unlink()  # as zooselect 0.1.0 leaves it
    with pytest.raises(KeysError, match="zooselect publish keys --roles"):
        create_keys(half)
    lacking = [role for role in ROLES if not Keys.open(half).public(role)]
    assert lacking
    assert create_keys(half, roles=lacking).public("root")


def test_an_empty_passphrase_is_none(tmp_path: Path) -> None:
    for passphrase in ("", lambda: ""):
        with pytest.raises(KeysError, match="got an empty one"):
            create_keys(tmp_path / "keys", passphrase=passphrase)
    assert not unfinished(tmp_path / "keys")


def test_a_passphrase_is_asked_for_once_and_only_when_it_is_needed(tmp_path: Path) -> None:
    asked = []

    def ask() -> str:
        asked.append(1)
        return "open sesame"

    create_keys(tmp_path / "plain", roles=["root"])
    assert Keys.open(tmp_path / "plain", passphrase=ask).public("root")
    assert not asked
    create_keys(tmp_path / "locked", passphrase="open sesame")
    assert Keys.open(tmp_path / "plain", tmp_path / "locked", passphrase=ask).public("targets")
    assert asked == [1]


def test_new_keys_are_encrypted_where_the_old_ones_are(tmp_path: Path) -> None:
    """So that cron goes on opening the key of the timestamp, beside an encrypted root."""
    create_keys(tmp_path / "offline", roles=["root", "targets"], passphrase="open sesame")
    create_keys(tmp_path / "online", roles=["snapshot", "timestamp", "assignments"])
    places = (tmp_path / "online", tmp_path / "offline")
    Signing(tmp_path / "repo", Keys.open(*places, passphrase="open sesame")).commit("targets")
    for role, encrypted in (("timestamp", False), ("targets", True)):
        keys = Keys.open(*places, passphrase="open sesame")
        assert keys.are_encrypted(rotate(tmp_path / "repo", keys, role).new) is encrypted  # type: ignore[arg-type]
