"""Claims about blobs: only verified bytes get a name, and damage is found."""

from __future__ import annotations

import pytest

from tests.support.small_blobs import (
    Made,
    blob_of,
    install,
    put,
)
from tests.support.small_models import COLOURS
from tests.support.stored import answers, damage
from zoo.errors import (
    DigestError,
)
from zoo.store.store import Store


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
