"""Claims about measuring a folder: a zoo or a bundle, installed models only, the selector beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from selector.answering.bench import measure_folder
from selector.bundle.bundle import read_bundle
from tests.support.small_models import plain_image
from zoo.errors import CardError, LatencyError

if TYPE_CHECKING:
    from tests.support.world import World

IMAGES = [plain_image("red"), plain_image("blue")]


def test_a_zoo_is_measured(world: World) -> None:
    table = measure_folder(world.zoo.folder, IMAGES, device="here", runs=20)
    assert table.costs_ms(world.zoo).keys() == {"tiny", "small", "full"}
    assert (table.device, table.image, table.selector) == ("here", (8, 8), None)


def test_a_bundle_is_measured_with_its_selector(world: World) -> None:
    table = measure_folder(world.bundles["input"], IMAGES, device="here", runs=20)
    record = read_bundle(world.bundles["input"]).selector
    assert record is not None
    assert table.selector is not None
    assert table.selector.sha256 == record.sha256
    assert table.selector.latency.p50_ms > 0
    assert measure_folder(world.bundles["cascade"], IMAGES, device="here", runs=20).selector is None


def test_only_installed_models_are_measured(world: World, tmp_path: Path) -> None:
    bundle = world.copy_bundle("cascade", tmp_path / "bundle")
    (bundle / read_bundle(bundle).card("full").file).unlink()
    assert set(measure_folder(bundle, IMAGES, device="here", runs=20).models) == {"tiny", "small"}


def test_nothing_to_measure_is_an_error(world: World, tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"expected a zoo in .*, got no zoo\.json there"):
        measure_folder(tmp_path, IMAGES, device="here")
    with pytest.raises(LatencyError, match="got 3 models and 0 images"):
        measure_folder(world.zoo.folder, [], device="here")
