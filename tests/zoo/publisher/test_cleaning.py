"""Claims about cleaning a publisher's folder: what is or was lately offered stays, all else goes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.small_models import add_colours, build_onnx
from tests.support.small_repo import blobs, files
from tests.support.standard_client import StandardClient, served
from zoo import Zoo
from zoo.errors import CardError, PublishError
from zoo.publisher.assignments import sign_assignments
from zoo.publisher.cleaning import clean
from zoo.publisher.keys import Keys
from zoo.publisher.publish import publish, published, remove
from zoo.releases.release import Assignment

DAY = 86400.0

pytestmark = pytest.mark.usefixtures("quick_peak")


def test_cleaning_keeps_what_is_or_was_lately_offered(small_zoo: Zoo, repo: Path, keys: Keys) -> None:
    publish(repo, small_zoo, keys=keys)
    gone = published(repo).models["full"]
    add_colours(small_zoo, "full", build_onnx(noise=0.1))
    publish(repo, small_zoo, keys=keys)
    before = files(repo)
    assert clean(repo).files == 0
    assert files(repo) == before
    planned = clean(repo, now=time.time() + 8 * DAY, dry_run=True)
    assert files(repo) == before
    assert clean(repo, now=time.time() + 8 * DAY) == planned
    wanted = {digest for release in published(repo).models.values() for digest in release.blobs}
    assert blobs(repo) == wanted
    assert set(gone.blobs) - wanted
    assert (repo / "metadata" / "1.root.json").exists()
    assert not (repo / "metadata" / "1.targets.json").exists()


def test_cleaning_goes_by_when_something_was_offered_last_not_by_its_age(
    small_zoo: Zoo, repo: Path, keys: Keys
) -> None:
    publish(repo, small_zoo, keys=keys)
    for path in repo.rglob("*"):
        os.utime(path, (0, 0))
    remove(repo, keys=keys, models=["tiny", "small"])
    assert clean(repo).files == 0
    assert clean(repo, now=time.time() + 8 * DAY).files > 0
    assert set(published(repo).models) == {"full"}


def test_a_device_goes_on_after_cleaning(small_zoo: Zoo, repo: Path, keys: Keys, tmp_path: Path) -> None:
    publish(repo, small_zoo, keys=keys)
    sign_assignments(
        repo, keys, [Assignment(schema_version=1, version=1, group="g", bundles=(), models=("tiny",))]
    )
    root = (repo / "metadata" / "1.root.json").read_bytes()
    with served(repo) as url:
        device = StandardClient(tmp_path / "device", root, url)
        assert device.model("tiny")
        clean(repo, now=time.time() + 30 * DAY, grace_days=0)
        assert device.model("full")
        assert device.assignment("g")


def test_leftovers_of_killed_publications_are_cleaned(small_zoo: Zoo, repo: Path, keys: Keys) -> None:
    publish(repo, small_zoo, keys=keys)
    before = files(repo)
    for name in ("blobs/ab/" + "a" * 64, "metadata/.timestamp.json.x.tmp", "metadata/2.targets.json"):
        (repo / name).parent.mkdir(exist_ok=True)
        (repo / name).write_bytes(b"half")
    (repo / ".staging-x").mkdir()
    (repo / ".staging-x" / "blob").write_bytes(b"half")
    os.utime(repo / ".staging-x", (0, 0))
    clean(repo, now=time.time() + 8 * DAY)
    assert files(repo) == before


def test_cleaning_touches_nothing_that_it_does_not_understand(
    small_zoo: Zoo, repo: Path, keys: Keys, tmp_path: Path
) -> None:
    with pytest.raises(PublishError):
        clean(tmp_path)
    publish(repo, small_zoo, keys=keys)
    with pytest.raises(PublishError):
        clean(repo, grace_days=-1)
    path = repo / "metadata" / "1.targets.json"
    path.write_bytes(path.read_bytes()[:-9])
    before = files(repo)
    with pytest.raises(CardError):
        clean(repo, now=time.time() + 8 * DAY)
    assert files(repo) == before
