"""Cascades on raw confidence, with and without look-ahead."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from selector.policies.rules import Floats, _sigmoid, _sigmoid_of, next_action, next_action_of
from zoo.types import Name


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model of a cascade and how its confidence becomes a probability of being right.

    ``P(right) = sigmoid(scale * s + offset)`` with s the log-odds of the top class (Platt 1999).
    """

    model: Name
    scale: float
    offset: float


class CascadePolicy(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="cascade"
):
    """Run the cheapest model first; escalate while the answer is not sure enough.

    The last stage answers whatever comes to it.
    """

    stages: Annotated[tuple[Stage, ...], Meta(min_length=1)]  # cheapest first

    @property
    def models(self) -> tuple[str, ...]:
        """Models of the chain, cheapest first."""
        return tuple(stage.model for stage in self.stages)


class LookaheadStage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model of a look-ahead cascade, and what its confidence says of its own answer and of later ones.

    From the log-odds s of the top class, ``sigmoid(scales[0] * s + offsets[0])`` is the probability that this
    answer is right, and with the k-th scale and offset that the answer k models later is.
    """

    model: Name
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


class LookaheadPolicy(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="lookahead"
):
    """Run the cheapest model first; go on as long as later answers are worth the price of their time.

    After each model, the number of further ones with the largest ``probability - threshold * cost_ms`` is
    sought, 0 among them; 0 stops, anything else runs the next model, which decides anew.
    """

    stages: Annotated[tuple[LookaheadStage, ...], Meta(min_length=1)]  # cheapest first

    def __post_init__(self) -> None:
        for i, stage in enumerate(self.stages):
            if len(stage.scales) != len(self.stages) - i:
                raise ValueError(
                    f"stages[{i}]: expected {len(self.stages) - i} scales, for this and each later model, "
                    f"got {len(stage.scales)}"
                )

    @property
    def models(self) -> tuple[str, ...]:
        """Models of the chain, cheapest first."""
        return tuple(stage.model for stage in self.stages)


def right_probability(stage: Stage, log_odds: Floats) -> Floats:
    """Estimated probability ``[N]`` that the stage's answers are right, from their log-odds ``[N]``."""
    return _sigmoid(stage.scale * log_odds + stage.offset)


def way_probabilities(stage: LookaheadStage, log_odds: Floats) -> Floats:
    """Estimated probabilities ``[N, 1 + A]`` of being right when stopping, and after each way to go on."""
    return _sigmoid(log_odds[:, np.newaxis] * np.array(stage.scales) + np.array(stage.offsets))


def right_probability_of(stage: Stage, log_odds: float) -> float:
    """:func:`right_probability` of one number."""
    return _sigmoid_of(stage.scale * log_odds + stage.offset)


def sure_enough(
    stage: Stage | LookaheadStage, log_odds: Floats, threshold: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """Estimated probability of being right ``[N]``, and whether to stop at this stage ``[N]``.

    The last stage of a chain stops whatever this says.
    """
    if isinstance(stage, Stage):
        probabilities = right_probability(stage, log_odds)
        return probabilities, probabilities >= threshold
    ways = way_probabilities(stage, log_odds)
    return ways[:, 0], next_action(ways, stage.ways_ms, threshold, "price") == 0


def sure_enough_of(stage: Stage | LookaheadStage, log_odds: float, threshold: float) -> tuple[float, bool]:
    """:func:`sure_enough` of one number."""
    if isinstance(stage, Stage):
        probability = right_probability_of(stage, log_odds)
        return probability, probability >= threshold
    ways = [
        _sigmoid_of(scale * log_odds + offset)
        for scale, offset in zip(stage.scales, stage.offsets, strict=True)
    ]
    return ways[0], next_action_of(ways, stage.ways_ms, threshold, "price") == 0
