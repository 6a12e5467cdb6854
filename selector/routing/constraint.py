"""What is asked of a router: a share of right answers, or a budget in the unit of its table of outcomes."""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from selector.policies.constraint import Constraint, constraint
from zoo.errors import PrecisionError

RouteKind = Literal["precision", "max_drop", "mean_cost", "quantile_cost"]
ROUTE_KINDS: tuple[RouteKind, ...] = get_args(RouteKind)
QUANTILE = 0.95  # share of the answers that keep a budget of kind quantile_cost

_ON_COST = {"mean_cost": "mean_ms", "quantile_cost": "p95_ms"}  # as policies and proofs call these kinds


class RouteConstraint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A least mean quality, a greatest drop of it below the reference model, or a budget of cost.

    ``mean_cost`` bounds what an answer costs in the mean, ``quantile_cost`` what 95 of 100 answers cost at
    most. Costs are in the unit of the table that the router was fitted to.

    Examples
    --------
    >>> from selector.routing.constraint import RouteConstraint
    >>> print(RouteConstraint(kind="mean_cost", level=0.002))
    a mean cost of at most 0.002
    """

    kind: RouteKind
    level: float

    def __post_init__(self) -> None:
        try:
            _ = self.plain  # it checks the level
        except ValueError as error:
            names = {plain: name for name, plain in _ON_COST.items()}
            text = str(error)
            for plain, name in names.items():
                text = text.replace(plain, name)
            raise ValueError(text) from None

    @property
    def plain(self) -> Constraint:
        """The same as policies and proofs have it; costs stand in place of milliseconds."""
        kind: Any = _ON_COST.get(self.kind, self.kind)
        return Constraint(kind=kind, level=self.level)

    @classmethod
    def of(cls, plain: Constraint) -> RouteConstraint:
        """The constraint whose :attr:`plain` this is.

        Examples
        --------
        >>> RouteConstraint.of(RouteConstraint(kind="max_drop", level=0.01).plain).kind
        'max_drop'
        """
        names: dict[str, Any] = {known: name for name, known in _ON_COST.items()}
        return cls(kind=names.get(plain.kind, plain.kind), level=plain.level)

    def covers(self, asked: RouteConstraint) -> bool:
        """Whether whatever meets this constraint meets `asked` too.

        Examples
        --------
        >>> asked = RouteConstraint(kind="mean_cost", level=0.2)
        >>> RouteConstraint(kind="mean_cost", level=0.1).covers(asked)
        True
        """
        return self.plain.covers(asked.plain)

    def __str__(self) -> str:
        if self.kind == "mean_cost":
            return f"a mean cost of at most {self.level:g}"
        if self.kind == "quantile_cost":
            return f"a cost of at most {self.level:g} for {QUANTILE * 100:g} of 100 answers"
        return str(self.plain)


def route_constraint(
    precision: float | None = None,
    *,
    max_drop: float | None = None,
    mean_cost: float | None = None,
    quantile_cost: float | None = None,
) -> RouteConstraint | None:
    """The one constraint that is given, or None.

    Raises
    ------
    PrecisionError
        When more than one is given, or its level is out of range.
    """
    levels = (precision, max_drop, mean_cost, quantile_cost)
    given = [(kind, level) for kind, level in zip(ROUTE_KINDS, levels, strict=True) if level is not None]
    if len(given) > 1:
        raise PrecisionError(
            f"expected one constraint, got {' and '.join(kind for kind, _ in given)}. Give only one of them."
        )
    if not given:
        return None
    ((kind, level),) = given
    if kind in ("precision", "max_drop"):
        plain = constraint(**{kind: level})
        assert plain is not None
        return RouteConstraint.of(plain)
    try:
        return RouteConstraint(kind=kind, level=float(level))
    except (TypeError, ValueError) as error:
        raise PrecisionError(f"{error}.") from None
