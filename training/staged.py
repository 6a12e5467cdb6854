"""Fitted staged policies: learned cascades and probes, simulated with the very graphs that a device runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from selector.policy import Rule, StagedPolicy, next_action
from training.outcomes import Outcomes
from training.policies import FittedPolicy, Floats, Indices, Simulated, Simulator, price_grid, threshold_grid
from zoo.model import open_session


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

    def judge(self, outcomes: Outcomes) -> list[tuple[Floats, NDArray[np.bool_]]]:
        """Per state: scores ``[n, 1 + A]`` and whether stopping there is right ``[n]``."""
        features = outcomes.feature_columns(self.policy.features) if self.policy.features else None
        judged = []
        for state in self.policy.states:
            feeds = {"logits": outcomes.with_models(state.ran).logits}
            if features is not None:
                feeds["features"] = features
            answer, scores = self._sessions[state.file].run(["answer", "scores"], feeds)
            judged.append((scores.astype(np.float64), outcomes.right_of(answer)))
        return judged

    def simulator(self, outcomes: Outcomes) -> Simulator:
        judged = self.judge(outcomes)
        states = self.policy.states
        stop_costs = np.array(self.possible_costs_ms())
        right = np.stack([right for _, right in judged], axis=1)
        last = np.array([self.models.index(state.ran[-1]) for state in states])
        scores = [scores for scores, _ in judged]
        rows = np.arange(len(right))

        def at(threshold: float) -> Simulated:
            stopped = follow(states, scores, threshold, self.policy.rule)
            return Simulated(threshold, last[stopped], right[rows, stopped], stop_costs[stopped])

        return at

    def possible_costs_ms(self) -> list[float]:
        return [
            self.overhead_ms + sum(self.costs[name] + self.stage_ms for name in state.ran)
            for state in self.policy.states
        ]

    def thresholds(self, outcomes: Outcomes, *, count: int = 200) -> Floats:
        return staged_thresholds(
            self.policy.states, [s for s, _ in self.judge(outcomes)], self.policy.rule, count=count
        )

    def estimates(self, outcomes: Outcomes) -> dict[str, tuple[Floats, NDArray[np.bool_]]]:
        judged = self.judge(outcomes)
        return {
            " + ".join(state.ran): (scores[:, 0], right)
            for state, (scores, right) in zip(self.policy.states, judged, strict=True)
        }


class Step(Protocol):
    """What :func:`follow` needs to know of a state."""

    @property
    def ran(self) -> tuple[str, ...]: ...
    @property
    def actions(self) -> tuple[tuple[str, ...], ...]: ...
    @property
    def costs_ms(self) -> tuple[float, ...]: ...


def branches(state: Step) -> bool:
    """Whether the state can go on to more than one model."""
    return len({action[0] for action in state.actions}) > 1


def follow(states: Sequence[Step], scores: Sequence[Floats], threshold: float, rule: Rule) -> Indices:
    """The state ``[n]`` in which each sample stops.

    Parameters
    ----------
    states
        The first is where all begin; a state comes after those that lead to it.
    scores
        Per state ``[n, 1 + A]``, for all n samples.
    """
    place = {state.ran: i for i, state in enumerate(states)}
    stopped = np.zeros(len(scores[0]), dtype=np.intp)
    arrived: list[list[Indices]] = [[] for _ in states]
    arrived[0].append(np.arange(len(scores[0])))
    for i, state in enumerate(states):
        if not arrived[i]:
            continue
        rows = np.concatenate(arrived[i])
        stopped[rows] = i
        if not state.actions:
            continue
        picks = next_action(scores[i][rows], (0.0, *state.costs_ms), threshold, rule)
        for a, action in enumerate(state.actions):
            gone = rows[picks == a + 1]
            if len(gone):
                arrived[place[(*state.ran, action[0])]].append(gone)
    return stopped


def staged_thresholds(
    states: Sequence[Step], scores: Sequence[Floats], rule: Rule, *, count: int = 200
) -> Floats:
    """Thresholds of a staged policy, most conservative first: quantiles of where choices change."""
    if rule == "threshold":
        return threshold_grid(np.concatenate([s.ravel() for s in scores]), count=count)
    return price_grid(
        [
            (known[:, 1:] - known[:, :1], np.array(state.costs_ms))
            for state, known in zip(states, scores, strict=True)
            if state.costs_ms
        ],
        count=count,
    )
