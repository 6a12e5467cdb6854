"""Claims about the catalogue of a publisher: the newest complete publication, and nothing damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.small_releases import bundle_release, list_targets, model_release, publish, role, write
from zoo.errors import CardError, DigestError, TrustError
from zoo.files import sha256_bytes
from zoo.releases.catalogue import index_from_folder, read_blob
from zoo.releases.published import MAX_METADATA_BYTES
from zoo.releases.release import Assignment, Blob

ONE, TWO = model_release("one", {"w": 5}), model_release("two", {"w": 5})
BIRDS = bundle_release("birds", (ONE,))
CAMERAS = Assignment(schema_version=1, version=1, group="cameras", bundles=("birds",), models=("one",))


@pytest.fixture
def publisher(tmp_path: Path) -> Path:
    """A publisher of one model, one bundle and one assignment, as The Update Framework lays it out."""
    publish(tmp_path, {"models/one.json": ONE, "bundles/birds.json": BIRDS})
    list_targets(tmp_path, "2.assignments.json", {"assignments/cameras.json": CAMERAS})
    versions = {"targets.json": {"version": 3}, "assignments.json": {"version": 2}}
    write(tmp_path / "metadata" / "7.snapshot.json", role("snapshot", meta=versions))
    return tmp_path


def test_it_has_what_is_published(publisher: Path) -> None:
    index = index_from_folder(publisher)
    assert index.models == {"one": ONE}
    assert index.bundles == {"birds": BIRDS}
    assert index.assignments == {"cameras": CAMERAS}


def test_a_publication_that_is_under_way_is_not_seen(publisher: Path) -> None:
    list_targets(publisher, "4.targets.json", {"models/two.json": TWO})
    assert set(index_from_folder(publisher).models) == {"one"}
    write(publisher / "metadata" / "8.snapshot.json", role("snapshot", meta={"targets.json": {"version": 4}}))
    assert set(index_from_folder(publisher).models) == {"one"}
    write(
        publisher / "metadata" / "timestamp.json", role("timestamp", meta={"snapshot.json": {"version": 8}})
    )
    index = index_from_folder(publisher)
    assert (set(index.models), index.bundles, index.assignments) == ({"two"}, {}, {})


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"expected the folder of a publisher, got no metadata/timestamp"):
        index_from_folder(tmp_path)


def test_a_record_of_another_content_is_refused(publisher: Path) -> None:
    path = next((publisher / "targets" / "models").iterdir())
    path.write_bytes(path.read_bytes().replace(b"one", b"two"))
    with pytest.raises(DigestError, match="expected SHA-256"):
        index_from_folder(publisher)


BROKEN: list[tuple[str, Callable[[Path], object], str]] = [
    (
        "a target of another kind",
        lambda p: list_targets(p, "3.targets.json", {"x/one.json": ONE}),
        "'x/one.json'",
    ),
    (
        "no JSON",
        lambda p: (p / "metadata" / "3.targets.json").write_text("{"),
        "expected metadata of The Upd",
    ),
    ("no file", lambda p: (p / "metadata" / "7.snapshot.json").unlink(), "expected metadata of The Update"),
    (
        "another name",
        lambda p: list_targets(p, "3.targets.json", {"models/two.json": ONE}),
        "expected the record of 'two', got that of 'one'",
    ),
    (
        "another record",
        lambda p: list_targets(p, "3.targets.json", {"models/birds.json": BIRDS}),
        "not a valid ModelRelease record",
    ),
    (
        "the metadata of another role",
        lambda p: write(p / "metadata" / "3.targets.json", role("snapshot", meta={})),
        "got: that of 'snapshot'",
    ),
    (
        "metadata without an end",
        lambda p: (p / "metadata" / "7.snapshot.json").write_bytes(b" " * (MAX_METADATA_BYTES + 1)),
        "expected at most 16,777,216 bytes",
    ),
    (
        "a target outside its folder",
        lambda p: write(
            p / "metadata" / "3.targets.json",
            role("targets", targets={"models/../x.json": {"length": 1, "hashes": {"sha256": "0" * 64}}}),
        ),
        "got 'models/../x.json'",
    ),
    (
        "no version",
        lambda p: write(p / "metadata" / "timestamp.json", role("timestamp", meta={})),
        "expected the version of snapshot.json",
    ),
    (
        "a huge target",
        lambda p: write(
            p / "metadata" / "3.targets.json",
            role("targets", targets={"models/one.json": {"length": 2**40, "hashes": {"sha256": "0" * 64}}}),
        ),
        "expected metadata of The Update Framework",
    ),
]


@pytest.mark.parametrize(("break_it", "message"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_damaged_metadata_is_refused(
    publisher: Path, break_it: Callable[[Path], object], message: str
) -> None:
    break_it(publisher)
    with pytest.raises((CardError, TrustError), match=message):
        index_from_folder(publisher)


def test_a_blob_is_read_only_as_what_it_is(publisher: Path) -> None:
    blob = Blob(sha256=sha256_bytes(b"weights"), size_bytes=7)
    path = publisher / blob.path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert read_blob(publisher, blob) == b"weights"
    path.write_bytes(b"Weights")
    with pytest.raises(DigestError, match="expected SHA-256"):
        read_blob(publisher, blob)
