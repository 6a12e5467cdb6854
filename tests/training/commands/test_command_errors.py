"""Claims about bad input: one line that says what to do, and nothing is dropped silently."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.support.command_line import CommandLine
from tests.support.small_models import plain_image
from tests.support.world import World


def bad_picture(pictures: Path, tmp_path: Path) -> Path:
    shutil.copytree(pictures / "red", tmp_path / "photos" / "red")
    shutil.copytree(pictures / "blue", tmp_path / "photos" / "blue")
    (tmp_path / "photos" / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n truncated")
    return tmp_path / "photos"


def test_an_unreadable_image_is_named_or_left_out_and_counted(
    zooselect: CommandLine, world: World, pictures: Path, tmp_path: Path
) -> None:
    photos = bad_picture(pictures, tmp_path)
    count = len(list(photos.rglob("*.png")))
    done = zooselect("predict", world.bundles["cascade"], photos, code=1)
    assert "broken.png: cannot be read as an image" in done.err
    assert "--skip-bad" in done.err
    done = zooselect("predict", world.bundles["cascade"], photos, "--skip-bad", "--json")
    assert f"1 of {count} images could not be read and were left out." in done.err
    assert len(done.out.splitlines()) == count - 1
    failed = zooselect("profile", "--zoo", world.zoo.folder, "--data", photos, code=1)
    assert "broken.png" in failed.err
    assert "--skip-bad" in failed.err
    skipped = zooselect(
        "profile", "--zoo", world.zoo.folder, "--data", photos, "--skip-bad", "--json", "--out", "other"
    )
    assert skipped.json()["skipped"] == 1
    assert "1 images could not be read and were left out" in skipped.err


def test_what_is_no_image_is_counted_when_the_command_ends(
    zooselect: CommandLine, world: World, pictures: Path, tmp_path: Path
) -> None:
    photos = bad_picture(pictures, tmp_path)
    (photos / "red" / "broken.png").rename(photos / "red" / "broken.heic")
    done = zooselect("profile", "--zoo", world.zoo.folder, "--data", photos)
    assert done.err.splitlines()[-1] == "left out: 1 file (.heic 1)"
    failed = zooselect("profile", "--zoo", "nowhere", "--data", photos, code=1)
    assert failed.err.count("left out") <= 1


def test_errors_are_one_line_on_standard_error_with_code_1(
    zooselect: CommandLine, world: World, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    Image.fromarray(plain_image("red")).save(tmp_path / "red.png")
    bundle = world.bundles["input"]
    cases: list[tuple[tuple[object, ...], str]] = [
        (("predict", "nowhere", "red.png"), "expected a bundle in nowhere, got no bundle.json there"),
        (("predict", bundle, "nowhere.png"), "nowhere.png: cannot be read"),
        (("predict", bundle, "empty"), "expected images in empty, got none. Supported: .apng, .avif"),
        (("predict", bundle, "red.png", "--precision", 1.5), "expected a precision strictly between 0 and 1"),
        (
            ("select", bundle, "red.png", "--precision", "nan"),
            "expected a precision strictly between 0 and 1",
        ),
        (("bench", "nowhere"), "expected a zoo in nowhere"),
        (("bench", world.zoo.folder, "--size", "big"), "expected a size such as 224x224, got 'big'"),
        (("bench", world.zoo.folder, "--size", "0x5"), "expected a size such as 224x224, got '0x5'"),
        (("bench", world.zoo.folder, "--device", "My Phone"), "device: "),
        (("zoo", "list", "--zoo", "nowhere"), "expected a zoo in nowhere"),
        (("profile", "--data", "nowhere", "--zoo", world.zoo.folder), "expected 'digits', a folder of class"),
        (("profile", "--data", "empty", "--zoo", world.zoo.folder), "empty"),
        (("profile", "--data", "digits", "--zoo", world.zoo.folder), "does not know '0'"),
        (("fit", "--zoo", world.zoo.folder), "expected a LatencyTable record"),
        (("evaluate",), "expected a fitted selector in my-selector"),
        (("export",), "expected a fitted selector in my-selector"),
    ]
    for arguments, message in cases:
        done = zooselect(*arguments, code=1)
        assert done.out == ""
        assert done.err.startswith("error: ")
        assert message in done.err
        assert "Traceback" not in done.err


def test_timing_a_bundle_needs_the_images(zooselect: CommandLine, world: World) -> None:
    from training.fitting.fitted import save_fit

    save_fit(world.fits["cascade"], Path("my-selector"))
    done = zooselect("evaluate", "--profile", world.profile, "--bundle", world.bundles["cascade"], code=1)
    assert "expected --data with --bundle" in done.err


@pytest.mark.parametrize("text", ["fit=much", "fit", "train=0.5", "fit=0.5,test=0.4"])
def test_wrong_splits_are_refused(zooselect: CommandLine, world: World, pictures: Path, text: str) -> None:
    arguments = ("profile", "--zoo", world.zoo.folder, "--data", pictures, "--split", text)
    assert "expected shares" in zooselect(*arguments, code=1).err
