"""Environments: same size, repeatable, independent of the order, harder with severity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.environments import ENVIRONMENTS, apply, under_environments
from training.data.images import ArrayImages, LabelledImages
from training.data.sources import digits
from zoo.errors import DataError

NAMES = sorted(ENVIRONMENTS)


@pytest.fixture(scope="module")
def some_digits() -> LabelledImages:
    return digits().subset(range(20))


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    severity=st.floats(0, 1),
    name=st.sampled_from(NAMES),
)
def test_every_environment_keeps_size_and_type(height: int, width: int, severity: float, name: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = image.copy()
    changed = apply(image, name, sample="x", severity=severity)
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "clear"])
def test_every_environment_changes_more_with_severity(some_digits: LabelledImages, name: str) -> None:
    def change(severity: float) -> float:
        images = [(some_digits.image(i), some_digits.ids[i]) for i in range(len(some_digits))]
        return sum(
            float(np.abs(apply(image, name, sample=key, severity=severity).astype(float) - image).mean())
            for image, key in images
        )

    assert change(0) == 0 < change(0.3) < change(0.9)


def test_clear_is_the_image_itself(some_digits: LabelledImages) -> None:
    data = under_environments(some_digits, ["clear"])
    np.testing.assert_array_equal(data.image(4), some_digits.image(4))


def test_samples_carry_their_original_and_environment(some_digits: LabelledImages) -> None:
    data = under_environments(some_digits, ["noise", "dark"])
    assert data.ids[:3] == ["digit-0000@noise", "digit-0000@dark", "digit-0001@noise"]
    assert data.groups[:3] == ["digit-0000", "digit-0000", "digit-0001"]
    assert data.environments[:3] == ["noise", "dark", "noise"]
    assert data.labels.tolist() == np.repeat(some_digits.labels, 2).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_pixels_do_not_depend_on_order_or_neighbours(some_digits: LabelledImages, name: str) -> None:
    whole = under_environments(some_digits)
    part = under_environments(some_digits.subset([9, 2]), [name])
    backwards = [part.image(1), part.image(0)]
    wanted = [whole.ids.index(part.ids[i]) for i in (1, 0)]
    for image, i in zip(backwards, wanted, strict=True):
        np.testing.assert_array_equal(image, whole.image(i))


def test_another_seed_gives_other_noise_and_another_digest(some_digits: LabelledImages) -> None:
    first, second = (under_environments(some_digits, ["noise"], seed=seed) for seed in (0, 1))
    assert not np.array_equal(first.image(0), second.image(0))
    assert first.sha256 != second.sha256
    assert first.originals_sha256 == second.originals_sha256 == some_digits.originals_sha256


def test_the_digest_depends_on_names_and_severity(some_digits: LabelledImages) -> None:
    made = [
        under_environments(some_digits, names, severity=severity)
        for names, severity in ((["dark"], 0.5), (["dark"], 0.6), (["blur"], 0.5))
    ]
    assert len({data.sha256 for data in made}) == 3


def test_asking_twice_gives_the_same_pixels(some_digits: LabelledImages) -> None:
    data = under_environments(some_digits)
    first = [data.image(i).copy() for i in range(len(data))]
    assert all(np.array_equal(image, data.image(i)) for i, image in enumerate(first))


@pytest.mark.parametrize("names", [[], ["fog"], ["dark", "dark"]])
def test_refuses_unknown_repeated_or_no_names(some_digits: LabelledImages, names: list[str]) -> None:
    with pytest.raises(DataError, match="expected distinct names out of clear"):
        under_environments(some_digits, names)


@pytest.mark.parametrize("severity", [-0.1, 1.1, float("nan")])
def test_refuses_a_severity_out_of_range(some_digits: LabelledImages, severity: float) -> None:
    with pytest.raises(DataError, match="severity from 0 to 1"):
        under_environments(some_digits, severity=severity)


def test_refuses_images_that_are_under_environments_already(some_digits: LabelledImages) -> None:
    with pytest.raises(DataError, match="original images"):
        under_environments(under_environments(some_digits))


def test_keeps_the_originals_groups() -> None:
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    data = ArrayImages(pixels, ["x", "y"], ["a", "b"], [0, 1], groups=["object", "object"])
    assert set(under_environments(data).groups) == {"object"}
