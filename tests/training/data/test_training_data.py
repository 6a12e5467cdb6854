"""Labelled images: every source gives the same interface, and bad folders are explained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.downloads import torchvision_dataset
from training.data.folder import folder
from training.data.images import ArrayImages, LabelledImages
from training.data.sources import digits, load
from zoo.errors import DataError


def save(path: Path, colour: int = 0, size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 0, 0)).save(path)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    root = tmp_path / "pets"
    for i, name in enumerate(["dog/b.png", "cat/z.png", "cat/a.JPG", "dog/1.bmp"]):
        save(root / name, colour=60 * i)
    (root / "cat" / ".hidden.png").write_bytes(b"no image")
    (root / "cat" / "notes.txt").write_text("ignored")
    (root / ".cache").mkdir()
    return root


def test_digits_have_ten_classes_and_the_asked_size() -> None:
    data = digits(size=20)
    assert (len(data), data.classes, data.image(3).shape) == (1797, tuple("0123456789"), (20, 20, 3))
    assert data.image(0).dtype == np.uint8
    assert set(data.environments) == {"clear"}
    assert data.groups == data.ids


def test_the_digest_depends_on_pixels_and_settings_and_is_stable() -> None:
    assert digits().sha256 == digits().sha256 != digits(size=16).sha256
    some = digits().subset([1, 2])
    assert some.sha256 == digits().subset([1, 2]).sha256 != digits().subset([2, 1]).sha256
    assert some.originals_sha256 == digits().sha256


def test_a_subset_takes_indices_or_a_mask_and_keeps_the_order() -> None:
    data = digits()
    some = data.subset([7, 3])
    assert some.ids == [data.ids[7], data.ids[3]]
    assert some.labels.tolist() == [data.labels[7], data.labels[3]]
    np.testing.assert_array_equal(some.image(1), data.image(3))
    assert data.subset(data.labels == 4).labels.tolist() == [4] * int((data.labels == 4).sum())


def test_images_cannot_be_changed_by_who_reads_them() -> None:
    with pytest.raises(ValueError, match="read-only"):
        digits().image(0)[0, 0] = 1


def test_a_folder_is_sorted_by_class_and_name_and_ignores_what_is_no_image(pets: Path) -> None:
    data = folder(pets)
    assert data.ids == ["cat/a.JPG", "cat/z.png", "dog/1.bmp", "dog/b.png"]
    assert (data.classes, data.labels.tolist()) == (("cat", "dog"), [0, 0, 1, 1])
    assert data.image(0).shape == (4, 6, 3)


def test_a_folders_digest_changes_with_its_bytes_and_names_but_not_with_its_place(pets: Path) -> None:
    first = folder(pets).sha256
    moved = pets.rename(pets.with_name("animals"))
    assert folder(moved).sha256 == first
    save(moved / "cat" / "z.png", colour=99)
    second = folder(moved).sha256
    (moved / "dog" / "b.png").rename(moved / "dog" / "c.png")
    assert len({first, second, folder(moved).sha256}) == 3


@pytest.mark.parametrize("grouping", [r"^\w+/(\w)", lambda name: name.split("/")[1][0]])
def test_groups_come_from_a_pattern_or_a_function(pets: Path, grouping: object) -> None:
    assert folder(pets, groups=grouping).groups == ["a", "z", "1", "b"]  # type: ignore[arg-type]


@pytest.mark.parametrize("pattern", ["(", r"dog/(\w)"])
def test_refuses_a_pattern_that_is_broken_or_misses_an_image(pets: Path, pattern: str) -> None:
    with pytest.raises(DataError, match=r"expected .*Correct"):
        folder(pets, groups=pattern)


def test_an_unreadable_image_is_named(pets: Path) -> None:
    (pets / "cat" / "a.JPG").write_bytes(b"\xff\xd8 truncated")
    with pytest.raises(DataError, match=r"cat/a\.JPG.*skip-bad"):
        folder(pets).image(0)


def test_skip_bad_continues_and_lists_what_was_left_out(pets: Path) -> None:
    (pets / "cat" / "a.JPG").write_bytes(b"")
    data = folder(pets, skip_bad=True)
    assert data.ids == ["cat/z.png", "dog/1.bmp", "dog/b.png"]
    assert data.skipped == [str(pets / "cat" / "a.JPG")]
    assert data.labels.tolist() == [0, 1, 1]


def test_skip_bad_refuses_a_class_that_has_nothing_left(pets: Path) -> None:
    for name in ("a.JPG", "z.png"):
        (pets / "cat" / name).write_bytes(b"")
    with pytest.raises(DataError, match="none of 'cat'"):
        folder(pets, skip_bad=True)


def test_explains_every_wrong_folder(tmp_path: Path) -> None:
    for path, why in (("gone", "nothing there"), ("file", "a file"), ("empty", "an empty folder")):
        (tmp_path / "file").write_text("")
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(DataError, match=why):
            folder(tmp_path / path)
    save(tmp_path / "flat" / "a.png")
    with pytest.raises(DataError, match="1 images outside of class folders"):
        folder(tmp_path / "flat")
    save(tmp_path / "single" / "class" / "a.png")
    with pytest.raises(DataError, match="only 'class'"):
        folder(tmp_path / "single")


def test_a_class_folder_without_images_is_named_with_what_it_holds(pets: Path) -> None:
    (pets / "ant" / "train").mkdir(parents=True)
    (pets / "ant" / "train" / "1.heic").write_bytes(b"")
    with pytest.raises(DataError, match=r"ant: expected images .*left out: 1 file \(\.heic 1\)"):
        folder(pets)


def test_images_in_folders_below_a_class_folder_belong_to_the_class(pets: Path) -> None:
    save(pets / "cat" / "monday" / "raw" / "1.png")
    (pets / "cat" / ".trash").mkdir()
    save(pets / "cat" / ".trash" / "2.png")
    (pets / "dog" / "loop").symlink_to(pets / "dog", target_is_directory=True)
    data = folder(pets)
    assert data.ids == ["cat/a.JPG", "cat/monday/raw/1.png", "cat/z.png", "dog/1.bmp", "dog/b.png"]
    assert data.labels.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "ppm", "pgm", "jp2", "webp", "tga", "apng"])
def test_every_raster_format_is_read_by_the_ending_of_its_name(pets: Path, suffix: str) -> None:
    save(pets / "cat" / f"b.{suffix}", colour=200)
    data = folder(pets)
    assert data.image(data.ids.index(f"cat/b.{suffix}")).shape == (4, 6, 3)


def test_what_is_no_image_by_its_name_is_counted(pets: Path) -> None:
    (pets / "dog" / "deep").mkdir()
    for name in ("labels.csv", "dog/1.HEIC", "dog/deep/2.heic", "dog/README"):
        (pets / name).write_bytes(b"")
    for skip_bad in (False, True):
        assert folder(pets, skip_bad=skip_bad).left_out == {".heic": 2, ".txt": 1, ".csv": 1, "": 1}


def test_the_digest_of_a_flat_folder_is_that_of_the_first_version(tmp_path: Path) -> None:
    for name, content in (("a/1.gif", b"a/1.ppm"), ("a/0.png", b"a/0.png"), ("b/2.bmp", b"b/2.bmp")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert folder(tmp_path).sha256 == "60dd250315801348285c571807df99043c543728d0476494fe6df3e5f729c132"


def test_stack_resizes_images_of_different_sizes(pets: Path) -> None:
    save(pets / "dog" / "b.png", size=(30, 50))
    assert folder(pets).stack().shape == (4, 4, 6, 3)
    assert folder(pets).stack((8, 9)).shape == (4, 8, 9, 3)


def test_load_reads_names_and_paths_and_explains_anything_else(pets: Path) -> None:
    assert load("digits", size=8).image(0).shape == (8, 8, 3)
    assert load(str(pets)).classes == ("cat", "dog")
    with pytest.raises(DataError, match="expected 'digits'"):
        load(str(pets / "elsewhere"))


@pytest.mark.parametrize(("name", "file"), [("cifar10", "cifar-10-python.tar.gz"), ("mnist", "train-images")])
def test_without_a_network_it_says_what_to_fetch_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str
) -> None:
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setattr("urllib.request._opener", None)  # it is made once, with the proxies of that moment
    with pytest.raises(DataError, match=rf"fetch .*{file}"):
        torchvision_dataset(name, tmp_path)


def test_torchvision_images_become_rgb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 3), ("t10k", 2)):
        pixels = bytes(range(count)) * 784
        head = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (count, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + pixels)
        labels = b"\0\0\x08\x01" + count.to_bytes(4, "big") + bytes(range(count))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    data = torchvision_dataset("mnist", tmp_path, train=False)
    assert (len(data), data.image(0).shape, data.labels.tolist()) == (2, (28, 28, 3), [0, 1])
    assert len(data.classes) == 10


def test_refuses_an_unknown_torchvision_name() -> None:
    with pytest.raises(DataError, match="expected one of cifar10"):
        torchvision_dataset("imagenet")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ids": ["a", "a"]}, "distinct ids"),
        ({"labels": [0, 2]}, r"labels 0\.\.1"),
        ({"labels": [0]}, "1 labels"),
        ({"images": np.zeros((2, 4, 4), np.uint8)}, "uint8"),
        ({"images": np.zeros((3, 4, 4, 3), np.uint8)}, "expected 2 images"),
    ],
)
def test_arrays_are_checked(change: dict[str, object], why: str) -> None:
    facts: dict[str, object] = {
        "images": np.zeros((2, 4, 4, 3), np.uint8),
        "classes": ["x", "y"],
        "ids": ["a", "b"],
        "labels": [0, 1],
    }
    with pytest.raises(DataError, match=why):
        ArrayImages(**(facts | change))  # type: ignore[arg-type]


def test_the_given_cifar_folder_is_read(real_data: Path, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(real_data / "cifar10-test.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(("0.jpg", "0.png"))]
        archive.extractall(tmp_path, names)
    data: LabelledImages = folder(tmp_path / "test")
    assert (len(data), len(data.classes)) == (len(names), 10)
    assert data.image(0).shape == (32, 32, 3)
