"""Look-ahead cascades: raw confidence alone, priced by the time that later models take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from selector.policies.cascade import LookaheadPolicy, LookaheadStage, way_probabilities
from training.outcomes.outcomes import Outcomes
from training.policies.base import _Stopping
from training.policies.cascade import ConfidenceChain
from training.policies.frontier import DOUBLE, Floats, Indices
from training.policies.platt import platt
from training.policies.staged import PlanState, follow, staged_thresholds


class Lookahead:
    """What each model's raw confidence says of its own answer and of those of dearer models.

    Pairs are fitted once for all chains that share them.
    """

    def __init__(self, outcomes: Outcomes, costs: Mapping[str, float], confidence_ms: float) -> None:
        self._outcomes = outcomes
        self._costs = costs
        self._confidence_ms = confidence_ms
        self._pairs: dict[tuple[str, str], tuple[float, float]] = {}

    def policy(self, chain: Sequence[str]) -> LookaheadPolicy:
        """The policy of a chain of models, cheapest first."""
        stages = []
        for i, name in enumerate(chain):
            lines = [self._line(name, end) for end in chain[i:]]
            costs = np.cumsum([self._costs[later] + self._confidence_ms for later in chain[i + 1 :]])
            stages.append(
                LookaheadStage(
                    model=name,
                    scales=tuple(scale for scale, _ in lines),
                    offsets=tuple(offset for _, offset in lines),
                    costs_ms=tuple(costs.tolist()),
                )
            )
        return LookaheadPolicy(stages=tuple(stages))

    def _line(self, seen: str, end: str) -> tuple[float, float]:
        """Scale and offset from the log-odds of one model to the correctness of another."""
        if (seen, end) not in self._pairs:
            column, target = (self._outcomes.models.index(name) for name in (seen, end))
            self._pairs[seen, end] = platt(
                self._outcomes.log_odds[:, column], self._outcomes.right[:, target]
            )
        return self._pairs[seen, end]


class FittedLookahead(ConfidenceChain, _Stopping[list[Floats]]):
    """A look-ahead cascade with what it needs to be simulated."""

    policy: LookaheadPolicy

    @cached_property
    def steps(self) -> tuple[PlanState, ...]:
        """The states of the chain."""
        chain = self.models
        return tuple(
            PlanState(
                chain[: i + 1],
                tuple(chain[i + 1 : i + 2 + more] for more in range(len(stage.costs_ms))),
                stage.costs_ms,
            )
            for i, stage in enumerate(self.policy.stages)
        )

    def known(self, outcomes: Outcomes) -> list[Floats]:
        """Per state: probability of being right ``[n, 1 + A]`` when stopping and after each way to go on."""
        return [
            way_probabilities(stage, outcomes.log_odds[:, outcomes.models.index(stage.model)])
            for stage in self.policy.stages
        ]

    def decide(self, known: list[Floats], threshold: float) -> Indices:
        return follow(self.steps, known, threshold, "price")

    def thresholds(self, outcomes: Outcomes, *, count: int = 200) -> Floats:
        return staged_thresholds(self.steps, self.known(outcomes), "price", count=count, rounding=DOUBLE)

    def estimates(self, outcomes: Outcomes) -> dict[str, tuple[Floats, NDArray[np.bool_]]]:
        right = outcomes.with_models(self.models).right
        return {
            name: (scores[:, 0], right[:, i])
            for i, (name, scores) in enumerate(zip(self.models, self.known(outcomes), strict=True))
        }
