"""Splits: by original, stable when samples come and go, checked before anything relies on them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.environments import under_environments
from training.data.images import ArrayImages
from training.data.sources import digits
from training.data.splits import Splits, one_environment_per_group, without_training_images
from zoo.errors import DataError
from zoo.models.card import ModelCard, TrainedOn

MANY = [f"g{i}" for i in range(20_000)]


def card(name: str, trained_on: TrainedOn | None) -> ModelCard:
    facts: dict[str, Any] = {"classes": ("a", "b"), "resolution": (1, 1), "file": "x", "sha256": "0" * 64}
    return ModelCard(name=name, size_bytes=1, parameters=1, macs=1, trained_on=trained_on, **facts)


def test_shares_come_out_as_asked() -> None:
    counts = Counter(Splits(train=0.4, fit=0.5, tune=0.0, certify=0.3, test=0.2).assign(MANY).tolist())
    for name, share in (("train", 0.4), ("fit", 0.3), ("certify", 0.18), ("test", 0.12)):
        assert counts[name] / len(MANY) == pytest.approx(share, abs=0.015)
    assert counts["tune"] == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=20), st.integers(0, 99), st.randoms())
def test_a_groups_split_depends_on_nothing_else(groups: list[str], seed: int, random: Any) -> None:
    splits = Splits(seed=seed, train=0.3)
    alone = {group: splits.assign([group])[0] for group in groups}
    random.shuffle(groups)
    assert splits.assign(groups).tolist() == [alone[group] for group in groups]


def test_training_groups_depend_on_seed_and_training_share_only() -> None:
    first = Splits(seed=3, train=0.4).assign(MANY) == "train"
    other = Splits(seed=3, train=0.4, fit=0.1, tune=0.1, certify=0.4, test=0.4).assign(MANY) == "train"
    np.testing.assert_array_equal(first, other)
    assert (first != (Splits(seed=4, train=0.4).assign(MANY) == "train")).any()


def test_a_larger_training_share_only_adds_groups_to_it() -> None:
    small, large = (Splits(train=share).assign(MANY) == "train" for share in (0.2, 0.5))
    assert (large | ~small).all()


def test_variants_of_an_original_stay_together() -> None:
    data = under_environments(digits())
    names = Splits(train=0.4).divide(data)
    assert (names.reshape(-1, 7) == names.reshape(-1, 7)[:, :1]).all()


def test_certify_and_test_keep_one_environment_each_and_the_others_all() -> None:
    data = under_environments(digits())
    names = Splits(train=0.4).assign(data.groups)
    used = one_environment_per_group(data.groups, data.environments, names)
    independent = np.isin(names, ["certify", "test"]).reshape(-1, 7)[:, 0]
    assert (used.reshape(-1, 7).sum(axis=1) == np.where(independent, 1, 7)).all()
    chosen = Counter(np.array(data.environments)[used & np.isin(names, ["certify", "test"])].tolist())
    assert len(chosen) == 7
    assert max(chosen.values()) < 1.6 * min(chosen.values())


def test_the_chosen_environment_does_not_depend_on_the_order() -> None:
    groups, environments = ["a", "a", "a"], ["dark", "clear", "blur"]
    used = one_environment_per_group(groups, environments, ["test"] * 3)
    back = one_environment_per_group(groups, environments[::-1], ["test"] * 3)
    np.testing.assert_array_equal(used, back[::-1])


def test_several_images_of_one_original_count_once() -> None:
    used = one_environment_per_group(["a"] * 4, ["clear"] * 4, ["certify"] * 4)
    assert used.sum() == 1


@pytest.mark.parametrize(
    "shares",
    [{"fit": 0.5}, {"train": 1.5}, {"train": -0.1}, {"fit": 1.2, "tune": -0.45}, {"test": float("nan")}],
)
def test_refuses_shares_that_make_no_sense(shares: dict[str, float]) -> None:
    with pytest.raises(DataError, match="expected"):
        Splits(**shares)  # type: ignore[arg-type]


def test_says_when_samples_are_too_few_for_a_split() -> None:
    with pytest.raises(DataError, match=r"4 originals are too few"):
        Splits().divide(digits().subset(range(4)))


def test_says_which_class_is_missing_where_a_model_learns() -> None:
    data, splits = digits(), Splits(train=0.4)
    train = splits.assign(data.groups) == "train"
    with pytest.raises(DataError, match="'train' holds no image of '7'"):
        splits.training_part(data.subset(~(train & (data.labels == 7))))


def test_a_selector_learns_from_data_with_fewer_images_than_classes() -> None:
    data = digits()
    fit = Splits().assign(data.groups) == "fit"
    names = Splits().divide(data.subset(~(fit & (data.labels == 7))))
    assert set(names) == {"fit", "tune", "certify", "test"}


def test_the_training_part_needs_a_share() -> None:
    data = digits()
    assert 600 < len(Splits(train=0.4).training_part(data)) < 830
    with pytest.raises(DataError, match="above 0"):
        Splits().training_part(data)


def test_models_are_not_judged_on_images_that_trained_them() -> None:
    data = digits()
    known = TrainedOn(data_sha256=data.sha256, share=0.3, seed=9)
    other = TrainedOn(data_sha256="f" * 64, share=0.8, seed=1)
    cards = [card("a", known), card("b", None), card("c", other)]
    chosen = without_training_images(Splits(fit=0.5, tune=0.0), cards, under_environments(data))
    assert chosen == Splits(seed=9, train=0.3, fit=0.5, tune=0.0)


def test_refuses_models_trained_on_different_parts() -> None:
    data = digits()
    cards = [card(f"m{i}", TrainedOn(data_sha256=data.sha256, share=0.3, seed=i)) for i in range(2)]
    with pytest.raises(DataError, match=r"seed 0, share 0\.3"):
        without_training_images(Splits(), cards, data)


def test_a_data_set_without_groups_uses_its_ids() -> None:
    pixels = np.zeros((2, 1, 1, 3), np.uint8)
    data = ArrayImages(pixels, ["x", "y"], ["a", "b"], [0, 1])
    assert Splits().assign(data.groups).tolist() == Splits().assign(["a", "b"]).tolist()
