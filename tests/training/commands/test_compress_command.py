"""Claims about ``zoo compress``: what was tried is told, and its images never judge the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.command_line import CommandLine
from tests.support.world import colour_zoo
from training.data.sources import load
from training.data.splits import TRAIN, Splits
from zoo.errors import ModelError
from zoo.models.zoo import Zoo


def test_calibration_images_are_left_out_of_a_profile(zooselect: CommandLine, pictures: Path) -> None:
    colour_zoo(Path("my-zoo"))
    done = zooselect("zoo", "compress", "full", "--data", pictures)
    assert "min-max ranges" in done.err
    assert "other images" in done.err
    card, data = Zoo.open("my-zoo").card("full-int8"), load(str(pictures))
    (part,) = card.learned_from
    assert (part.data_sha256, part.share) == (data.originals_sha256, 0.4)
    assert "the parent's class for" in card.source
    profiled = zooselect("profile", "--data", pictures, "--json").json()
    names = Splits(seed=part.seed, train=part.share).assign(data.groups)
    assert profiled["samples"] == int((names != TRAIN).sum()) < len(data)


def test_an_8_bit_model_gives_its_embedding_where_that_is_asked_for(
    zooselect: CommandLine, pictures: Path
) -> None:
    colour_zoo(Path("my-zoo"))
    asked = ("zoo", "compress", "full", "--data", pictures, "--embedding", "--json")
    card = zooselect(*asked).json()
    assert zooselect(*asked).json() == card, "the same again"
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    zoo = Zoo.open("my-zoo")
    logits, embedding = zoo.model("full-int8").embedded(pixels)
    assert len(embedding) == len(logits) == 2
    with pytest.raises(ModelError, match="a second output"):
        zoo.model("full").embedded(pixels)


def test_models_calibrated_on_everything_cannot_be_profiled_there(
    zooselect: CommandLine, pictures: Path
) -> None:
    colour_zoo(Path("my-zoo"))
    zooselect("zoo", "compress", "full", "--data", pictures, "--share", 1)
    assert "trained on all of them" in zooselect("profile", "--data", pictures, code=1).err


def test_other_models_are_calibrated_on_the_same_part(zooselect: CommandLine, pictures: Path) -> None:
    colour_zoo(Path("my-zoo"))
    for name, seed in (("full", 3), ("small", 4)):
        zooselect("zoo", "compress", name, "--data", pictures, "--seed", seed)
    parts = {part for card in Zoo.open("my-zoo").cards for part in card.learned_from}
    assert [part.seed for part in parts] == [3]


def test_too_few_images_in_the_share_are_told(zooselect: CommandLine, pictures: Path) -> None:
    colour_zoo(Path("my-zoo"))
    done = zooselect("zoo", "compress", "full", "--data", pictures, "--share", 0.01, code=1)
    assert "at least 8 calibration images" in done.err
    assert "--share 1" in done.err
