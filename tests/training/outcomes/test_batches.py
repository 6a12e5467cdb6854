"""Claims about the batches of a profile: large images and little memory make them smaller, not wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.colours import colour_zoo
from tests.support.onnx_bytes import FLOAT, UINT8, model, node, value_info
from tests.support.small_models import add_colours
from tests.support.world import COLOUR_SPLITS, colour_images
from training.data.images import ArrayImages
from training.outcomes import profile as profiling
from training.outcomes.batches import Batches, pixels_per_batch
from training.outcomes.outcomes import ALL_SPLITS, load_outcomes
from training.outcomes.profile import profile
from zoo import Zoo
from zoo.errors import DataError


def greedy_onnx(most: int) -> bytes:
    """A model that asks for more memory than there can be where a batch has more than `most` images."""
    nodes = [
        node("Cast", ["image"], ["float"], to=FLOAT),
        node("ReduceMean", ["float", "axes"], ["colour"], keepdims=0),
        node("Shape", ["image"], ["count"], start=0, end=1),
        node("Sub", ["count", "most"], ["over"]),
        node("Max", ["over", "none"], ["many"]),
        node("Mul", ["many", "huge"], ["size"]),
        node("ConstantOfShape", ["size"], ["zeros"]),
        node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
        node("Add", ["colour", "zero"], ["logits"]),
    ]
    numbers = {"most": [most], "none": [0], "huge": [2**46], "axes": [1, 2]}
    return model(
        "greedy",
        nodes,
        [value_info("image", UINT8, ["N", "H", "W", 3])],
        [value_info("logits", FLOAT, ["N", 3])],
        {name: np.array(value, np.int64) for name, value in numbers.items()},
    )


def greedy_zoo(folder: Path, most: int) -> Zoo:
    zoo = Zoo.create(folder)
    add_colours(zoo, "greedy", greedy_onnx(most))
    return zoo


def some(data: ArrayImages, *, size: int = 64, pixels: int) -> list[int]:
    batches = Batches(data, np.arange(20), size=size, pixels=pixels, of_images={})
    return [batch.size for batch in batches]


def test_batches_have_a_bounded_number_of_pixels() -> None:
    data = colour_images(40, size=(10, 10))
    assert some(data, pixels=799) == [7, 7, 6]
    assert some(data, pixels=99) == [1] * 20
    assert some(data, size=8, pixels=10**6) == [8, 8, 4]
    for models in (1, 3, 12):  # 64 of the usual size; of 2 megapixels so few that memory stays small
        assert 20 * pixels_per_batch(models) * models < 0.4e9


def test_where_memory_is_missing_batches_are_halved(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, zoo = colour_images(60), greedy_zoo(tmp_path / "zoo", most=5)
    profile(zoo, data, tmp_path / "p", splits=COLOUR_SPLITS, batch_size=16, progress=False)
    said = capfd.readouterr().err.splitlines()
    assert [line for line in said if "Not enough memory" in line] == [
        "Not enough memory for 16 images at a time; going on with 8.",
        "Not enough memory for 8 images at a time; going on with 4.",
    ]
    found = load_outcomes(tmp_path / "p", zoo=zoo, splits=ALL_SPLITS)
    index = {name: i for i, name in enumerate(data.ids)}
    means = [data.image(index[name]).mean(axis=(0, 1)) for name in found.ids]
    np.testing.assert_allclose(found.logits[:, 0], means, rtol=1e-5)


def test_no_memory_for_one_image_is_said_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none for sample '\d{4}-\w+'\. Make the images smaller"):
        profile(greedy_zoo(tmp_path / "zoo", 0), colour_images(60), tmp_path / "p", progress=False)


class Unreadable(ArrayImages):
    """Images of which some need more memory to be read than there is."""

    def image(self, index: int) -> NDArray[np.uint8]:
        if index == 13:
            np.empty(2**60, np.uint8)
        return super().image(index)


def test_a_reader_without_memory_is_said_too() -> None:
    plain = colour_images(40)
    data = Unreadable(plain.images, plain.classes, plain.ids, plain.labels)
    with pytest.raises(DataError, match="got none for sample"):
        some(data, pixels=10**6)


def test_large_images_get_the_answers_of_small_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo, data = colour_zoo(tmp_path / "zoo"), colour_images(60)
    profile(zoo, data, tmp_path / "a", splits=COLOUR_SPLITS, progress=False)
    monkeypatch.setattr(profiling, "pixels_per_batch", lambda models: 100)  # an image has 144
    profile(zoo, data, tmp_path / "b", splits=COLOUR_SPLITS, progress=False)
    one, other = (load_outcomes(tmp_path / name, zoo=zoo, splits=ALL_SPLITS) for name in "ab")
    assert one.ids.tolist() == other.ids.tolist()
    np.testing.assert_allclose(one.logits, other.logits, rtol=1e-5, atol=1e-5)


def test_several_threads_find_the_same_bits_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, zoo = colour_images(60), colour_zoo(tmp_path / "zoo")
    monkeypatch.setattr("training.outcomes.shards.PIXELS_AT_A_TIME", 2000)  # some wait for others
    found = []
    for threads in (1, 3):
        folder = tmp_path / f"{threads}"
        profile(zoo, data, folder, splits=COLOUR_SPLITS, batch_size=7, threads=threads, progress=False)
        found.append(load_outcomes(folder, zoo=zoo, splits=ALL_SPLITS))
    np.testing.assert_array_equal(found[0].logits, found[1].logits)
    np.testing.assert_array_equal(found[0].features, found[1].features)


def test_where_memory_is_missing_in_several_threads_nothing_is_lost(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, zoo = colour_images(60), greedy_zoo(tmp_path / "zoo", most=5)
    for threads, size in ((3, 16), (1, 4)):
        folder = tmp_path / f"{threads}"
        profile(zoo, data, folder, splits=COLOUR_SPLITS, batch_size=size, threads=threads, progress=False)
    assert "Not enough memory for 8 images at a time; going on with 4." in capfd.readouterr().err
    one, other = (load_outcomes(tmp_path / name, zoo=zoo, splits=ALL_SPLITS) for name in ("3", "1"))
    np.testing.assert_array_equal(one.logits, other.logits)


def test_as_many_batches_run_at_once_as_models_fit_into_memory() -> None:
    assert [profiling.lanes_for(4, size) for size in (0, 2**20, 2**29, 2**40)] == [4, 4, 2, 1]
