"""Fitted policies: one interface from outcomes to answers, costs and frontiers, for every kind of policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from selector.policies.paths import paths_of
from selector.policies.policy import Policy
from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Floats, Indices, Simulated, cost_at, pareto

Known = TypeVar("Known")
Simulator = Callable[[float], Simulated]  # threshold → what the policy does


class FittedPolicy(ABC):
    """A policy with what it needs to be simulated on outcomes.

    Parameters
    ----------
    costs
        Milliseconds of every model.
    overhead_ms
        Milliseconds of features and scores, paid for every input.
    """

    policy: Policy
    kind: str  # input, cascade or probe

    def __init__(self, costs: Mapping[str, float], *, overhead_ms: float = 0.0) -> None:
        self.costs = dict(costs)
        self.overhead_ms = overhead_ms
        self.charged_ms: dict[tuple[str, ...], float] = {}  # for whole answers, by the models that run

    def charged(self, costs: Sequence[float] | Floats) -> Floats:
        """What each path is charged ``[K]``: for whole answers where that is known, else the sum `costs`."""
        paths = paths_of(self.policy)
        return np.array([self.charged_ms.get(path, float(c)) for path, c in zip(paths, costs, strict=True)])

    @property
    def models(self) -> tuple[str, ...]:
        """Models of the policy, cheapest first."""
        return self.policy.models

    @abstractmethod
    def simulator(self, outcomes: Outcomes) -> Simulator:
        """Everything that does not depend on the threshold, computed once for these outcomes."""

    @abstractmethod
    def thresholds(self, outcomes: Outcomes, *, count: int = 200) -> Floats:
        """Thresholds at which choices change, most conservative first; never from certify or test samples."""

    def sequence(self, outcomes: Outcomes) -> list[float]:
        """Thresholds worth certifying, most accurate first, from fit and tune samples."""
        return [point.threshold for point in self.worth_certifying(outcomes)]

    def worth_certifying(self, outcomes: Outcomes) -> list[Simulated]:
        """What the policy does with fit and tune samples at the thresholds of :meth:`sequence`.

        Only those remain that no other beats in both accuracy and time: more caution than pays is left out.
        """
        return pareto(self.frontier(outcomes, self.thresholds(outcomes)))

    @abstractmethod
    def estimates(self, outcomes: Outcomes) -> dict[str, tuple[Floats, NDArray[np.bool_]]]:
        """Per answer that can be given: estimated probability of being right ``[n]``, and whether it is."""

    @abstractmethod
    def possible_costs_ms(self) -> list[float]:
        """What an answer can cost, one value for each way in which the policy can end."""

    def simulate(self, outcomes: Outcomes, threshold: float) -> Simulated:
        """What the policy does at `threshold`."""
        return self.simulator(outcomes)(threshold)

    def answers(self, outcomes: Outcomes, threshold: float) -> Indices:
        """Which class is answered ``[n]`` at `threshold`."""
        predicted = outcomes.with_models(self.models).predicted
        picks = self.simulate(outcomes, threshold).answered_by
        chosen: Indices = predicted[np.arange(len(picks)), picks]
        return chosen

    def frontier(self, outcomes: Outcomes, thresholds: Sequence[float] | Floats) -> list[Simulated]:
        """Simulations at all `thresholds`."""
        at = self.simulator(outcomes)
        return [at(float(threshold)) for threshold in thresholds]


class _Stopping(FittedPolicy, Generic[Known]):
    """A policy that stops at one of its models, which answers."""

    @abstractmethod
    def known(self, outcomes: Outcomes) -> Known:
        """What decides, whatever the threshold is."""

    @abstractmethod
    def decide(self, known: Known, threshold: float) -> Indices:
        """For every sample the column at which it stops and that answers."""

    @abstractmethod
    def stop_costs(self) -> Floats:
        """Milliseconds of stopping at each column ``[K]``, everything included."""

    def simulator(self, outcomes: Outcomes) -> Simulator:
        known = self.known(outcomes)
        right = outcomes.with_models(self.models).right
        costs = outcomes.charge(paths_of(self.policy), self.charged(self.stop_costs()))
        rows = np.arange(len(right))

        def at(threshold: float) -> Simulated:
            stop = self.decide(known, threshold)
            return Simulated(threshold, stop, right[rows, stop], cost_at(costs, stop))

        return at

    def possible_costs_ms(self) -> list[float]:
        return [float(cost) for cost in self.charged(self.stop_costs())]


class _Scored(_Stopping[Floats]):
    """A policy with one probability per model and sample."""

    @abstractmethod
    def known(self, outcomes: Outcomes) -> Floats:
        """Estimated probability of being right ``[n, K]``, columns as :attr:`models`."""

    def estimates(self, outcomes: Outcomes) -> dict[str, tuple[Floats, NDArray[np.bool_]]]:
        probabilities = self.known(outcomes)
        right = outcomes.with_models(self.models).right
        return {name: (probabilities[:, j], right[:, j]) for j, name in enumerate(self.models)}
