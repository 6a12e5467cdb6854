"""Constraints: what is asked of the answers, or of the time they take."""

from __future__ import annotations

from typing import Literal

import msgspec

from zoo.errors import PrecisionError

ConstraintKind = Literal["precision", "max_drop", "mean_ms", "p95_ms"]

_SLACK = 1e-12  # levels come from decimal fractions


class Constraint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A least share of right answers, a greatest drop of it below the reference model, or a budget of time.

    ``precision`` and ``max_drop`` bound accuracy and leave time to be saved; ``mean_ms`` and ``p95_ms`` bound
    the milliseconds an answer takes (mean, 95th percentile) and leave accuracy to be gained.
    """

    kind: ConstraintKind
    level: float

    def __post_init__(self) -> None:
        if self.kind == "precision":
            low, high = 0.0, 1.0
        elif self.kind == "max_drop":
            low, high = -1.0, 1.0
        else:
            low, high = 0.0, 1e7
        if not low < self.level < high:
            raise ValueError(
                f"expected a {self.kind} strictly between {low:g} and {high:g}, got {self.level!r}"
            )

    @property
    def on_time(self) -> bool:
        """Whether it bounds time rather than accuracy."""
        return self.kind in ("mean_ms", "p95_ms")

    def covers(self, asked: Constraint) -> bool:
        """Whether whatever meets this constraint meets `asked` too."""
        if self.kind != asked.kind:
            return False
        if self.kind == "precision":
            return self.level >= asked.level - _SLACK
        return self.level <= asked.level + _SLACK

    def __str__(self) -> str:
        if self.kind == "precision":
            return f"precision {self.level:g}"
        if self.kind == "max_drop":
            return f"a drop of at most {self.level:g} below the reference model"
        return f"{'mean' if self.kind == 'mean_ms' else '95th percentile'} of at most {self.level:g} ms"


def constraint(
    precision: float | None = None,
    *,
    max_drop: float | None = None,
    mean_ms: float | None = None,
    p95_ms: float | None = None,
) -> Constraint | None:
    """The one constraint that is given, or None.

    Raises
    ------
    PrecisionError
        When more than one is given, or its level is out of range.
    """
    asked: dict[ConstraintKind, float | None] = {
        "precision": precision,
        "max_drop": max_drop,
        "mean_ms": mean_ms,
        "p95_ms": p95_ms,
    }
    given = {kind: level for kind, level in asked.items() if level is not None}
    if not given:
        return None
    if len(given) > 1:
        raise PrecisionError(f"expected one constraint, got {' and '.join(given)}. Give only one of them.")
    ((kind, level),) = given.items()
    if kind == "precision":
        return Constraint(kind=kind, level=check_precision(level))
    try:
        return Constraint(kind=kind, level=float(level))
    except (TypeError, ValueError) as error:
        raise PrecisionError(f"{error}.") from None


def check_precision(precision: float) -> float:
    """`precision` as a float; raises :class:`PrecisionError` unless it lies strictly between 0 and 1."""
    try:
        value = float(precision)
    except (TypeError, ValueError):
        value = float("nan")
    if not 0.0 < value < 1.0:
        raise PrecisionError(
            f"expected a precision strictly between 0 and 1, such as 0.95, got {precision!r}."
        )
    return value
