"""Options of a fit, as they are given and as they are once checked."""

from __future__ import annotations

from typing import Literal, TypedDict

import msgspec

from selector.policies.constraint import Constraint, constraint
from zoo.errors import PrecisionError

PolicyKind = Literal["auto", "input", "cascade", "probe"]


class Options(TypedDict, total=False):
    """How to fit; at most one of the four constraints, by default precision 0.95."""

    precision: float  # required probability of a right answer
    max_drop: float  # or: by how much accuracy may lie below the reference model's
    mean_ms: float  # or: the most accurate answers within this mean time
    p95_ms: float  # or: with 95 of 100 answers within this time
    policy: PolicyKind  # auto: what cross-validation finds best
    delta: float  # 1 - confidence of each certificate; 0.05
    max_bytes: int | None  # use models of at most so many bytes in all
    top_k: int  # an answer is right when the label is among its k most probable classes
    agree_with_reference: bool  # without labels: right is what the most accurate model says
    environment: str | None  # fit and certify on samples of this environment only
    seed: int


class FitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """:class:`Options`, complete and checked."""

    constraint: Constraint
    policy: PolicyKind
    delta: float
    max_bytes: int | None
    top_k: int
    agree_with_reference: bool
    environment: str | None
    seed: int


def fit_options(options: Options) -> FitOptions:
    """Checked options with their defaults."""
    given = {
        kind: options[kind]
        for kind in ("precision", "max_drop", "mean_ms", "p95_ms")
        if options.get(kind) is not None
    }
    asked = constraint(**given) or Constraint(kind="precision", level=0.95)
    delta = options.get("delta", 0.05)
    if not 0 < delta < 1:
        raise PrecisionError(f"expected delta strictly between 0 and 1, such as 0.05, got {delta!r}.")
    return FitOptions(
        constraint=asked,
        policy=options.get("policy", "auto"),
        delta=delta,
        max_bytes=options.get("max_bytes"),
        top_k=options.get("top_k", 1),
        agree_with_reference=options.get("agree_with_reference", False),
        environment=options.get("environment"),
        seed=options.get("seed", 0),
    )
