"""Fitted staged policies: learned cascades and probes, simulated with the very graphs that a device runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from selector.policies.rules import Rule
from selector.policies.staged import StagedPolicy
from training.outcomes.outcomes import Outcomes
from training.policies.base import FittedPolicy, Simulator
from training.policies.frontier import (
    SINGLE,
    Floats,
    Indices,
    Simulated,
    cost_at,
    price_grid,
    threshold_grid,
)
from zoo.models.session import open_session


class FittedStaged(FittedPolicy):
    """A staged policy: learned scores after every model that ran.

    Parameters
    ----------
    graphs
        File of a state → ONNX graph.
    stage_ms
        Milliseconds of one such graph.
    """

    def __init__(
        self,
        policy: StagedPolicy,
        graphs: Mapping[str, bytes],
        costs: Mapping[str, float],
        *,
        overhead_ms: float = 0.0,
        stage_ms: float = 0.0,
    ) -> None:
        super().__init__(costs, overhead_ms=overhead_ms)
        self.policy: StagedPolicy = policy
        self.graphs = dict(graphs)
        self.stage_ms = stage_ms

    @property
    def kind(self) -> str:  # type: ignore[override]
        """``cascade`` where every state goes on in one way only, else ``probe``."""
        return "probe" if any(branches(state) for state in self.policy.states) else "cascade"

    @cached_property
    def _sessions(self) -> dict[str, ort.InferenceSession]:
        return {
            state.file: open_session(self.graphs[state.file], name="stage") for state in self.policy.states
        }

    def _judge(self, outcomes: Outcomes) -> Iterator[tuple[Floats, NDArray[np.float32]]]:
        """Per state: scores ``[n, 1 + A]``, and what stopping there answers ``[n, C]``."""
        features = outcomes.feature_columns(self.policy.features) if self.policy.features else None
        for state in self.policy.states:
            feeds = {"logits": outcomes.with_models(state.ran).logits}
            if features is not None:
                feeds["features"] = features
            answer, scores = self._sessions[state.file].run(["answer", "scores"], feeds)
            yield scores.astype(np.float64), answer

    def judge(self, outcomes: Outcomes) -> list[tuple[Floats, NDArray[np.bool_]]]:
        """Per state: scores ``[n, 1 + A]`` and whether stopping there is right ``[n]``."""
        return [
            (scores, outcomes.right_after(state.ran, answer))
            for state, (scores, answer) in zip(self.policy.states, self._judge(outcomes), strict=True)
        ]

    def answers(self, outcomes: Outcomes, threshold: float) -> Indices:
        judged = [(scores, answer.argmax(axis=1)) for scores, answer in self._judge(outcomes)]
        stopped = follow(self.policy.states, [scores for scores, _ in judged], threshold, self.policy.rule)
        chosen: Indices = np.stack([answer for _, answer in judged], axis=1)[np.arange(len(stopped)), stopped]
        return chosen

    def simulator(self, outcomes: Outcomes) -> Simulator:
        judged = self.judge(outcomes)
        states = self.policy.states
        costs = outcomes.charge([state.ran for state in states], np.array(self.possible_costs_ms()))
        right = np.stack([right for _, right in judged], axis=1)
        last = np.array([self.models.index(state.ran[-1]) for state in states])
        scores = [scores for scores, _ in judged]
        rows = np.arange(len(right))

        def at(threshold: float) -> Simulated:
            stopped = follow(states, scores, threshold, self.policy.rule)
            return Simulated(threshold, last[stopped], right[rows, stopped], cost_at(costs, stopped))

        return at

    def possible_costs_ms(self) -> list[float]:
        sums = [
            self.overhead_ms + sum(self.costs[name] + self.stage_ms for name in state.ran)
            for state in self.policy.states
        ]
        return [float(cost) for cost in self.charged(sums)]

    def thresholds(self, outcomes: Outcomes, *, count: int = 200) -> Floats:
        scores = [known for known, _ in self.judge(outcomes)]
        return staged_thresholds(self.policy.states, scores, self.policy.rule, count=count, rounding=SINGLE)

    def estimates(self, outcomes: Outcomes) -> dict[str, tuple[Floats, NDArray[np.bool_]]]:
        judged = self.judge(outcomes)
        return {
            " + ".join(state.ran): (scores[:, 0], right)
            for state, (scores, right) in zip(self.policy.states, judged, strict=True)
        }


Chain = tuple[str, ...]


@dataclass(frozen=True)
class PlanState:
    """A state of a plan: what has run, and which models may run next."""

    ran: Chain
    actions: tuple[Chain, ...]
    costs_ms: tuple[float, ...]


class StateLike(Protocol):
    """What :func:`follow` needs to know of a state."""

    @property
    def ran(self) -> tuple[str, ...]: ...
    @property
    def actions(self) -> tuple[tuple[str, ...], ...]: ...
    @property
    def costs_ms(self) -> tuple[float, ...]: ...


def branches(state: StateLike) -> bool:
    """Whether the state can go on to more than one model."""
    return len({action[0] for action in state.actions}) > 1


def follow(states: Sequence[StateLike], scores: Sequence[Floats], threshold: float, rule: Rule) -> Indices:
    """The state ``[n]`` in which each sample stops; see :func:`follow_all`."""
    stopped: Indices = follow_all(states, scores, [threshold], rule)[0].astype(np.intp)
    return stopped


def follow_all(
    states: Sequence[StateLike], scores: Sequence[Floats], thresholds: Sequence[float] | Floats, rule: Rule
) -> NDArray[np.int8]:
    """The state ``[T, n]`` in which each sample stops at each of T thresholds.

    Every state is asked about every sample, whether it gets there or not: whole arrays are faster to work on
    than the rows that are left, and thousands of plans are searched through.

    Parameters
    ----------
    states
        The first is where all begin; a state comes after those that lead to it.
    scores
        Per state ``[n, 1 + A]``, for all n samples.
    """
    place = {state.ran: i for i, state in enumerate(states)}
    levels = np.asarray(thresholds, np.float64)[:, np.newaxis]
    ends: list[NDArray[np.int8]] = [np.empty(0, np.int8)] * len(states)
    for i, state in reversed(list(enumerate(states))):
        ends[i] = np.full((len(levels), len(scores[i])), i, np.int8)
        if not state.actions:
            continue
        columns, costs = np.ascontiguousarray(scores[i].T), (0.0, *state.costs_ms)
        if not branches(state):
            going = ~_stops(columns, costs, levels, rule)
            np.copyto(ends[i], ends[place[(*state.ran, state.actions[0][0])]], where=going)
            continue
        picks = _picks(columns, costs, levels, rule)
        for a, action in enumerate(state.actions):
            np.copyto(ends[i], ends[place[(*state.ran, action[0])]], where=picks == a + 1)
    return ends[0]


def _stops(columns: Floats, costs: Sequence[float], levels: Floats, rule: Rule) -> NDArray[np.bool_]:
    """Where :func:`selector.policies.rules.next_action` is 0, ``[T, n]``."""
    if rule == "price":
        stops: NDArray[np.bool_] = np.ones((len(levels), columns.shape[1]), np.bool_)
        for column, cost in zip(columns[1:], costs[1:], strict=True):
            stops &= columns[0] >= column - levels * cost
        return stops
    highest = columns.max(axis=0)
    # where nothing is enough, the best way is taken, which may be to stop
    stops = (columns[0] >= levels) | ((columns[0] >= highest) & (highest < levels))
    return stops


def _picks(columns: Floats, costs: Sequence[float], levels: Floats, rule: Rule) -> NDArray[np.int8]:
    """What :func:`selector.policies.rules.next_action` gives ``[T, n]``, for scores ``[1 + A, n]``."""
    picks = np.zeros((len(levels), columns.shape[1]), np.int8)
    if rule == "price":
        best = np.repeat(columns[:1], len(levels), axis=0)
        for i, (column, cost) in enumerate(zip(columns[1:], costs[1:], strict=True)):
            worth = column - levels * cost
            np.copyto(picks, np.int8(i + 1), where=worth > best)
            np.maximum(best, worth, out=best)
        return picks
    highest = np.maximum.accumulate(columns, axis=0)
    for reached in highest:
        picks += reached < levels
    np.copyto(picks, columns.argmax(axis=0).astype(np.int8), where=picks == len(columns))
    return picks


def staged_thresholds(
    states: Sequence[StateLike],
    scores: Sequence[Floats],
    rule: Rule,
    *,
    count: int = 200,
    rounding: float | None = None,
) -> Floats:
    """Thresholds of a staged policy, most conservative first: quantiles of where choices change.

    With `rounding` they lie between values; see :func:`.threshold_grid`.
    """
    if rule == "threshold":
        return threshold_grid(np.concatenate([s.ravel() for s in scores]), count=count, rounding=rounding)
    gains, among = [], []
    for state, known in zip(states, scores, strict=True):
        costs = np.array(state.costs_ms)
        if len(costs):
            gains.append((known[:, 1:] - known[:, :1], costs))
        if branches(state):
            among += [
                (known[:, [i + 1]] - known[:, 1 : i + 1], costs[i] - costs[:i]) for i in range(1, len(costs))
            ]
    return price_grid(gains, count=count, rounding=rounding, among=among)
