"""Claims about the commands select and predict: one row an image, and honest about certificates."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from selector.answering.selector import Selector
from selector.commands import answer
from selector.commands.rows import Rows
from tests.support.command_line import CommandLine, Done
from tests.support.small_models import plain_image
from tests.support.world import World


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    Image.fromarray(plain_image("blue")).save(tmp_path / "photos" / "a.png")
    Image.fromarray(plain_image("red")).resize((9, 7)).save(tmp_path / "photos" / "deep" / "c.png")
    return tmp_path / "photos"


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
    assert first["reason"] == "not proven"
    for command in ("predict", "select"):
        zooselect(command, *arguments, "--require-certified", code=3)
        zooselect(command, *arguments[:2], "--precision", 0.8, "--require-certified")


def test_precision_may_be_called_accuracy(zooselect: CommandLine, world: World, pictures: Path) -> None:
    for command in ("predict", "select"):
        arguments = (command, world.bundles["cascade"], pictures / "red", "--accuracy")
        zooselect(*arguments, 0.8, "--require-certified")
        zooselect(*arguments, 0.999, "--require-certified", code=3)
        assert "got --precision and --accuracy" in zooselect(*arguments, 0.8, "--precision", 0.8, code=1).err


def test_costs_are_those_of_the_named_device(zooselect: CommandLine, world: World, pictures: Path) -> None:
    arguments = ("select", world.bundles["cascade"], pictures / "red", "--json", "--costs-of")
    assert '"cost_ms": ' in zooselect(*arguments, "bench-top").out
    assert "got only: bench-top" in zooselect(*arguments, "phone", code=1).err


def test_an_environment_can_be_named(zooselect: CommandLine, world: World, tmp_path: Path) -> None:
    Image.fromarray(plain_image("blue")).save(tmp_path / "x.png")
    arguments = ("predict", world.bundles["learned"], "x.png", "--precision", 0.7, "--json", "--environment")
    assert zooselect(*arguments, "clear", "--require-certified").json()["certified"]
    assert "got 'fog'. This bundle knows: clear, dark, noise." in zooselect(*arguments, "fog", code=1).err


def test_pictures_of_another_environment_are_said_to_differ(
    zooselect: CommandLine, world: World, tmp_path: Path
) -> None:
    for i, name in enumerate(world.data.ids[:300]):
        (tmp_path / world.data.environments[i]).mkdir(exist_ok=True)
        Image.fromarray(world.data.image(i)).save(tmp_path / world.data.environments[i] / f"{name}.png")
    dark = zooselect("predict", world.watched["cascade"], "dark", "--json", "--watch")
    rows = [json.loads(line) for line in dark.out.splitlines()]
    assert [row["image"] for row in rows] == sorted(row["image"] for row in rows)
    assert rows[-1]["reason"] == "drift"
    assert "drift: these images are unlike those that the certificates were made on" in dark.err
    assert "the reference model full answered, uncertified" in dark.err
    assert "drift" not in zooselect("predict", world.watched["cascade"], "clear", "--json", "--watch").err
    assert "drift" not in zooselect("predict", world.watched["cascade"], "dark").err


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


def test_one_bad_file_loses_no_answer(zooselect: CommandLine, world: World, photos: Path) -> None:
    (photos / "b.png").write_bytes(b"no image")
    for command in ("predict", "select"):
        done = zooselect(command, world.bundles["cascade"], photos, "--json", code=1)
        rows = [json.loads(line) for line in done.out.splitlines()]
        assert {Path(row["image"]).name for row in rows} == {"a.png", "c.png"}
        assert f"error: 1 of 3 images could not be read: {photos / 'b.png'}: cannot be read" in done.err
        assert "All others are answered." in done.err
        skipped = zooselect(command, world.bundles["cascade"], photos, "--skip-bad")
        assert len(skipped.out.splitlines()) == 2 + 2
        assert f"1 of 3 images could not be read and were left out. They are: {photos}" in skipped.err


def test_hidden_files_are_passed_over_and_others_counted(
    zooselect: CommandLine, world: World, photos: Path
) -> None:
    (photos / ".trash").mkdir()
    for name in ("._a.png", ".trash/old.png", "notes.txt", "deep/1.heic", "deep/2.HEIC"):
        (photos / name).write_bytes(b"no image")
    done = zooselect("predict", world.bundles["cascade"], photos, "--json")
    assert len(done.out.splitlines()) == 2
    assert done.err.splitlines()[-1] == "left out: 3 files (.heic 2, .txt 1)"


def test_rows_are_printed_as_they_come_after_one_warm_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], world: World, photos: Path
) -> None:
    chooser = Selector.load(world.bundles["cascade"])
    warmed: list[tuple[int, int]] = []
    printed: list[int] = []
    predict = chooser.predict

    def watched(image: Any, **asked: Any) -> Any:
        printed.append(len(capsys.readouterr().out.splitlines()))
        return predict(image, **asked)

    monkeypatch.setattr(chooser, "predict", watched)
    monkeypatch.setattr(chooser, "warm_up", lambda *size: warmed.append(size))
    answer.answer_images(chooser, [photos], {}, as_json=True)
    assert printed == [0, 1]
    assert len(warmed) == 1


def test_the_rows_of_a_table_stay_in_their_columns(capsys: pytest.CaptureFixture[str]) -> None:
    rows = Rows({"image": "long/name.png", "path": ["a", "b"], "probability": 0.0}, as_json=False)
    rows.add({"image": "x.png", "path": ["a"], "probability": np.float64(0.5)})
    rows.add({"image": "long/name.png", "path": ["a", "b"], "probability": None})
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == ["x.png          a      0.500", "long/name.png  a → b  –"]
    assert lines[0].split() == ["image", "path", "probability"]
