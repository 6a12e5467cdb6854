"""Input policies: which model is enough, from the features alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from selector.policies.rules import DecisionCosts, Rule, next_action_of
from zoo.types import ModelName


class InputPolicy(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="input"
):
    """Decide from the input alone, before any model runs.

    With the rule ``threshold`` the cheapest model whose score reaches the threshold answers, else the one
    with the largest score. With the rule ``price`` the one with the largest ``score - threshold * cost_ms``
    does.
    """

    order: Annotated[tuple[ModelName, ...], Meta(min_length=1)]  # cheapest first; the columns of the scores
    among: tuple[ModelName, ...] = ()  # the models that may be picked, in the same order; empty: all
    rule: Rule = "threshold"
    costs_ms: tuple[Annotated[float, Meta(ge=0)], ...] = ()  # of the models that may be picked; for ``price``

    needs_features: ClassVar[bool] = True

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

    @property
    def threshold_is_probability(self) -> bool:
        """Whether the threshold is a probability of being right, or the price of a millisecond."""
        return self.rule == "threshold"

    def pick(self, scores: Sequence[float], threshold: float) -> int:
        """Which of :attr:`models` is enough, from the scores of these models alone."""
        return next_action_of(scores, self.costs_ms, threshold, self.rule)

    def decision_ms(self, costs: DecisionCosts, ran: int) -> float:
        """Milliseconds of the one decision, whatever runs then."""
        return costs.selector_ms
