"""Claims about what profiling sends to a cluster; what runs there is in tests/test_ray.py."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.support.world import COLOUR_SPLITS, World, colour_images
from training.data.folder import folder as image_folder
from training.data.images import LabelledImages
from training.features.features import NAMES, feature_graph
from training.outcomes import shards
from training.outcomes.batches import Batches
from training.outcomes.profile import profile
from training.outcomes.shards import Profiling, packed_shards, shard_worker
from zoo.errors import DataError, DigestError

ANYWHERE = "192.0.2.1:1"  # set aside for documentation: nobody answers there


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(world: World, data: LabelledImages, folder: Path, **options: Any) -> None:
    profile(world.zoo, data, folder, splits=COLOUR_SPLITS, threads=1, progress=False, batch_size=5, **options)


class MixedSizes(LabelledImages):
    """Images of several sizes, in memory."""

    def __init__(self, count: int) -> None:
        super().__init__(["a"], [f"{i}" for i in range(count)], [0] * count)

    def image(self, index: int) -> NDArray[np.uint8]:
        return np.full((1 + index * 7 % 11, 1 + index * 5 % 13, 3), index % 256, np.uint8)

    def _digest(self) -> str:
        return "a" * 64


def how(world: World, *, batch_size: int, pixels: int) -> Profiling:
    orders = {name: np.arange(3) for name in world.zoo.names}
    features = feature_graph(NAMES, grid=32).SerializeToString()
    return Profiling(orders, features, 32, batch_size, pixels)


@pytest.mark.parametrize(("batch_size", "pixels"), [(1, 10**6), (7, 200), (16, 60), (64, 10**6), (64, 1)])
def test_shards_end_where_batches_end(
    world: World, monkeypatch: pytest.MonkeyPatch, batch_size: int, pixels: int
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 500)
    data, members = MixedSizes(150), np.arange(3, 147)
    whole = [batch.size for batch in Batches(data, members, size=batch_size, pixels=pixels, of_images={})]
    sizes, ids = [], []
    for shard in packed_shards(data, members, ["x"], how(world, batch_size=batch_size, pixels=pixels)):
        some = shards._Unpacked(shard)
        rows = np.arange(len(some))
        sizes += [one.size for one in Batches(some, rows, size=batch_size, pixels=pixels, of_images={})]
        ids += shard.ids
    assert sizes == whole
    assert ids == [data.ids[i] for i in members]


def test_files_travel_as_they_are_and_broken_ones_are_named(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.jpg", "b/3.png", "b/broken.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    rotated = io.BytesIO()
    tags = Image.Exif()
    tags[0x0112] = 6  # turned by a quarter
    Image.fromarray(np.zeros((200, 300, 3), np.uint8)).save(rotated, "JPEG", exif=tags)
    (tmp_path / "a" / "2.jpg").write_bytes(rotated.getvalue())
    broken = tmp_path / "b" / "broken.png"
    broken.write_bytes(broken.read_bytes()[:-900])
    data = image_folder(tmp_path)
    turned = data.packed(data.ids.index("a/2.jpg"))
    assert isinstance(turned.content, bytes)
    for index in range(3):
        packed = data.packed(index)
        np.testing.assert_array_equal(packed.image(), data.image(index))
        assert packed.pixels == data.image(index).shape[0] * data.image(index).shape[1]
    with pytest.raises(DataError, match=r"broken\.png.*--skip-bad"):
        data.packed(3).image()
    broken.unlink()
    with pytest.raises(DataError, match=r"broken\.png.*No such file"):
        data.packed(3)


def test_a_model_that_is_damaged_on_the_way_is_refused(world: World) -> None:
    card = world.zoo.cards[0]
    content = (world.zoo.folder / card.file).read_bytes()
    settings = how(world, batch_size=5, pixels=10**6)
    with pytest.raises(DigestError, match=r"expected SHA-256 .* on a node"):
        shard_worker(settings, [card], 1, content[:-1] + b"x")


def test_with_nothing_missing_no_cluster_is_looked_for(world: World, tmp_path: Path) -> None:
    data = colour_images(60)
    run(world, data, tmp_path)
    before = files(tmp_path)
    run(world, data, tmp_path, ray=ANYWHERE)
    assert files(tmp_path) == before
