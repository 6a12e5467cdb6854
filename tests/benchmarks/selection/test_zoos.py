"""Claims about what suites run on: made once, and missing data are named."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from benchmarks.distribution.published import shaken
from benchmarks.selection.adapted import add_children
from benchmarks.selection.zoos import (
    Given,
    prepare_cifar10,
    prepare_photos,
    unpacked,
)
from training.data.environments import under_environments
from training.data.sources import digits
from training.networks.family import train_family
from zoo import Zoo
from zoo.convert.exchange import difference
from zoo.errors import DataError


def test_children_are_made_once_and_a_shaken_model_stands_for_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo = Zoo.create(tmp_path)
    train_family(zoo, digits(), sizes=("tiny",), epochs=1, progress=False)
    dark = under_environments(digits(), ["dark"])
    assert add_children(zoo, ["tiny"], dark, "dark", seed=0) == ["tiny-dark", "tiny-dark-int8"]
    assert "tiny-dark: " in capsys.readouterr().out
    cards = [zoo.card(name) for name in zoo.names]
    add_children(zoo, ["tiny"], dark, "dark", seed=0)
    assert list(zoo.cards) == cards
    content = (tmp_path / zoo.card("tiny").file).read_bytes()
    apart = difference(content, shaken(content, classes=10, seed=1))
    assert 0 < apart.changed_bytes < apart.total_bytes


def test_a_suite_without_its_data_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected --weights, a folder with cifar10-resnet20\.npz"):
        prepare_cifar10(Given(tmp_path))
    with pytest.raises(DataError, match=r"expected --data, a folder with imagenet-600\.zip"):
        prepare_photos(Given(tmp_path))
    with pytest.raises(DataError, match=r"cifar10-test\.zip or a folder .*test, got neither. Check --data"):
        unpacked(Given(tmp_path, tmp_path), "cifar10-test.zip", "test")


def test_archives_are_unpacked_once_and_folders_are_used_as_they_are(tmp_path: Path) -> None:
    given = Given(tmp_path / "work", tmp_path)
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.writestr("test/cat/1.txt", "an image")
    first = unpacked(given, "some.zip", "test")
    assert (first / "cat" / "1.txt").read_text() == "an image"
    (tmp_path / "some.zip").unlink()
    assert unpacked(given, "some.zip", "test") == first == given.work / "test"
    (tmp_path / "test").mkdir()
    assert unpacked(given, "some.zip", "test") == tmp_path / "test"
