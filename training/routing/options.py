"""Options of a fit to a table of outcomes: one record with its defaults in view."""

from __future__ import annotations

from dataclasses import dataclass

from selector.routing.constraint import RouteConstraint, route_constraint
from training.certificates.choice import CertificateTest, check_constraint
from training.fitting.options import DEFAULT_PRECISION, PolicyKind
from zoo.errors import PrecisionError


@dataclass(frozen=True, kw_only=True)
class RouteOptions:
    """How to fit a router: at most one of the constraints, and what to choose among.

    Raises
    ------
    PrecisionError
        When more than one constraint is given, a level or `delta` is out of range, or `certificate` is not
        for such a constraint.

    Examples
    --------
    >>> from training.routing.options import RouteOptions
    >>> str(RouteOptions(mean_cost=0.001).constraint)
    'a mean cost of at most 0.001'
    """

    precision: float | None = None  # required mean quality; 0.95 without any constraint
    max_drop: float | None = None  # or: by how much it may lie below the reference model's
    mean_cost: float | None = None  # or: the best answers within this mean cost
    quantile_cost: float | None = None  # or: with 95 of 100 answers within this cost
    policy: PolicyKind = "auto"  # auto: what cross-validation finds best
    delta: float = 0.05  # 1 - confidence of each certificate
    certificate: CertificateTest = "auto"  # test of a precision; auto: by what is known beforehand
    environment: str | None = None  # fit and certify on samples of this environment only
    models: tuple[str, ...] = ()  # only these; empty: all
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.delta < 1:
            raise PrecisionError(
                f"expected delta strictly between 0 and 1, such as 0.05, got {self.delta!r}."
            )
        check_constraint(self.certificate, self.constraint.plain)

    @property
    def constraint(self) -> RouteConstraint:
        """The one constraint that is asked for, checked."""
        asked = route_constraint(
            self.precision,
            max_drop=self.max_drop,
            mean_cost=self.mean_cost,
            quantile_cost=self.quantile_cost,
        )
        return asked or RouteConstraint(kind="precision", level=DEFAULT_PRECISION)
