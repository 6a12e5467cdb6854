"""Fitted pools: cascades of recalibrated models whose scaled logits are added up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from selector.policies.paths import paths_of
from selector.policies.pool import PoolPolicy, Scaling, margins, stopping
from training.outcomes.outcomes import Outcomes
from training.policies.base import FittedPolicy, Simulator
from training.policies.frontier import Floats, Indices, Simulated, cost_at


class FittedPool(FittedPolicy):
    """A pool with what it needs to be simulated.

    Parameters
    ----------
    stage_ms
        Milliseconds of recalibrating and deciding after a model ran.
    """

    kind = "cascade"

    def __init__(self, policy: PoolPolicy, costs: Mapping[str, float], *, stage_ms: float = 0.0) -> None:
        super().__init__(costs)
        self.policy: PoolPolicy = policy
        self.stage_ms = stage_ms

    def totals(self, outcomes: Outcomes) -> Iterator[Floats]:
        """After every stage the recalibrated logits ``[n, C]`` of all that ran, added up."""
        total: Floats | None = None
        for stage in self.policy.stages:
            embedding = outcomes.embeddings[stage.model] if stage.inputs == "embedding" else None
            scaled = Scaling.of(stage)(outcomes.logits[:, outcomes.models.index(stage.model)], embedding)
            total = scaled if total is None else total + scaled
            yield total

    def judge(self, outcomes: Outcomes) -> list[tuple[Floats, NDArray[np.bool_]]]:
        """Per stage: margins ``[n]``, and whether stopping there is right ``[n]``."""
        return [
            (np.array(margins(total, i + 1)), outcomes.right_of(total))
            for i, total in enumerate(self.totals(outcomes))
        ]

    def stop_costs(self) -> Floats:
        """Milliseconds of stopping after each model ``[K]``."""
        total: Floats = np.cumsum([self.costs[name] + self.stage_ms for name in self.models])
        return total

    def possible_costs_ms(self) -> list[float]:
        return [float(cost) for cost in self.charged(self.stop_costs())]

    def simulator(self, outcomes: Outcomes) -> Simulator:
        judged = self.judge(outcomes)
        sure = [margin for margin, _ in judged]
        right = np.stack([right for _, right in judged], axis=1)
        costs = outcomes.charge(paths_of(self.policy), self.charged(self.stop_costs()))
        rows = np.arange(len(right))

        def at(threshold: float) -> Simulated:
            stop = stopping(sure, self.policy.setting(threshold))
            return Simulated(threshold, stop, right[rows, stop], cost_at(costs, stop))

        return at

    def answers(self, outcomes: Outcomes, threshold: float) -> Indices:
        totals = list(self.totals(outcomes))
        sure = [np.array(margins(total, i + 1)) for i, total in enumerate(totals)]
        stop = stopping(sure, self.policy.setting(threshold))
        answered = np.stack([total.argmax(axis=1) for total in totals], axis=1)
        chosen: Indices = answered[np.arange(len(stop)), stop]
        return chosen

    def thresholds(self, outcomes: Outcomes, *, count: int = 200) -> Floats:
        return np.array(self.policy.prices)

    def estimates(self, outcomes: Outcomes) -> dict[str, tuple[Floats, NDArray[np.bool_]]]:
        return {
            " + ".join(self.models[: i + 1]): (
                np.array([self.policy.stages[i].probability(margin) for margin in sure.tolist()]),
                right,
            )
            for i, (sure, right) in enumerate(self.judge(outcomes))
        }
