"""Constraints: what is asked of the answers, of the time they take, or of what they send to servers."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from zoo.errors import PrecisionError

ConstraintKind = Literal["precision", "max_drop", "mean_ms", "p95_ms", "mean_uplink_kb", "max_remote"]
KINDS: tuple[ConstraintKind, ...] = get_args(ConstraintKind)

_SLACK = 1e-12  # levels come from decimal fractions

NOTHING_SENT = (
    ". To send nothing, fit for no network (--network none), or ask with never_remote (--never-remote)"
)


class Constraint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A least share of right answers, a greatest drop of it below the reference model, or a budget.

    ``precision`` and ``max_drop`` bound accuracy and leave time to be saved; ``mean_ms`` and ``p95_ms`` bound
    the milliseconds an answer takes (mean, 95th percentile), ``mean_uplink_kb`` the kilobytes (thousands of
    bytes) that an answer sends to servers in the mean and ``max_remote`` the share of inputs that leave the
    device; these budgets leave accuracy to be gained. The precision is the share of right answers, which
    others call accuracy.

    Examples
    --------
    >>> from selector.policies.constraint import Constraint
    >>> print(Constraint(kind="max_drop", level=0.01))
    a drop of at most 0.01 below the reference model
    """

    kind: ConstraintKind
    level: float

    def __post_init__(self) -> None:
        if known_kind(self.kind) == "precision":
            low, high = 0.0, 1.0
        elif self.kind == "max_drop":
            low, high = -1.0, 1.0
        elif self.kind == "max_remote":
            low, high = 0.0, 1.0
        else:
            low, high = 0.0, 1e7
        if not low < self.level < high:
            none = self.on_network and self.level == 0
            raise ValueError(
                f"expected a {self.kind} strictly between {low:g} and {high:g}, got {self.level!r}"
                + (NOTHING_SENT if none else "")
            )

    @property
    def on_time(self) -> bool:
        """Whether it bounds time rather than accuracy."""
        return self.kind in ("mean_ms", "p95_ms")

    @property
    def on_network(self) -> bool:
        """Whether it bounds what is sent to servers."""
        return self.kind in ("mean_uplink_kb", "max_remote")

    @property
    def is_budget(self) -> bool:
        """Whether it bounds time or what is sent, so that the most accurate way of keeping it is sought."""
        return self.on_time or self.on_network

    def covers(self, asked: Constraint) -> bool:
        """Whether whatever meets this constraint meets `asked` too.

        Examples
        --------
        >>> Constraint(kind="precision", level=0.95).covers(Constraint(kind="precision", level=0.9))
        True
        """
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
        if self.kind == "mean_uplink_kb":
            return f"a mean of at most {self.level:g} kB sent"
        if self.kind == "max_remote":
            return f"at most {self.level:g} of the inputs sent to a server"
        return f"{'mean' if self.kind == 'mean_ms' else '95th percentile'} of at most {self.level:g} ms"


def constraint(
    precision: float | None = None,
    *,
    accuracy: float | None = None,
    max_drop: float | None = None,
    mean_ms: float | None = None,
    p95_ms: float | None = None,
    mean_uplink_kb: float | None = None,
    max_remote: float | None = None,
) -> Constraint | None:
    """The one constraint that is given, or None; `accuracy` is another word for `precision`.

    Raises
    ------
    PrecisionError
        When more than one is given, or its level is out of range.
    """
    if precision is not None and accuracy is not None:
        raise PrecisionError(
            "expected one constraint, got precision and accuracy, which mean the same. Give only one of them."
        )
    asked: dict[ConstraintKind, float | None] = {
        "precision": accuracy if precision is None else precision,
        "max_drop": max_drop,
        "mean_ms": mean_ms,
        "p95_ms": p95_ms,
        "mean_uplink_kb": mean_uplink_kb,
        "max_remote": max_remote,
    }
    given = {kind: level for kind, level in asked.items() if level is not None}
    if not given:
        return None
    if len(given) > 1:
        raise PrecisionError(f"expected one constraint, got {' and '.join(given)}. Give only one of them.")
    ((kind, level),) = given.items()
    if kind == "precision":
        return Constraint(
            kind=kind, level=check_precision(level, "precision" if accuracy is None else "accuracy")
        )
    try:
        return Constraint(kind=kind, level=float(level))
    except (TypeError, ValueError) as error:
        raise PrecisionError(f"{error}.") from None


def known_kind(kind: str) -> ConstraintKind:
    """The kind of this name, ``accuracy`` being ``precision``; raises :class:`PrecisionError`."""
    if kind == "accuracy":
        return "precision"
    for known in KINDS:
        if kind == known:
            return known
    raise PrecisionError(f"expected a constraint of the kinds {', '.join(KINDS)}, got {kind!r}.")


def check_precision(precision: float, name: str = "precision") -> float:
    """`precision` as a float; raises :class:`PrecisionError` unless it lies strictly between 0 and 1."""
    try:
        value = float(precision)
    except (TypeError, ValueError):
        value = float("nan")
    if not 0.0 < value < 1.0:
        raise PrecisionError(
            f"expected {'an' if name == 'accuracy' else 'a'} {name} strictly between 0 and 1, such as 0.95, "
            f"got {precision!r}."
        )
    return value
