"""Claims about publishing bundles: they go out whole, with the models they were made for, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from selector.bundle.bundle import read_bundle_files
from tests.support.colours import edit_bundle
from tests.support.small_models import add_colours, build_onnx
from tests.support.small_repo import files
from zoo import Zoo
from zoo.errors import BundleError, CardError, DigestError, PublishError
from zoo.files import sha256_bytes
from zoo.publisher.keys import Keys
from zoo.publisher.publish import publish, published, remove
from zoo.releases.catalogue import read_blob

if TYPE_CHECKING:
    from tests.support.world import World

pytestmark = pytest.mark.usefixtures("quick_peak")


def test_a_bundle_goes_out_with_its_models(world: World, repo: Path, keys: Keys) -> None:
    folder = world.bundles["learned"]
    done = publish(repo, world.zoo, keys=keys, bundles={"colours": read_bundle_files(folder)})
    release = published(repo).bundles["colours"]
    assert read_blob(repo, release.record) == (folder / "bundle.json").read_bytes()
    assert {path: read_blob(repo, blob) for path, blob in release.files.items()} == {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in (folder / "graphs").iterdir()
    }
    assert release.models == {card.name: card.sha256 for card in world.zoo.cards}
    assert done.items[-1].kind == "bundle"
    assert not publish(repo, world.zoo, keys=keys, bundles={"colours": read_bundle_files(folder)}).changed


def test_graphs_of_the_selector_and_of_what_is_watched_are_files(
    world: World, repo: Path, keys: Keys
) -> None:
    folder = world.watched["input"]
    publish(repo, world.zoo, keys=keys, bundles={"colours": read_bundle_files(folder)})
    files = published(repo).bundles["colours"].files
    assert sorted(path.split("-")[0] for path in files) == ["drift", "selector"]


def test_a_bundle_and_its_models_always_fit_together(
    world: World, repo: Path, keys: Keys, tmp_path: Path
) -> None:
    shutil.copytree(world.zoo.folder, tmp_path / "zoo")
    changed = Zoo.open(tmp_path / "zoo")
    bundles = {"colours": read_bundle_files(world.bundles["cascade"])}
    with pytest.raises(PublishError, match="expected its model 'full' to be published"):
        publish(repo, changed, keys=keys, bundles=bundles, models=["tiny", "small"])
    publish(repo, changed, keys=keys, bundles=bundles)
    before = files(repo)
    add_colours(changed, "full", build_onnx(noise=0.1))
    with pytest.raises(PublishError, match="--bundle colours=FOLDER"):
        publish(repo, changed, keys=keys)
    with pytest.raises(PublishError, match="remove the bundle as well"):
        remove(repo, keys=keys, models=["full"])
    assert files(repo) == before
    assert not remove(repo, keys=keys, models=["full"], bundles=["colours"]).bundles


@pytest.mark.parametrize("how", ["none", "garbage", "outside", "edited", "name", "fields"])
def test_a_bad_bundle_is_refused_and_nothing_is_written(
    world: World, repo: Path, keys: Keys, tmp_path: Path, how: str
) -> None:
    bundle = world.copy_bundle("learned", tmp_path / "bundle")
    if how == "none":
        (bundle / "bundle.json").unlink()
    elif how == "garbage":
        (bundle / "bundle.json").write_bytes(b"\xff{")
    elif how == "edited":
        next((bundle / "graphs").iterdir()).write_bytes(b"other")
    elif how == "outside":
        (tmp_path / "secret").write_bytes(b"secret")
        facts = {"file": "../secret", "sha256": sha256_bytes(b"secret"), "size_bytes": 6}
        edit_bundle(bundle, lambda record: record["policies"][0]["states"][0].update(facts))
    elif how == "fields":
        edit_bundle(bundle, lambda record: record.update(models=[]))
    name = "No Name" if how == "name" else "colours"
    with pytest.raises((PublishError, BundleError, CardError, DigestError)):
        publish(repo, world.zoo, keys=keys, bundles={name: read_bundle_files(bundle)})
    assert files(repo) == {}
