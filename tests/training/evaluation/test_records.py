"""Claims about the records of an evaluation: what matters is found, intervals are right."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.evaluations import EMPTY, EVALUATION
from training.evaluation.records import (
    wilson_interval,
)
from zoo.errors import DataError


def test_the_best_guess_of_what_matters_comes_from_the_rows() -> None:
    assert [row.name for row in EVALUATION.singles] == ["tiny", "small", "full"]
    assert EVALUATION.reference is EVALUATION.rows[0]
    assert dataclasses.replace(EVALUATION, reference_model="small").reference is EVALUATION.rows[2]
    assert EVALUATION.cheapest_enough is EVALUATION.rows[2]
    assert EVALUATION.ours is EVALUATION.rows[4]
    assert EVALUATION.models == ["tiny", "small", "full"]
    assert dataclasses.replace(EVALUATION, asked_precision=None).ours is EVALUATION.rows[3]
    assert (EMPTY.reference, EMPTY.cheapest_enough, EMPTY.ours) == (None, None, None)


def test_wilson_intervals_are_those_of_the_literature() -> None:
    low, high = wilson_interval(15, 20)  # Newcombe 1998 gives such figures to three digits
    assert (round(low, 3), round(high, 3)) == (0.531, 0.888)
    assert wilson_interval(0, 10)[0] == 0.0
    assert wilson_interval(10, 10)[1] == 1.0
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_wilson_intervals_hold_the_share_or_are_refused(k: int, n: int) -> None:
    if k > n:
        with pytest.raises(DataError, match="between 0 and the"):
            wilson_interval(k, n)
    elif n:
        low, high = wilson_interval(k, n)
        assert 0 <= low <= k / n <= high <= 1
