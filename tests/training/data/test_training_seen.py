"""Images that a model learned from are recognised wherever they lie, and never judge it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.support.world import colour_images, colour_zoo
from training.data.environments import under_environments
from training.data.folder import folder, loose
from training.data.images import ArrayImages, LabelledImages
from training.data.seen import FOLDER, names_without_seen, remember, seen_in_training
from training.data.splits import TRAIN, Splits
from training.networks.distill import distill
from training.outcomes.profile import profile
from zoo.errors import DataError
from zoo.models.card import TrainedOn
from zoo.models.zoo import Zoo

COUNT = 90


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return colour_zoo(tmp_path / "zoo")


def write(data: LabelledImages, root: Path, names: str) -> Path:
    """The images as PNG files; `names` says where, from class and number."""
    for i in range(len(data)):
        path = root / names.format(kind=data.classes[data.labels[i]], number=i)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.image(i)).save(path)
    return root


def taught(zoo: Zoo, data: LabelledImages, share: float) -> TrainedOn:
    """A part of the data that a model of the zoo is said to have learned from."""
    part = TrainedOn(data_sha256=data.originals_sha256, share=share, seed=3)
    remember(zoo, part, data)
    card = zoo.card("full")
    content = (zoo.folder / card.file).read_bytes()
    zoo.add(
        "taught",
        content,
        classes=card.classes,
        resolution=card.resolution,
        parameters=card.parameters,
        macs=card.macs,
        trained_on=part,
    )
    return part


def renamed(data: ArrayImages) -> ArrayImages:
    """The same pixels under other names: other data, by their digest."""
    return ArrayImages(data.images, data.classes, [f"other {name}" for name in data.ids], data.labels)


def test_training_remembers_its_images(zoo: Zoo) -> None:
    card = distill(zoo, "full", colour_images(COUNT), student="tiny", share=0.5, epochs=1, progress=False)
    assert 90 < seen_in_training(zoo, [card], renamed(colour_images(COUNT))).sum() < 180


def test_a_folder_that_was_sorted_anew_and_grew_keeps_its_training_images_apart(
    zoo: Zoo, tmp_path: Path
) -> None:
    images = colour_images(COUNT)
    before = folder(write(images, tmp_path / "before", "{kind}/{number}.png"))
    part = taught(zoo, before, 0.5)
    learned = Splits(seed=part.seed, train=part.share).assign(before.groups) == TRAIN
    now = write(images, tmp_path / "now", "{kind}/by day/photo {number}.PNG")
    write(colour_images(30, seed=1), now, "{kind}/new {number}.png")
    sorted_anew = folder(now)
    assert sorted_anew.sha256 != before.sha256
    record = profile(zoo, sorted_anew, tmp_path / "profile", progress=False)
    assert record.samples == len(sorted_anew) - learned.sum() > len(before) - learned.sum()
    shown = under_environments(sorted_anew, ["clear", "dark"])
    assert seen_in_training(zoo, zoo.cards, shown).sum() == 2 * learned.sum()


def test_loose_images_are_recognised_when_they_are_sorted_into_class_folders(
    zoo: Zoo, tmp_path: Path
) -> None:
    images = colour_images(COUNT)
    unsorted = loose(write(images, tmp_path / "unsorted", "{number}.png"), images.classes)
    taught(zoo, unsorted, 1.0)
    sorted_later = folder(write(images, tmp_path / "sorted", "{kind}/{number}.png"))
    assert seen_in_training(zoo, zoo.cards, sorted_later).all()
    assert not seen_in_training(zoo, [zoo.card("full")], sorted_later).any()


def test_models_that_learned_from_all_images_are_not_judged_by_them(zoo: Zoo) -> None:
    taught(zoo, colour_images(COUNT), 1.0)
    with pytest.raises(DataError, match="trained on all of them"):
        names_without_seen(Splits(), zoo, renamed(colour_images(COUNT)))


def test_a_broken_record_is_named(zoo: Zoo) -> None:
    taught(zoo, colour_images(COUNT), 0.5)
    (path,) = (zoo.folder / FOLDER).iterdir()
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match=rf"{path.name}: expected the images .*--force"):
        seen_in_training(zoo, zoo.cards, renamed(colour_images(COUNT)))
