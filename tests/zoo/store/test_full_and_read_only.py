"""Claims about stores that cannot be changed: they answer, and removing a model works on a full disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.disks import fill, free_bytes, read_only, small_disk
from tests.support.small_blobs import Made, answers, blob_of, install, noise, offer, record
from tests.support.small_models import COLOURS
from zoo.errors import DigestError, StoreFullError, ZooError
from zoo.store.blobs import is_full
from zoo.store.reserve import RESERVE_BYTES, RESERVE_FILE
from zoo.store.store import Store
from zoo.store.usage import USAGE_FILE


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as made:
        yield made


@pytest.fixture
def small(disk: Path, full: Made, red: Made) -> Store:
    """A store with two models on a small disk."""
    store = Store.open(disk / "store")
    install(store, full, red)
    return store


def test_a_model_can_be_removed_when_downloads_fill_the_disk(small: Store, disk: Path, full: Made) -> None:
    fill(small.partial("a" * 64))
    assert free_bytes(disk) == 0
    small.commit(record(full[0]))
    small.collect()
    assert [item.release.name for item in Store.open(small.folder).installed.models] == ["full"]
    assert free_bytes(disk) > 400_000
    assert answers(small.model("full")) == list(COLOURS)


def test_a_model_can_be_removed_when_others_fill_the_disk(small: Store, disk: Path, full: Made) -> None:
    fill(disk / "filler")
    small.commit(record(full[0]))
    assert not (small.folder / RESERVE_FILE).exists()
    assert small.collect() > 0
    (disk / "filler").unlink()
    Store.open(small.folder)
    assert (small.folder / RESERVE_FILE).stat().st_size == RESERVE_BYTES


def test_without_room_nothing_is_fetched_and_no_download_is_kept(small: Store, disk: Path) -> None:
    wanted = offer(disk.parent / "published", [noise(400_000)])
    digest = next(iter(wanted))
    small.partial(digest).write_bytes(bytes(100_000))
    fill(disk / "filler", leave=100_000)
    with pytest.raises(StoreFullError, match=r"expected 303,104 bytes of room .* got 98,304\. Nothing was"):
        small.check_room(wanted)
    assert free_bytes(disk) >= 196_608
    small.check_disk(wanted, freed_bytes=400_000)


def test_notes_are_kept_on_a_full_disk(small: Store, disk: Path, full: Made) -> None:
    fill(disk / "filler")
    small.note("note.json", record(full[0]))
    assert (small.folder / "note.json").stat().st_size > 0


def test_a_store_on_a_read_only_disk_answers_and_says_why_it_cannot_change(small: Store, disk: Path) -> None:
    with read_only(disk):
        store = Store.open(small.folder)
        assert answers(store.model("full")) == list(COLOURS)
        assert store.verify() == ()
        assert "Read-only file system" in str(store.unwritable)
        with pytest.raises(ZooError, match=r"Read-only file system.*can still be read"):
            store.commit(record())
    assert Store.open(small.folder).unwritable is None


def test_damage_on_a_read_only_disk_is_told(small: Store, disk: Path, red: Made) -> None:
    path = small.blobs / red[0].weights[-1].sha256
    path.chmod(0o644)
    path.write_bytes(b"rotten")
    with read_only(disk), pytest.raises(DigestError, match=rf"1 blobs are damaged: {path.name}.*Read-only"):
        small.verify()
    assert small.verify() == (path.name,)


AS_NOBODY = """
import os, sys
from zoo.store.store import Store
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
store = Store.open(sys.argv[1])
print(store.model("full").card.name, "Permission denied" in str(store.unwritable))
"""


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs the right to be another user"
)
def test_the_store_of_another_user_answers(full: Made) -> None:
    with tempfile.TemporaryDirectory() as folder:  # those of tests are closed to others
        Path(folder).chmod(0o755)
        store = Store.open(Path(folder) / "store")
        install(store, full)
        command = [sys.executable, "-c", AS_NOBODY, str(store.folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.stdout == "full True\n", done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
@pytest.mark.parametrize("part", [".", "blobs", "partial", "corrupt"])
def test_a_store_that_everybody_can_change_is_refused(store: Store, part: str) -> None:
    (store.folder / part).chmod(0o777)
    with pytest.raises(ZooError, match=r"only its owner can change.*chmod -R o-w"):
        Store.open(store.folder)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_a_new_store_is_not_one_that_everybody_can_change(tmp_path: Path) -> None:
    program = "import os, sys; os.umask(0); from zoo.store.store import Store; Store.open(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "store")], check=True, timeout=100)
    assert Store.open(tmp_path / "store").unwritable is None


@pytest.mark.parametrize("link", ["symbolic", "hard"])
@pytest.mark.parametrize("resume", [False, True])
def test_nothing_is_written_through_a_link(store: Store, tmp_path: Path, link: str, resume: bool) -> None:
    victim, content = tmp_path / "victim", b"content"
    victim.write_bytes(content[:3])
    partial = store.partial(blob_of(content).sha256)
    partial.symlink_to(victim) if link == "symbolic" else partial.hardlink_to(victim)
    assert store.partial_bytes(partial.name) == 0
    if resume and link == "symbolic":
        with pytest.raises(ZooError, match="cannot write"):
            store.collecting(partial.name, resume=True)
    with store.collecting(partial.name, resume=False) as stream:
        stream.write(content)
    store.adopt(partial.name, len(content))
    assert victim.read_bytes() == content[:3]
    assert store.read(blob_of(content)) == content


def test_no_link_becomes_a_blob(store: Store, tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"content")
    partial = store.partial(blob_of(b"content").sha256)
    partial.symlink_to(tmp_path / "victim")
    with pytest.raises(DigestError, match="Fetch it again"):
        store.adopt(partial.name, 7)


@pytest.mark.parametrize("part", ["blobs", "partial", "corrupt"])
def test_a_folder_among_the_files_goes_with_the_next_clean_up(store: Store, full: Made, part: str) -> None:
    install(store, full)
    (store.folder / part / "folder" / "inside").mkdir(parents=True)
    store.verify()
    store.collect()
    assert {path.name for path in store.folder.glob("*/*")} == set(full[0].blobs)


def test_a_folder_or_a_pipe_in_the_place_of_a_blob_is_mended(store: Store, full: Made) -> None:
    install(store, full)
    first, second = (store.blobs / digest for digest in list(full[0].blobs)[:2])
    first.unlink()
    first.mkdir()
    second.unlink()
    os.mkfifo(second)
    assert set(store.lost()) == {first.name, second.name}
    install(store, full)
    assert store.verify() == ()
    assert answers(store.model("full")) == list(COLOURS)


@pytest.mark.parametrize("way", ["folder", "pipe", "long", "link"])
def test_whatever_is_in_the_place_of_a_note_is_replaced(store: Store, tmp_path: Path, way: str) -> None:
    path = store.folder / USAGE_FILE
    if way == "folder":
        (path / "inside").mkdir(parents=True)
    elif way == "pipe":
        os.mkfifo(path)
    elif way == "long":
        path.write_bytes(b" " * 2**21)
    else:
        path.symlink_to(tmp_path / "nothing")
    assert store.rate_bytes_per_s is None
    store.measured(5.0)
    assert Store.open(store.folder).rate_bytes_per_s == 5.0
    assert path.is_file()
    assert not path.is_symlink()


def test_full_is_known_through_all_that_wraps_it() -> None:
    error = ZooError("cannot write")
    error.__cause__ = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    assert is_full(error)
    assert not is_full(ZooError("no"))


def test_an_empty_folder_in_the_place_of_a_lock_or_the_reserve_goes(store: Store, full: Made) -> None:
    for name in ("lock", "fetch-lock", RESERVE_FILE):
        (store.folder / name).unlink(missing_ok=True)
        (store.folder / name).mkdir()
    again = Store.open(store.folder)
    assert again.unwritable is None
    install(again, full)
    assert (store.folder / RESERVE_FILE).stat().st_size == RESERVE_BYTES


def test_a_folder_with_something_in_it_in_the_place_of_a_lock_is_told(store: Store, full: Made) -> None:
    (store.folder / "lock").unlink(missing_ok=True)
    (store.folder / "lock" / "inside").mkdir(parents=True)
    assert "nothing but a file is there" in str(Store.open(store.folder).unwritable)
    with pytest.raises(ZooError, match=r"cannot lock .*/lock"):
        install(store, full)
