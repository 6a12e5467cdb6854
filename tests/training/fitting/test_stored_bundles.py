"""Claims about the bundles that the device side is tested with: fitting and export make the same today."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selector import Selector
from selector.bundle.bundle import read_bundle
from tests.support.colours import KINDS, STORED, STORED_WATCHED, StoredWorld, colour_pixels, files_of
from tests.support.world import World
from tests.support.write_bundles import stored_bundles


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredWorld:
    return StoredWorld(tmp_path_factory.mktemp("stored"))


@pytest.mark.parametrize("name", [*KINDS, *(f"watched-{kind}" for kind in STORED_WATCHED)])
def test_a_stored_bundle_answers_as_one_that_is_exported_now(
    world: World, stored: StoredWorld, name: str
) -> None:
    kind = name.removeprefix("watched-")
    old = (stored.watched if name.startswith("watched-") else stored.bundles)[kind]
    new = stored_bundles(world)[name]
    assert read_bundle(old).models == read_bundle(new).models
    assert [policy.models for policy in read_bundle(old).policies] == [
        policy.models for policy in read_bundle(new).policies
    ]
    one, other = (Selector.load(bundle, watch=False) for bundle in (old, new))
    assert one.certified_precisions == other.certified_precisions
    for image in colour_pixels(60, seed=7).pixels:
        got, expected = one.predict(image), other.predict(image)
        assert (got.label, got.path, got.certified) == (expected.label, expected.path, expected.certified)
        np.testing.assert_allclose(got.probabilities, expected.probabilities, atol=1e-5)


def test_what_is_stored_is_what_the_bundles_name(stored: StoredWorld) -> None:
    bundles = [*stored.bundles.values(), *stored.watched.values()]
    named = {Path(file).name for bundle in bundles for file in files_of(bundle)}
    assert {path.name for path in (STORED / "files").iterdir()} == named


def test_images_and_test_samples_are_those_of_the_fit(world: World, stored: StoredWorld) -> None:
    assert stored.data.ids == list(world.data.ids)
    np.testing.assert_array_equal(stored.data.image(7), world.data.image(7))
    assert stored.test_groups == world.test_groups
