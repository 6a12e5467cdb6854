"""The command zoo adapt, run as the command line runs it, on a foreign model and on a net of our own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selector.commands.last_words import say_last_words
from tests.support.zoo_commands import add_onnx, make_folder, run
from training.data.sources import digits
from training.networks.family import train_family
from zoo.errors import DataError, ModelNotFoundError
from zoo.models.zoo import Zoo

__all__ = ["folder"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo with two small networks that know digits."""
    path = tmp_path_factory.mktemp("nets") / "zoo"
    train_family(Zoo.create(path), digits(), sizes=("tiny", "small"), epochs=3, progress=False)
    return path


def photos(where: Path, count: int = 150) -> Path:
    """Noise, of which the mean brightness tells the class."""
    rng = np.random.default_rng(1)
    for index in range(count):
        label = index % 3
        path = where / ("cat", "dog", "emu")[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(30 * label, 60 + 60 * label, (12, 14, 3), dtype=np.uint8)).save(path)
    return where


def test_adapts_a_foreign_model_and_says_what_moved(folder: Path) -> None:
    add_onnx(folder)
    data = photos(folder / "office")
    done = run(
        *("adapt", "net", "--data", data, "--environment", "office", "--share", 1, "--epochs", 20),
        *("--zoo", folder / "zoo", "--keep"),
    )
    assert done.exit_code == 0, done.output
    assert "net-office: is right on" in done.output
    assert "Changed: " in done.output
    listed = run("list", "--zoo", folder / "zoo")
    assert "net, adapted to office" in listed.output


def test_adapts_with_an_8_bit_child_and_tells_programs(nets: Path) -> None:
    common = ("--zoo", nets, "--json")
    run("compress", "tiny", "--data", "digits", *common, "--images", 32)
    done = run(
        *("adapt", "tiny", "--data", "digits", "--environments", "dark", "--environment", "dark", "--int8"),
        *("--epochs", 6, *common),
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["kept"]
    assert told["after"] > told["before"]
    assert told["p_value"] < 0.05
    assert 0 < told["difference"]["changed_bytes"] < told["difference"]["total_bytes"]
    assert told["int8"]["adapted"]["parent"] == "tiny-int8"
    assert "tiny-dark, int8, adapted to dark" in run("list", "--zoo", nets).output


def test_loose_images_need_a_model_that_labels_them(
    nets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = digits()
    for index in range(200):
        Image.fromarray(images.image(index)).save(tmp_path / f"{index}.png")
    common = ("--data", tmp_path, "--environment", "desk", "--zoo", nets, "--share", 1, "--epochs", 1)
    with pytest.raises(DataError, match="got images without one"):
        run("adapt", "tiny", *common)
    (tmp_path / "notes.txt").write_text("taken on Monday", "utf-8")
    done = run("adapt", "tiny", *common, "--labels-from", "small", "--keep")
    say_last_words()
    assert "left out: 1 file (.txt 1)" in capsys.readouterr().err
    assert done.exit_code == 0, done.output
    assert "tiny-desk: agrees with the labelling model on" in done.output


def test_an_unreadable_image_and_an_unknown_parent_are_named(folder: Path) -> None:
    add_onnx(folder)
    data = photos(folder / "office")
    (data / "cat" / "0.png").write_bytes(b"no image")
    common = ("--data", data, "--environment", "office", "--zoo", folder / "zoo", "--share", 1)
    with pytest.raises(DataError, match=r"0\.png"):
        run("adapt", "net", *common)
    with pytest.raises(ModelNotFoundError, match="no model 'nobody'"):
        run("adapt", "nobody", *common)


def test_a_head_alone_is_fitted_and_nothing_else_can_be_asked_of_it(nets: Path) -> None:
    given = ("adapt", "tiny", "--data", "digits", "--environments", "blur", "--environment", "blurred")
    done = run(*given, "--only", "head", "--zoo", nets, "--keep", "--json")
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert made["card"]["adapted"]["changed"] == ["head"]
    assert made["after"] > made["before"]
    for more, message in (
        (("--only", "body"), "expected --only head, got 'body'"),
        (("--only", "head", "--int8", "--epochs", 3), "expected --only head without --int8, --epochs"),
    ):
        with pytest.raises(DataError, match=message):
            run(*given, *more, "--zoo", nets)
