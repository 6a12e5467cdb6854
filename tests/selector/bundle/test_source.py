"""Claims about where files come from: nothing unverified, and nothing of another version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from selector import Selector
from selector.bundle.source import FolderSource, StoreSource, state_of
from tests.support.small_models import build_onnx
from tests.support.small_store import Shelf
from zoo.errors import BundleError, DigestError, ModelNotFoundError
from zoo.files import sha256_bytes

if TYPE_CHECKING:
    from tests.support.world import World


@pytest.fixture
def shelf(world: World, tmp_path: Path) -> Shelf:
    """An empty store, and the input bundle to install from."""
    return Shelf(world.bundles["input"], tmp_path / "store")


def test_a_folder_holds_the_models_whose_files_are_there(world: World, tmp_path: Path) -> None:
    folder = world.copy_bundle("input", tmp_path / "bundle")
    bundle = Selector.load(folder).bundle
    assert FolderSource(folder).held(bundle) == ("tiny", "small", "full")
    (folder / bundle.card("small").file).unlink()
    assert FolderSource(folder).held(bundle) == ("tiny", "full")


def test_a_store_holds_the_models_that_are_installed(shelf: Shelf) -> None:
    shelf.install("full", "tiny")
    source = StoreSource.of(shelf.store, "colours")
    bundle = source.bundle()
    assert bundle == Selector.load(shelf.folder).bundle
    assert source.held(bundle) == ("tiny", "full")
    assert source.model(bundle.card("tiny"), threads=1).card == bundle.card("tiny")
    with pytest.raises(ModelNotFoundError):
        source.model(bundle.card("small"), threads=1)


def test_a_bundle_that_is_not_installed_is_named(shelf: Shelf) -> None:
    shelf.install("tiny", bundle=False)
    with pytest.raises(BundleError, match=r"expected the bundle 'colours' in .*, got: no bundle"):
        StoreSource.of(shelf.store, "colours")
    shelf.install("tiny")
    with pytest.raises(BundleError, match=r"expected the bundle 'birds' in .*, got: colours\. Install it"):
        StoreSource.of(shelf.store, "birds")


def test_another_version_of_a_model_does_not_count(shelf: Shelf) -> None:
    content = build_onnx(noise=0.3, seed=9)
    tiny = shelf.model_release("tiny")
    card = msgspec.structs.replace(tiny.card, sha256=sha256_bytes(content), size_bytes=len(content))
    newer = msgspec.structs.replace(tiny, version=2, card=card, graph=shelf.put(content))
    shelf.commit([newer, shelf.model_release("full")], [shelf.bundle_release()])
    source = StoreSource.of(shelf.store, "colours")
    assert source.held(source.bundle()) == ("full",)
    with pytest.raises(DigestError, match=r"model 'tiny': expected the version .* got .* Call update\(\)"):
        source.model(tiny.card, threads=1)


def test_graphs_are_those_that_the_bundle_names(shelf: Shelf) -> None:
    shelf.install("tiny")
    source = StoreSource.of(shelf.store, "colours")
    record = source.bundle().selector
    assert record is not None
    content = source.read(record.file, record.sha256, record.size_bytes)
    assert content == (shelf.folder / record.file).read_bytes()
    with pytest.raises(
        DigestError, match=r"expected selector-.*\.onnx 0000.* of 7 bytes, got .*publish it again"
    ):
        source.read(record.file, "0" * 64, 7)
    with pytest.raises(DigestError, match=r"expected other\.onnx .* got none"):
        source.read("other.onnx", record.sha256, record.size_bytes)


def test_the_state_of_a_store_changes_with_every_commit(shelf: Shelf) -> None:
    seen = [state_of(shelf.store)]
    for models in (("tiny",), ("small",), ("tiny",)):
        shelf.install(*models)
        assert state_of(shelf.store) == state_of(shelf.store) not in seen
        seen.append(state_of(shelf.store))
