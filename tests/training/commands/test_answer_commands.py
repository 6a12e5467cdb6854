"""Claims about the commands select and predict: one row an image, and honest about certificates."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

from selector.commands import answer
from tests.support.command_line import CommandLine, Done
from tests.support.small_models import plain_image
from tests.support.world import World


def test_an_uncertified_precision_is_said_and_can_end_in_code_3(
    zooselect: CommandLine, world: World, pictures: Path
) -> None:
    arguments = (world.bundles["cascade"], pictures / "red", "--precision", 0.999, "--json")
    done = zooselect("predict", *arguments)
    assert "precision 0.999 is not certified with the models tiny, small, full; " in done.err
    assert re.search(r"; 0\.9\d* is the nearest that is\.", done.err)
    assert "The reference model full answers." in done.err
    first = Done(0, done.out.splitlines()[0], "").json()
    assert (first["certified"], first["probability"], first["model"]) == (False, None, "full")
    for command in ("predict", "select"):
        zooselect(command, *arguments, "--require-certified", code=3)
        zooselect(command, *arguments[:2], "--precision", 0.8, "--require-certified")


def test_an_environment_can_be_named(zooselect: CommandLine, world: World, tmp_path: Path) -> None:
    Image.fromarray(plain_image("blue")).save(tmp_path / "x.png")
    arguments = ("predict", world.bundles["learned"], "x.png", "--precision", 0.7, "--json", "--environment")
    assert zooselect(*arguments, "clear", "--require-certified").json()["certified"]
    unknown = zooselect(*arguments, "fog")
    assert not unknown.json()["certified"]
    assert "small, full in the environment 'fog'; none is. The reference model full answers." in unknown.err


def test_pictures_of_another_environment_are_said_to_differ(
    zooselect: CommandLine, world: World, tmp_path: Path
) -> None:
    for i, name in enumerate(world.data.ids[:300]):
        (tmp_path / world.data.environments[i]).mkdir(exist_ok=True)
        Image.fromarray(world.data.image(i)).save(tmp_path / world.data.environments[i] / f"{name}.png")
    dark = zooselect("predict", world.watched["cascade"], "dark", "--json")
    assert "drift: these images are unlike those that the certificates were made on" in dark.err
    assert "the reference model full answered, uncertified" in dark.err
    assert "drift" not in zooselect("predict", world.watched["cascade"], "clear", "--json").err
    assert "drift" not in zooselect("predict", world.watched["cascade"], "dark", "--no-watch").err


def test_a_bundle_of_an_earlier_version_says_to_make_it_again(
    zooselect: CommandLine, world: World, tmp_path: Path
) -> None:
    bundle = world.copy_bundle("cascade", tmp_path / "bundle")
    record = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(record | {"schema_version": 1}))
    done = zooselect("predict", "bundle", "x.png", code=1)
    assert "expected schema version 2 or newer, got 1. It was written by an older zooselect" in done.err


def test_one_image_is_answered_in_one_row(zooselect: CommandLine, world: World, tmp_path: Path) -> None:
    Image.fromarray(plain_image("blue")).save(tmp_path / "x.png")
    done = zooselect("predict", world.bundles["cascade"], "x.png", "--json")
    row = done.json()
    assert (row["image"], row["label"], row["path"], row["certified"]) == ("x.png", "blue", ["tiny"], True)
    assert row["latency_ms"] > 0
    assert row["class_probability"] > 0.5
    assert "x.png  blue" in zooselect("predict", world.bundles["cascade"], "x.png").out


def test_numbers_of_other_types_are_shown_plainly() -> None:
    assert answer._text(None) == "–"
    assert answer._text(np.float64(0.5)) == "0.500"
    assert answer._text(["a", "b"]) == "a → b"
    answer._show([], as_json=False)
