"""Peers that need no scores: single models, random mixes of them, and the oracle."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from benchmarks.peers.peer import SETTINGS, Peer
from training.outcomes.outcomes import Outcomes
from training.policies.frontier import Simulated
from training.policies.singles import upper_hull


class AlwaysLargest(Peer):
    """The model that is most accurate on the development samples, for every input."""

    name = "always-largest"
    source = "the reference: the most accurate single model, what one runs without a selector"

    def _settle(self, development: Outcomes) -> None:
        self._reference = int(development.right.mean(axis=0).argmax())

    def _points(self, outcomes: Outcomes) -> list[Simulated]:
        return [self._answer(outcomes, 0.0, np.full(len(outcomes), self._reference))]


class SingleModels(Peer):
    """Every model alone, cheapest first; the settings are the models."""

    name = "single"
    source = "the cheapest single model that meets the constraint on the development samples"

    def _settle(self, development: Outcomes) -> None:
        self._count = len(development.models)

    def _points(self, outcomes: Outcomes) -> list[Simulated]:
        return [self._answer(outcomes, float(j), np.full(len(outcomes), j)) for j in range(self._count)]


class RandomMix(Peer):
    """Two models, one drawn at random for every input: what costs the same without looking at the input.

    Mixes of neighbours on the upper hull of the single models beat all other mixes, so the settings lie
    there: hull position 1.25 is the second vertex for three quarters of the inputs and the third for one.
    """

    name = "random-mix"
    source = "mixed strategies between single models: the upper convex hull of their costs and accuracies"

    def _settle(self, development: Outcomes) -> None:
        self._hull = upper_hull(self.costs, development.right.mean(axis=0))
        segments = len(self._hull) - 1
        steps = max(1, math.ceil((SETTINGS - 1) / segments)) if segments else 0
        self._positions = np.linspace(0, segments, segments * steps + 1)

    def _points(self, outcomes: Outcomes) -> list[Simulated]:
        # Exact shares of a shuffled order instead of a coin for each input: the same mean, less noise.
        order = np.random.default_rng(self.seed).permutation(len(outcomes)) + 0.5
        points = []
        for position in self._positions:
            cheap, dear, share = self._mix(float(position))
            points.append(
                self._answer(outcomes, float(position), np.where(order < share * len(order), dear, cheap))
            )
        return points

    def accuracies(self, outcomes: Outcomes, frontier: Sequence[Simulated]) -> list[float]:
        return [accuracy for _, accuracy in self.expected(outcomes)]

    def expected(self, outcomes: Outcomes) -> list[tuple[float, float]]:
        """Expected cost in ms and accuracy of every setting, exactly, in the order of the frontier."""
        accuracy = outcomes.with_models(self.models).right.mean(axis=0)
        return [
            (
                float((1 - share) * self.costs[cheap] + share * self.costs[dear]),
                float((1 - share) * accuracy[cheap] + share * accuracy[dear]),
            )
            for cheap, dear, share in map(self._mix, self._positions.tolist())
        ]

    def _mix(self, position: float) -> tuple[int, int, float]:
        left = min(int(position), max(len(self._hull) - 2, 0))
        return self._hull[left], self._hull[min(left + 1, len(self._hull) - 1)], position - left


class Oracle(Peer):
    """The cheapest right model of every input, the cheapest of all where none is right.

    Its accuracy is the ceiling of every method that answers with the class of one model: the share of inputs
    that any model gets right. A committee can be right where each of its models is wrong. The oracle reads
    the labels of the samples that it answers, as no real method can.
    """

    name = "oracle"
    source = "virtual best model: a bound for every choice of one model's answer, not a method"

    def _settle(self, development: Outcomes) -> None:
        pass

    def _points(self, outcomes: Outcomes) -> list[Simulated]:
        return [self._answer(outcomes, 0.0, outcomes.right.argmax(axis=1))]


def ceiling(outcomes: Outcomes) -> float:
    """Share of the inputs that any model gets right; the oracle reaches it."""
    return float(outcomes.right.any(axis=1).mean())
