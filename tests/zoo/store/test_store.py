"""Claims about a device's store: only verified bytes are ever read, and what is installed stays whole."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from tests.support.small_blobs import (
    Made,
    blob_of,
    install,
    make_bundle,
    make_release,
    offer,
    put,
    record,
    wide_onnx,
)
from tests.support.small_models import COLOURS, build_onnx
from tests.support.stored import answers
from zoo.errors import (
    CardError,
    DigestError,
    ModelNotFoundError,
    SchemaVersionError,
    StoreFullError,
    StoreLockedError,
    ZooError,
)
from zoo.store.blobs import writing
from zoo.store.installed import INSTALLED_FILE, Installed, InstalledModel
from zoo.store.store import Store


def test_an_empty_store_holds_nothing(store: Store) -> None:
    assert store.installed == Installed(schema_version=2)
    assert (store.used_bytes(), store.collect(), store.verify(), store.usage()) == (0, 0, (), {})
    with pytest.raises(ModelNotFoundError, match=r"no model 'full' is installed .*nothing yet"):
        store.model("full")


def test_what_is_installed_answers_like_the_file(store: Store, full: Made, red: Made) -> None:
    install(store, full, red)
    for model in (store.model("full"), Store.open(store.folder).model("full", threads=2)):
        assert answers(model) == list(COLOURS)
    assert answers(store.model("red")) == ["red"] * 3
    with pytest.raises(ModelNotFoundError, match=r"no model 'blue'.*Installed: full, red"):
        store.model("blue")


def test_a_model_of_one_blob_without_weights_opens(store: Store, full: Made) -> None:
    content = build_onnx()
    release = msgspec.structs.replace(full[0], graph=blob_of(content), weights=())
    install(store, (release, [content]))
    assert answers(store.model("full")) == list(COLOURS)


def test_nothing_is_installed_whose_blobs_are_not_there(store: Store, full: Made, red: Made) -> None:
    install(store, full)
    put(store, *red[1][1:-1])
    with pytest.raises(DigestError, match=r"'red': expected 4 blobs .* got 1 fewer"):
        store.commit(record(full[0], red[0]))
    assert [item.release.name for item in store.installed.models] == ["full"]


def test_a_lost_blob_does_not_keep_the_rest_from_being_changed(store: Store, full: Made, red: Made) -> None:
    install(store, full, red)
    (store.blobs / red[0].weights[-1].sha256).unlink()
    store.commit(record(red[0]))
    store.commit(record())
    store.collect()
    assert store.used_bytes() == 0


def test_only_what_nothing_needs_is_collected(store: Store, full: Made, red: Made) -> None:
    bundle, contents = make_bundle("colours", [full[0], red[0]])
    put(store, *contents)
    for _, parts in (full, red):
        put(store, *parts)
    store.commit(record(full[0], red[0], bundles=[bundle]))
    assert store.collect() == 0
    store.commit(record(full[0], bundles=[bundle]))
    assert store.collect() == red[0].weights[-1].size_bytes
    assert store.read(bundle.record) == contents[0]
    store.commit(record(full[0]))
    assert store.collect() == bundle.size_bytes
    assert answers(store.model("full")) == list(COLOURS)


def test_what_is_about_to_be_installed_can_be_kept(store: Store, full: Made) -> None:
    install(store, full)
    (store.blobs / full[0].graph.sha256).unlink()
    put(store, b"new")
    for name, part in (("a" * 64, b"12"), ("b" * 64, b"345"), (full[0].graph.sha256, b"x")):
        store.partial(name).write_bytes(part)
    assert store.collect(keep={blob_of(b"new").sha256, "a" * 64}) == 3
    assert store.has(blob_of(b"new").sha256)
    assert {path.name for path in (store.folder / "partial").iterdir()} == {"a" * 64, full[0].graph.sha256}


def test_another_process_sees_what_was_installed(store: Store, full: Made, red: Made) -> None:
    other = Store.open(store.folder)
    install(store, full)
    assert answers(other.model("full")) == list(COLOURS)
    install(other, red)
    assert [item.release.name for item in store.installed.models] == ["red"]
    assert store.installed is store.installed  # not read again


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"schema_version": 1, "models": 3}', b'{"schema_version": 1, "x": 1}', b"\xff"],
)
def test_a_damaged_record_is_told_and_nothing_is_removed(store: Store, full: Made, content: bytes) -> None:
    install(store, full)
    (store.folder / INSTALLED_FILE).write_bytes(content)
    for action in (lambda: store.installed, store.collect, lambda: Store.open(store.folder)):
        with pytest.raises(CardError, match=r"installed\.json.*move it away and install again"):
            action()
    assert not store.missing(full[0].blobs)
    (store.folder / INSTALLED_FILE).unlink()
    store.commit(record(full[0]))
    assert answers(store.model("full")) == list(COLOURS)


def test_a_record_of_a_newer_version_is_refused(store: Store) -> None:
    (store.folder / INSTALLED_FILE).write_text('{"schema_version": 3, "pairs": []}')
    with pytest.raises(SchemaVersionError, match="newer zooselect"):
        Store.open(store.folder)


def test_a_record_names_everything_once_and_with_one_size(full: Made) -> None:
    release, _ = full
    twice = InstalledModel(release=release)
    with pytest.raises(ValueError, match="distinct names, got twice: full"):
        Installed(schema_version=1, models=(twice, twice))
    liar = msgspec.structs.replace(
        release,
        card=msgspec.structs.replace(release.card, name="liar"),
        graph=msgspec.structs.replace(release.graph, size_bytes=5),
    )
    with pytest.raises(ValueError, match="expected one size, got two"):
        record(release, liar)


def test_opening_removes_what_a_crash_left(store: Store) -> None:
    put(store, b"content")
    store.partial(blob_of(b"content").sha256).write_bytes(b"con")
    store.partial("a" * 64).write_bytes(b"half")
    (store.folder / ".installed.json.xyz.tmp").write_bytes(b"{")
    Store.open(store.folder)
    assert store.has(blob_of(b"content").sha256)
    assert [path.name for path in (store.folder / "partial").iterdir()] == ["a" * 64]
    assert not list(store.folder.glob(".*"))


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match=r"cannot write in .*check the permissions"):
        Store.open(tmp_path / "file" / "store")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_leaves_what_was_installed(
    store: Store, full: Made, red: Made, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full_disk(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    install(store, full)
    put(store, *red[1])
    for place, name in ((Path, "write_bytes"), (os, "fsync"), (os, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, full_disk)
            with pytest.raises(StoreFullError, match=r"expected room in .* What was there is intact"):
                store.commit(record(red[0]))
        for seen in (store, Store.open(store.folder)):
            assert [item.release.name for item in seen.installed.models] == ["full"]
    store.commit(record(red[0]))
    assert answers(store.model("red")) == ["red"] * 3


def test_what_full_means_is_only_said_of_full_disks(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="Permission denied") as caught, writing(tmp_path):
        raise OSError(errno.EACCES, "Permission denied")
    assert not isinstance(caught.value, StoreFullError)


def test_a_thread_may_lock_again_and_others_wait(store: Store) -> None:
    with store.lock(), store.lock():
        for other in (store, Store.open(store.folder)):
            said: list[str] = []

            def take(of: Store = other, said: list[str] = said) -> None:
                try:
                    with of.lock(timeout_s=0.05):
                        said.append("taken")
                except StoreLockedError as error:
                    said.append(str(error))

            thread = threading.Thread(target=take)
            thread.start()
            thread.join()
            assert "at work there for 0.05 seconds. Wait" in said[0]
    with Store.open(store.folder).lock(timeout_s=0):
        pass


def test_a_folder_that_was_removed_cannot_be_locked(store: Store) -> None:
    shutil.rmtree(store.folder)
    with pytest.raises(ZooError, match=r"cannot lock .*No such file"), store.lock():
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_disk_or_system_without_locks_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(number, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(ZooError, match=r"No locks available.*on a disk of this device"), store.lock():
        pass


HOLD = """
import sys
from zoo.store.store import Store
with Store.open(sys.argv[1]).lock():
    print(flush=True)
    input()
