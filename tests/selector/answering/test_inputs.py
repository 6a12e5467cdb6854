"""Claims about what may be answered: arrays, PIL images and paths, alone and in any iterable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import selector.answering.batches
from selector import Selector
from tests.support.fresh_interpreter import loaded_after
from tests.support.small_models import COLOURS, plain_image
from zoo.errors import ImageError, PrecisionError

if TYPE_CHECKING:
    from tests.support.world import World


@pytest.fixture
def chooser(world: World) -> Selector:
    return Selector.load(world.bundles["input"])


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for colour in COLOURS:
        Image.fromarray(plain_image(colour)).save(tmp_path / f"{colour}.png")
    return [tmp_path / f"{colour}.png" for colour in COLOURS]


def test_arrays_pictures_and_paths_get_the_same_answer(chooser: Selector, files: list[Path]) -> None:
    for colour, path in zip(COLOURS, files, strict=True):
        picture = Image.open(path)
        for image in (plain_image(colour), path, str(path), picture, picture.convert("RGBA")):
            assert chooser.predict(image).label == colour  # type: ignore[arg-type]
            assert chooser.select(image) == chooser.select(plain_image(colour))  # type: ignore[arg-type]
    gray = Image.open(files[0]).convert("L")
    assert chooser.predict(gray).label == chooser.predict(np.stack([np.asarray(gray)] * 3, axis=-1)).label


def test_a_file_or_picture_that_cannot_be_read_is_named(chooser: Selector, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    for path in (tmp_path / "bad.png", "none.png"):
        with pytest.raises(ImageError, match=f"{path}: cannot be read as an image"):
            chooser.predict(path)
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(whole)
    whole.write_bytes(whole.read_bytes()[:-3000])
    with (
        Image.open(whole) as picture,
        pytest.raises(ImageError, match=r"PIL image: cannot be read: .*truncated"),
    ):
        chooser.predict(picture)


def test_any_iterable_is_a_batch(chooser: Selector, files: list[Path]) -> None:
    images = [plain_image(colour) for colour in COLOURS]
    expected = [*COLOURS]
    batches: list[Any] = [images, tuple(images), iter(images), (x for x in images), files, map(str, files)]
    batches += [np.stack(images), {name: 0 for name in files}, [images[0], files[1], Image.open(files[2])]]
    for batch in batches:
        assert [one.label for one in chooser.predict_batch(batch)] == expected
    assert [one.model for one in chooser.select_batch(map(str, files))] == [
        one.model for one in chooser.select_batch(images)
    ]


@pytest.mark.parametrize(
    "empty", [[], (), iter(()), np.zeros((0, 8, 8, 3), np.uint8)], ids=["list", "tuple", "iterator", "array"]
)
def test_nothing_is_answered_with_nothing(chooser: Selector, empty: Any) -> None:
    assert chooser.predict_batch(empty) == chooser.select_batch(empty) == []
    with pytest.raises(PrecisionError):
        chooser.predict_batch(empty, 2.0)


def test_an_iterable_is_read_a_portion_at_a_time(chooser: Selector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selector.answering.batches, "_IMAGES_IN_MEMORY", 4)
    monkeypatch.setattr(selector.answering.batches, "_BYTES_PER_INFERENCE", 2 * plain_image("red").nbytes)
    read, answered = 0, 0
    run, logits = chooser._engine.run, chooser._engine.logits

    def inferred(name: str, batch: Any) -> Any:
        assert len(batch) <= 2
        return logits(name, batch)

    def counted(batch: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal answered
        answered += len(batch)
        return run(batch, *arguments, **named)

    def images() -> Iterator[Any]:
        nonlocal read
        for i in range(10):
            assert read - answered < 4
            read = i + 1
            yield plain_image(COLOURS[i % 3])

    monkeypatch.setattr(chooser._engine, "run", counted)
    monkeypatch.setattr(chooser._engine, "logits", inferred)
    assert [one.label for one in chooser.predict_batch(images())] == [COLOURS[i % 3] for i in range(10)]
    with pytest.raises(ImageError, match="image 6: expected"):
        chooser.predict_batch([*[plain_image("red")] * 6, None])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("a.png", r"got the path 'a\.png'. Put it in a list, or call predict"),
        (Path("a.png"), "got the path"),
        (Image.new("RGB", (8, 8)), "got a PIL image. Put it in a list"),
        (b"123", "got bytes. Decode it first"),
        (None, "got NoneType"),
        (plain_image("red"), "One image has 3 axes"),
        ([np.stack([plain_image("red")] * 2)], "image 0: .*One image has 3 axes"),
    ],
    ids=["text", "path", "picture", "bytes", "none", "image", "batch"],
)
def test_what_is_not_several_images_is_refused(chooser: Selector, images: Any, message: str) -> None:
    for call in (chooser.predict_batch, chooser.select_batch):
        with pytest.raises(ImageError, match=message):
            call(images)


def test_arrays_are_answered_without_pillow(world: World) -> None:
    code = f"""
import numpy as np
from selector import Selector
chooser = Selector.load({str(world.bundles["input"])!r})
chooser.predict(np.zeros((12, 12, 3), np.uint8))
chooser.predict_batch(np.zeros((12, 12, 3), np.uint8) for _ in range(2))
"""
    assert not {name for name in loaded_after(code) if name.split(".")[0] == "PIL"}
