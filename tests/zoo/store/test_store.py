"""Claims about a device's store: only verified bytes are ever read, and what is installed stays whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from tests.support.small_blobs import (
    Made,
    answers,
    blob_of,
    install,
    make_bundle,
    put,
    record,
)
from tests.support.small_models import COLOURS, build_onnx
from zoo.errors import (
    CardError,
    DigestError,
    ModelError,
    ModelNotFoundError,
    SchemaVersionError,
    StoreFullError,
    ZooError,
)
from zoo.store.blobs import writing
from zoo.store.installed import INSTALLED_FILE, Installed, InstalledModel
from zoo.store.store import Store


def damage(store: Store, digest: str, content: bytes | None = None) -> None:
    path = store.blobs / digest
    path.chmod(0o644)
    path.write_bytes(b"\xff" * path.stat().st_size if content is None else content)


# Blobs


def test_a_download_becomes_a_read_only_blob(store: Store) -> None:
    blob = blob_of(b"content")
    assert (store.has(blob.sha256), store.missing({blob.sha256: 7})) == (False, {blob.sha256: 7})
    put(store, b"content")
    assert (store.has(blob.sha256), store.missing({blob.sha256: 7})) == (True, {})
    assert (store.blobs / blob.sha256).stat().st_mode & 0o777 == 0o444
    assert store.read(blob) == b"content"
    assert not store.partial(blob.sha256).exists()


@pytest.mark.parametrize("content", [b"", b"conten", b"content!", b"Content"])
def test_a_download_that_is_not_what_it_should_be_is_removed(store: Store, content: bytes) -> None:
    blob = blob_of(b"content")
    store.partial(blob.sha256).write_bytes(content)
    with pytest.raises(DigestError, match=r"expected the blob .* of 7 bytes, got .* fetch it again"):
        store.adopt(blob.sha256, blob.size_bytes)
    assert not store.has(blob.sha256)
    assert not store.partial(blob.sha256).exists()
    with pytest.raises(DigestError, match="No such file"):
        store.adopt(blob.sha256, blob.size_bytes)


def test_a_blob_of_another_size_counts_as_missing(store: Store) -> None:
    put(store, b"content")
    digest = blob_of(b"content").sha256
    damage(store, digest, b"con")
    assert store.missing({digest: 7}) == {digest: 7}
    put(store, b"content")
    assert store.read(blob_of(b"content")) == b"content"


def test_all_bytes_on_disk_count_each_once(store: Store, full: Made, red: Made) -> None:
    install(store, full, red)
    apart = full[0].size_bytes + red[0].size_bytes
    shared = set(full[0].blobs) & set(red[0].blobs)
    assert len(shared) == 3
    assert store.used_bytes() == apart - sum(full[0].blobs[digest] for digest in shared)
    store.partial("f" * 64).write_bytes(b"12345")
    assert store.used_bytes() == apart - sum(full[0].blobs[digest] for digest in shared) + 5


def test_damage_is_found_and_moved_away(store: Store, full: Made) -> None:
    install(store, full)
    assert store.verify() == ()
    harmed = sorted(blob.sha256 for blob in full[0].weights[:2])
    for digest in harmed:
        damage(store, digest)
    assert list(store.verify()) == harmed
    assert sorted(store.lost()) == harmed
    with pytest.raises(DigestError, match=r"expected 4 blobs in .*, got 2 fewer"):
        store.model("full")
    used = store.used_bytes()
    assert used - store.collect() == store.used_bytes() < used  # the damaged files
    put(store, *full[1][1:3])
    assert answers(store.model("full")) == list(COLOURS)
    assert not store.lost()


def test_a_strange_file_among_the_blobs_is_damage(store: Store) -> None:
    (store.blobs / "notes.txt").write_text("hello")
    assert store.verify() == ("notes.txt",)


def test_reading_a_damaged_blob_is_refused(store: Store) -> None:
    put(store, b"content")
    damage(store, blob_of(b"content").sha256)
    with pytest.raises(DigestError, match=r"expected SHA-256 .*verify it, then fetch what is lost"):
        store.read(blob_of(b"content"))
    with pytest.raises(DigestError, match="No such file"):
        store.read(blob_of(b"other"))


# The record


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


# What a model is opened from


def test_a_damaged_graph_is_refused_before_it_is_opened(store: Store, full: Made) -> None:
    install(store, full)
    damage(store, full[0].graph.sha256)
    with pytest.raises(DigestError, match="expected SHA-256"):
        store.model("full")


def test_a_weight_that_is_missing_or_cut_is_told(store: Store, full: Made) -> None:
    install(store, full)
    damage(store, full[0].weights[0].sha256, b"short")
    with pytest.raises(DigestError, match="got 1 fewer"):
        store.model("full")


def test_weights_of_another_model_do_not_fit(store: Store, full: Made) -> None:
    release = msgspec.structs.replace(full[0], weights=full[0].weights[:2])
    with pytest.raises(DigestError, match=r"expected a graph with 2 slots.*, got 3"):
        install(store, (release, full[1]))


def test_a_graph_that_does_not_open_is_a_model_error(store: Store, full: Made) -> None:
    content = b"\x0a\x01x"
    release = msgspec.structs.replace(full[0], graph=blob_of(content), weights=())
    install(store, (release, [content]))
    with pytest.raises(ModelError, match="expected an ONNX graph that ONNX Runtime"):
        store.model("full")
