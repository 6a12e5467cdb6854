"""Input policies: which model is enough, from the features alone."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from selector.policies.rules import Rule
from zoo.types import Name


class InputPolicy(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="input"
):
    """Decide from the input alone, before any model runs.

    With the rule ``threshold`` the cheapest model whose score reaches the threshold answers, else the one
    with the largest score. With the rule ``price`` the one with the largest ``score - threshold * cost_ms``
    does.
    """

    order: Annotated[tuple[Name, ...], Meta(min_length=1)]  # cheapest first; the columns of the scores
    among: tuple[Name, ...] = ()  # the models that may be picked, in the same order; empty: all
    rule: Rule = "threshold"
    costs_ms: tuple[Annotated[float, Meta(ge=0)], ...] = ()  # of the models that may be picked; for ``price``

    def __post_init__(self) -> None:
        if self.rule == "price" and len(self.costs_ms) != len(self.models):
            raise ValueError(f"costs_ms: expected {len(self.models)}, one a model, got {len(self.costs_ms)}")
        if self.among != tuple(name for name in self.order if name in self.among):
            raise ValueError(
                f"among: expected some of {list(self.order)} in that order, got {list(self.among)}"
            )

    @property
    def models(self) -> tuple[str, ...]:
        """Models that the policy may pick, cheapest first."""
        return self.among or self.order
