"""Claims about dealing samples out: variants stay together, seeds decide, precisions suit the zoo."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.selection.answers import precisions
from benchmarks.selection.repeated import deal
from tests.support.two_models import made
from training.data.splits import CERTIFY, FIT, TEST, TUNE


def test_all_variants_of_an_original_fall_into_one_split() -> None:
    dealt = deal(made((0.6, 0.9), 200, environments=("clear", "dark", "noise")), 3)
    found: dict[str, set[str]] = {}
    for group, split in zip(dealt.groups.tolist(), dealt.splits.tolist(), strict=True):
        found.setdefault(group, set()).add(split)
    assert len(found) == 200
    assert {len(splits) for splits in found.values()} == {1}
    assert set.union(*found.values()) == {FIT, TUNE, CERTIFY, TEST}


@pytest.mark.parametrize(("split", "copies"), [(FIT, 3), (TUNE, 3), (CERTIFY, 1), (TEST, 1)])
def test_certify_and_test_keep_one_environment_of_every_original(split: str, copies: int) -> None:
    part = deal(made((0.6, 0.9), 200, environments=("clear", "dark", "noise")), 3).split(split)
    assert set(np.unique(part.groups, return_counts=True)[1].tolist()) == {copies}
    assert set(part.environments.tolist()) == {"clear", "dark", "noise"}


def test_another_seed_deals_anew_and_the_same_seed_the_same() -> None:
    outcomes = made((0.6, 0.9), 200, environments=("clear", "dark"))
    one, same, other = deal(outcomes, 1), deal(outcomes, 1), deal(outcomes, 2)
    np.testing.assert_array_equal(one.ids, same.ids)
    np.testing.assert_array_equal(one.splits, same.splits)
    both = set(one.split(TEST).groups.tolist()) & set(other.split(TEST).groups.tolist())
    assert len(both) < 0.6 * len(one.split(TEST))


def test_where_specialists_are_far_better_their_precisions_are_asked_for_as_well() -> None:
    outcomes = made((0.9, 0.3), 400, environments=("clear", "dark"))
    dark = outcomes.environments == "dark"
    logits = outcomes.logits.copy()
    logits[dark] = logits[dark][:, ::-1]  # in the dark the other model is the one that knows
    asked = precisions(replace(outcomes, logits=logits), "full")
    assert asked == pytest.approx([0.57, 0.58, 0.59, 0.6, 0.84, 0.86, 0.88], abs=0.04)
    assert len(precisions(made((0.6, 0.63), 400), "full")) == 4
