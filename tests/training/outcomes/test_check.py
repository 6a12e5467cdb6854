"""Claims about checking a model that was added: what was meant is found, and nothing where all is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.foreign_models import foreign_means
from tests.support.small_models import COLOURS
from tests.support.world import colour_images
from training.data.images import ArrayImages
from training.data.splits import FIT, Splits
from training.outcomes.check import ModelCheck, Normalisation, Source, check_model
from zoo.architectures.preprocessing import Preprocessing
from zoo.convert.add import add_foreign
from zoo.errors import DataError
from zoo.models.zoo import Zoo

SIZE = (8, 8)
BRIGHTNESS = np.array([[0, 1]] * 3)  # bright where the mean is above 0


def light() -> ArrayImages:
    """Dark and bright images, which only the sign of a normalised value tells apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    levels = rng.uniform(20, 90, 400) + 130 * labels
    images = levels[:, None, None, None] + rng.normal(0, 5, (400, *SIZE, 3))
    ids = [f"i{i}" for i in range(400)]
    return ArrayImages(images.clip(0, 255).astype(np.uint8), ["dark", "light"], ids, labels)


def checked(
    folder: Path,
    content: bytes,
    classes: tuple[str, ...],
    data: ArrayImages,
    source: Source = "onnx",
    **seen: object,
) -> ModelCheck:
    zoo = Zoo.create(folder)
    add_foreign(zoo, "net", content, Preprocessing(SIZE, **seen), classes)  # type: ignore[arg-type]
    return check_model(zoo, "net", data, source=source, progress=False)


def test_channels_in_reverse_are_noticed(tmp_path: Path) -> None:
    found = checked(tmp_path, foreign_means(SIZE), COLOURS[::-1], colour_images(400))
    assert found.near_chance
    assert found.better[0].options == "--channels bgr"
    assert found.better[0].accuracy > 0.9 > 0.5 > found.accuracy


def test_a_model_in_bgr_that_needs_rgb_is_noticed(tmp_path: Path) -> None:
    found = checked(tmp_path, foreign_means(SIZE), COLOURS, colour_images(400), channels="bgr")
    assert found.better[0].options == "--channels rgb"


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("onnx", "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --scale 0..1"),
        ("torchvision", "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"),
    ],
)
def test_a_missing_mean_is_noticed(tmp_path: Path, source: Source, options: str) -> None:
    found = checked(
        tmp_path,
        foreign_means(SIZE, weights=np.array([[0, 1]] * 3)),
        ("dark", "light"),
        light(),
        source=source,
    )
    assert found.near_chance
    assert options in [one.options for one in found.better]


def test_a_wrong_mean_is_noticed(tmp_path: Path) -> None:
    weights = np.array([[0, 1]] * 3)
    found = checked(
        tmp_path, foreign_means(SIZE, weights=weights), ("dark", "light"), light(), mean=(0.9, 0.9, 0.9)
    )
    assert "--mean 0.5 --std 0.5 --scale 0..1" in [one.options for one in found.better]


def test_pixels_from_0_to_255_have_options_for_every_source() -> None:
    whole = Normalisation((0.0,) * 3, (1.0,) * 3, 255.0)
    assert whole.options("onnx") == "--mean 0 --std 1 --scale 0..255"
    assert whole.options("torchvision") == "--mean 0 --std 0.00392157"
    np.testing.assert_allclose(whole.constants()[0], 1.0)


def test_class_names_in_another_order_are_noticed_and_told(tmp_path: Path) -> None:
    order = ("green", "blue", "red")
    found = checked(tmp_path, foreign_means(SIZE), order, colour_images(400), source="fixed")
    assert found.better[0].classes == COLOURS
    assert found.better[0].options == ""


def test_class_names_sorted_as_words_are_noticed(tmp_path: Path) -> None:
    """Class folders 1, 2, 10 are sorted as 1, 10, 2."""
    data = colour_images(400)
    named = ArrayImages(data.images, ["1", "2", "10"], data.ids, data.labels, groups=data.groups)
    found = checked(tmp_path, foreign_means(SIZE), ("1", "10", "2"), named, source="fixed")
    assert found.better[0].what == "class names sorted by the numbers in them"


def test_nothing_is_better_than_a_model_that_was_added_rightly(tmp_path: Path) -> None:
    found = checked(tmp_path, foreign_means(SIZE), COLOURS, colour_images(400))
    assert (found.better, found.near_chance) == ((), False)
    assert found.low < found.accuracy < found.high


def test_a_model_of_noise_is_near_chance_and_nothing_helps(tmp_path: Path) -> None:
    found = checked(tmp_path, foreign_means(SIZE, weights=np.zeros((3, 3))), COLOURS, colour_images(400))
    assert (found.better, found.near_chance) == ((), True)


def test_images_that_certify_and_judge_stay_unseen(tmp_path: Path) -> None:
    data = colour_images(400)
    seen: list[str] = []

    class Watched(ArrayImages):
        def image(self, index: int) -> np.ndarray:
            seen.append(self.groups[index])
            return super().image(index)

    watched = Watched(
        data.images, data.classes, data.ids, data.labels, groups=data.groups, environments=data.environments
    )
    assert checked(tmp_path, foreign_means(SIZE), COLOURS, watched).images == 200
    assert set(Splits().assign(seen)) == {FIT}


def test_too_few_images_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 8 images in the split 'fit'"):
        checked(tmp_path, foreign_means(SIZE), COLOURS, colour_images(4))
