"""Options of a fit: one record with its defaults in view, for Python and the command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from selector.policies.constraint import KINDS, Constraint, constraint
from training.certificates.choice import CertificateTest, check_constraint
from zoo.errors import PrecisionError

PolicyKind = Literal["auto", "input", "cascade", "probe"]
DEFAULT_PRECISION = 0.95  # where no constraint is given


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How to fit: at most one of the constraints, and what to choose among.

    Raises
    ------
    PrecisionError
        When more than one constraint is given, a level or `delta` is out of range, or `certificate` is
        not for such a constraint.

    Examples
    --------
    >>> from training import FitOptions
    >>> str(FitOptions().constraint)
    'precision 0.95'
    >>> FitOptions(accuracy=0.9).constraint == FitOptions(precision=0.9).constraint
    True
    """

    precision: float | None = None  # required probability of a right answer; 0.95 without any constraint
    accuracy: float | None = None  # another name for precision
    max_drop: float | None = None  # or: by how much accuracy may lie below the reference model's
    mean_ms: float | None = None  # or: the most accurate answers within this mean time
    p95_ms: float | None = None  # or: with 95 of 100 answers within this time
    mean_uplink_kb: float | None = None  # or: that send at most so many kilobytes to servers in the mean
    max_remote: float | None = None  # or: of which at most this share leaves the device
    policy: PolicyKind = "auto"  # auto: what cross-validation finds best
    delta: float = 0.05  # 1 - confidence of each certificate
    certificate: CertificateTest = "auto"  # test of a precision; auto: by what is known beforehand
    max_bytes: int | None = None  # use models of at most so many bytes in all
    top_k: int = 1  # an answer is right when the label is among its k most probable classes
    agree_with_reference: bool = False  # without labels: right is what the dearest model says
    environment: str | None = None  # fit and certify on samples of this environment only
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.delta < 1:
            raise PrecisionError(
                f"expected delta strictly between 0 and 1, such as 0.05, got {self.delta!r}."
            )
        check_constraint(self.certificate, self.constraint)

    @property
    def constraint(self) -> Constraint:
        """The one constraint that is asked for, checked."""
        precision = self.precision
        if self.accuracy is not None:
            if precision is not None:
                raise PrecisionError(
                    "expected one constraint, got precision and accuracy, which mean the same. "
                    "Give only one of them."
                )
            precision = self.accuracy
        asked = constraint(
            precision,
            max_drop=self.max_drop,
            mean_ms=self.mean_ms,
            p95_ms=self.p95_ms,
            mean_uplink_kb=self.mean_uplink_kb,
            max_remote=self.max_remote,
        )
        return asked or Constraint(kind="precision", level=DEFAULT_PRECISION)

    @property
    def named(self) -> tuple[Any, ...]:
        """The constraint and all other options: equal where two options ask for the same."""
        others = replace(self, **dict.fromkeys(("accuracy", *KINDS)))  # type: ignore[arg-type]
        return self.constraint, others
