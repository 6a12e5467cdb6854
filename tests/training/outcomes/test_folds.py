"""Claims about folds: no original is parted, and they are those that scikit-learn makes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold

from training.outcomes.folds import FOLDS, grouped_folds
from zoo.errors import DataError


@given(st.lists(st.integers(0, 30), min_size=2, max_size=200), st.integers(2, 5))
def test_folds_are_those_of_scikit_learn(originals: list[int], count: int) -> None:
    groups = np.array([f"g{one}" for one in originals])
    if len(set(originals)) < 2:
        with pytest.raises(DataError, match="expected at least two originals to fit on, got 1"):
            grouped_folds(groups, count)
        return
    found = grouped_folds(groups, count)
    theirs = GroupKFold(min(count, len(set(originals)))).split(groups, groups=groups)
    for (rest, held), (their_rest, their_held) in zip(found, theirs, strict=True):
        np.testing.assert_array_equal(rest, their_rest)
        np.testing.assert_array_equal(held, their_held)
        assert not set(groups[rest]) & set(groups[held])


def test_every_sample_is_held_out_once() -> None:
    folds = grouped_folds(np.repeat(np.array(["a", "b", "c", "d", "e"]), 3))
    assert len(folds) == FOLDS
    assert sorted(np.concatenate([held for _, held in folds]).tolist()) == list(range(15))