"""


def test_the_lock_of_a_process_that_dies_is_free_and_its_file_stays(store: Store) -> None:
    command = [sys.executable, "-c", HOLD, str(store.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StoreLockedError, match="another process"), store.lock(timeout_s=0):
            pass
        holder.kill()
    with store.lock(timeout_s=10):
        pass
    assert (store.folder / "lock").is_file()


INSTALL_OFTEN = """
import sys
from pathlib import Path
import msgspec
from zoo.store.installed import Installed, InstalledModel
from zoo.releases.release import ModelRelease
from zoo.store.store import Store
store, published = Store.open(sys.argv[1]), Path(sys.argv[2])
pair = msgspec.json.decode((published / sys.argv[3]).read_bytes(), type=list[ModelRelease])
names = {release.name for release in pair}
for i in range(20):
    release = pair[i % 2]
    with store.lock(60):
        for blob in (release.graph, *release.weights):
            store.partial(blob.sha256).write_bytes((published / blob.path).read_bytes())
            store.adopt(blob.sha256, blob.size_bytes)
        others = [item for item in store.installed.models if item.release.name not in names]
        store.commit(Installed(schema_version=1, models=(InstalledModel(release=release), *others)))
        store.collect()
"""


def test_two_processes_install_and_evict_while_a_third_answers(
    store: Store, full: Made, tmp_path: Path
) -> None:
    install(store, full)
    running = []
    for seed, pair in enumerate(("ab", "cd")):
        made = [make_release(name, wide_onnx(2 * seed + i)) for i, name in enumerate(pair)]
        for _, contents in made:
            offer(tmp_path, contents)
        (tmp_path / pair).write_bytes(msgspec.json.encode([release for release, _ in made]))
        command = [sys.executable, "-c", INSTALL_OFTEN, str(store.folder), str(tmp_path), pair]
        running.append(subprocess.Popen(command))
    opened = 0
    while any(process.poll() is None for process in running):
        for name in ("full", "a", "b", "c", "d"):
            try:
                assert answers(store.model(name)) == list(COLOURS)
                opened += 1
            except ModelNotFoundError:
                assert name != "full"
    assert [process.returncode for process in running] == [0, 0]
    assert {item.release.name for item in store.installed.models} == {"b", "d", "full"}
    assert not store.verify()
    assert not store.lost()
    assert opened > 10
