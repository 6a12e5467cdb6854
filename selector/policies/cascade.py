"""Cascades on raw confidence, with and without look-ahead."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import numpy as np
from msgspec import Meta

from selector.policies.rules import DecisionCosts, Floats, sigmoid_of, sigmoid_of_each
from zoo.types import ModelName


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model of a cascade and how its confidence becomes a probability of being right.

    ``P(right) = sigmoid(scale * s + offset)`` with s the log-odds of the top class (Platt 1999).
    """

    model: ModelName
    scale: float
    offset: float

    def judge(self, log_odds: float, threshold: float) -> tuple[float, bool]:
        """Estimated probability that the answer is right, and whether that is enough to stop here."""
        probability = sigmoid_of(self.scale * log_odds + self.offset)
        return probability, probability >= threshold


class LookaheadStage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model of a look-ahead cascade, and what its confidence says of its own answer and of later ones.

    From the log-odds s of the top class, ``sigmoid(scales[0] * s + offsets[0])`` is the probability that this
    answer is right, and with the k-th scale and offset that the answer k models later is.
    """

    model: ModelName
    scales: Annotated[tuple[float, ...], Meta(min_length=1)]
    offsets: Annotated[tuple[float, ...], Meta(min_length=1)]
    costs_ms: tuple[Annotated[float, Meta(ge=0)], ...]  # of running one more model, two more and so on

    def __post_init__(self) -> None:
        if not len(self.scales) == len(self.offsets) == len(self.costs_ms) + 1:
            raise ValueError(
                "expected as many scales as offsets, and one cost fewer, got "
                f"{len(self.scales)}, {len(self.offsets)} and {len(self.costs_ms)}"
            )

    @property
    def ways_ms(self) -> tuple[float, ...]:
        """Costs of stopping and of each way to go on."""
        return (0.0, *self.costs_ms)

    def judge(self, log_odds: float, threshold: float) -> tuple[float, bool]:
        """Estimated probability that the answer is right, and whether no later one is worth its time."""
        scales, offsets = self.scales, self.offsets
        first = sigmoid_of(scales[0] * log_odds + offsets[0])
        stopping = first - threshold * 0.0
        for i, cost in enumerate(self.costs_ms, 1):
            if sigmoid_of(scales[i] * log_odds + offsets[i]) - threshold * cost > stopping:
                return first, False
        return first, True


class _Chain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Models in a row, each of which decides by its raw confidence whether the next one runs."""

    stages: tuple[Stage, ...] | tuple[LookaheadStage, ...]

    needs_features: ClassVar[bool] = False

    @property
    def models(self) -> tuple[str, ...]:
        """Models of the chain, cheapest first."""
        return tuple(stage.model for stage in self.stages)

    def decision_ms(self, costs: DecisionCosts, ran: int) -> float:
        """Milliseconds of all decisions until `ran` models have run; one model alone decides nothing."""
        return costs.confidence_ms * ran if len(self.stages) > 1 else 0.0


class CascadePolicy(
    _Chain, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="cascade"
):
    """Run the cheapest model first; escalate while the answer is not sure enough.

    The last stage answers whatever comes to it.
    """

    stages: Annotated[tuple[Stage, ...], Meta(min_length=1)]  # cheapest first

    threshold_is_probability: ClassVar[bool] = True


class LookaheadPolicy(
    _Chain, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="lookahead"
):
    """Run the cheapest model first; go on as long as later answers are worth the price of their time.

    After each model, the number of further ones with the largest ``probability - threshold * cost_ms`` is
    sought, 0 among them; 0 stops, anything else runs the next model, which decides anew.
    """

    stages: Annotated[tuple[LookaheadStage, ...], Meta(min_length=1)]  # cheapest first

    threshold_is_probability: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for i, stage in enumerate(self.stages):
            if len(stage.scales) != len(self.stages) - i:
                raise ValueError(
                    f"stages[{i}]: expected {len(self.stages) - i} scales, for this and each later model, "
                    f"got {len(stage.scales)}"
                )


def right_probability(stage: Stage, log_odds: Floats) -> Floats:
    """Estimated probability ``[N]`` that the stage's answers are right, from their log-odds ``[N]``."""
    return sigmoid_of_each(stage.scale * log_odds + stage.offset)


def way_probabilities(stage: LookaheadStage, log_odds: Floats) -> Floats:
    """Estimated probabilities ``[N, 1 + A]`` of being right when stopping, and after each way to go on."""
    return sigmoid_of_each(log_odds[:, np.newaxis] * np.array(stage.scales) + np.array(stage.offsets))
