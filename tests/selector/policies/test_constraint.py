"""Claims about constraints: one at a time, in range, and a stricter one covers all laxer ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selector.policies.constraint import Constraint, constraint, known_kind
from zoo.errors import PrecisionError

LEVELS = {
    "precision": st.floats(0.01, 0.99),
    "max_drop": st.floats(-0.5, 0.5),
    "mean_ms": st.floats(0.001, 1e5),
    "p95_ms": st.floats(0.001, 1e5),
}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"precision": 1.0}, "expected a precision strictly between 0 and 1, such as 0.95, got 1.0"),
    ({"precision": "high"}, "expected a precision strictly between 0 and 1"),
    ({"max_drop": 1.0}, "expected a max_drop strictly between -1 and 1, got 1.0"),
    ({"max_drop": float("nan")}, "expected a max_drop strictly between -1 and 1, got nan"),
    ({"mean_ms": 0.0}, r"expected a mean_ms strictly between 0 and 1e\+07, got 0.0"),
    ({"p95_ms": float("inf")}, "expected a p95_ms strictly between"),
    ({"p95_ms": "fast"}, "could not convert"),
    ({"mean_ms": [3]}, "float"),
]


def test_nothing_asked_is_no_constraint() -> None:
    assert constraint() is None
    assert constraint(None, max_drop=None) is None


def test_what_is_asked_comes_back() -> None:
    assert constraint(0.9) == Constraint(kind="precision", level=0.9)
    assert constraint(max_drop=0) == Constraint(kind="max_drop", level=0.0)
    assert constraint(mean_ms=3) == Constraint(kind="mean_ms", level=3.0)
    assert constraint(p95_ms=0.5) == Constraint(kind="p95_ms", level=0.5)


@pytest.mark.parametrize(("asked", "message"), BAD)
def test_a_level_out_of_range_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(PrecisionError, match=message):
        constraint(**asked)


def test_only_one_may_be_asked() -> None:
    with pytest.raises(PrecisionError, match="expected one constraint, got precision and p95_ms"):
        constraint(0.9, p95_ms=3.0)


@given(st.data(), st.sampled_from(sorted(LEVELS)))
def test_a_stricter_constraint_covers_a_laxer_one_of_its_kind(data: st.DataObject, kind: Any) -> None:
    low, high = sorted(data.draw(LEVELS[kind]) for _ in range(2))
    strict, lax = (high, low) if kind == "precision" else (low, high)
    one, other = (Constraint(kind=kind, level=level) for level in (strict, lax))
    assert one.covers(other)
    assert one.covers(one)
    assert other.covers(one) == (abs(high - low) <= 1e-12)
    for another in sorted(LEVELS):
        if another != kind:
            assert not one.covers(Constraint(kind=another, level=0.5))


def test_constraints_read_as_words() -> None:
    words = [
        str(Constraint(kind=kind, level=0.02)) for kind in ("precision", "max_drop", "mean_ms", "p95_ms")
    ]
    assert words == [
        "precision 0.02",
        "a drop of at most 0.02 below the reference model",
        "mean of at most 0.02 ms",
        "95th percentile of at most 0.02 ms",
    ]
    assert [Constraint(kind=kind, level=0.5).on_time for kind in ("precision", "max_drop")] == [False] * 2
    assert [Constraint(kind=kind, level=0.5).on_time for kind in ("mean_ms", "p95_ms")] == [True] * 2


def test_accuracy_is_another_word_for_precision() -> None:
    assert constraint(accuracy=0.9) == constraint(0.9)
    with pytest.raises(PrecisionError, match="got precision and accuracy, which mean the same"):
        constraint(0.9, accuracy=0.9)
    with pytest.raises(PrecisionError, match="expected an accuracy strictly between 0 and 1"):
        constraint(accuracy=95)


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    made: list[Any] = [lambda kind: Constraint(kind=kind, level=0.5), known_kind]
    for make in made:
        with pytest.raises(
            PrecisionError,
            match=r"kinds precision, .*, max_remote, got 'p99_ms'",
        ):
            make("p99_ms")
