"""Deciders: how each kind of policy goes on, one input at a time, from what models told so far.

They call the rules that simulations of the policies call, so what is certified is what is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from selector.bundle.graph import Graph
from selector.bundle.source import FolderSource
from selector.policies.cascade import CascadePolicy, LookaheadPolicy, LookaheadStage, Stage
from selector.policies.input import InputPolicy
from selector.policies.policy import Policy
from selector.policies.pool import PoolPolicy, Scaling, margins
from selector.policies.rules import confidence
from selector.policies.staged import StagedPolicy
from selector.routing.evidence import odds_of_scores
from selector.routing.record import RouterRecord
from zoo.errors import NotFiniteError
from zoo.models.model import all_finite

Columns = NDArray[np.float32]  # [1, F], all columns of a router
Told = Sequence[NDArray[np.float32]]  # of every model that ran [W]: its logits, or the log-odds of its score
Way = tuple[str | None, float | None]  # the model to run, None to stop; probability that stopping is right


class SoFar(Protocol):
    """What is known of an input under way."""

    @property
    def path(self) -> tuple[str, ...]: ...  # models that ran
    @property
    def told(self) -> Told: ...
    @property
    def columns(self) -> Columns: ...
    @property
    def known(self) -> float | None: ...  # the probability that Decider.start gave


class Decider(Protocol):
    """Follows one policy."""

    def known(self, columns: Columns) -> Columns:
        """What the policy decides by, from the features of an input."""
        ...

    def start(self, columns: Columns, threshold: float) -> Way:
        """The model to run first."""
        ...

    def go_on(self, so_far: SoFar, threshold: float) -> Way:
        """What to do once the models that ran have told."""
        ...


def decider_of(policy: Policy, record: RouterRecord, source: FolderSource) -> Decider:
    """The decider of a policy; graphs are verified and opened when first needed."""
    if isinstance(policy, InputPolicy):
        return _InputDecider(policy, record, source)
    if isinstance(policy, StagedPolicy):
        return _StagedDecider(policy, record, source)
    if isinstance(policy, PoolPolicy):
        return _PoolDecider(policy)
    return _CascadeDecider(policy)


class _Scores:
    """The graph of scores: from the features of an input, how likely each model is right."""

    def __init__(self, record: RouterRecord, source: FolderSource) -> None:
        assert record.scores is not None  # RouterRecord has seen to that
        self._graph = Graph(
            source,
            record.scores,
            name="graph of scores",
            inputs={"features": "tensor(float)"},
            outputs={"scores": len(record.models)},
        )
        self._chosen = [record.columns.index(name) for name in record.scores.features]

    def __call__(self, columns: Columns) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._graph.run(["scores"], {"features": columns[:, self._chosen]})[0]
        _check_finite(scores)
        return scores


class _Stages:
    """A policy that runs one model after another, and decides by what they tell."""

    def known(self, columns: Columns) -> Columns:
        return columns


class _InputDecider:
    """One model for each input, from its features."""

    def __init__(self, policy: InputPolicy, record: RouterRecord, source: FolderSource) -> None:
        self._policy = policy
        self._columns = [policy.order.index(name) for name in policy.models]
        self._scores = _Scores(record, source)

    def known(self, columns: Columns) -> Columns:
        return columns

    def start(self, columns: Columns, threshold: float) -> Way:
        row = self._scores(columns)[0].tolist()
        some = [row[column] for column in self._columns]
        pick = self._policy.pick(some, threshold)
        return self._policy.models[pick], some[pick]

    def go_on(self, so_far: SoFar, threshold: float) -> Way:
        return None, so_far.known


class _CascadeDecider(_Stages):
    """One model after the other, as long as its confidence says so."""

    def __init__(self, policy: CascadePolicy | LookaheadPolicy) -> None:
        self._stages: tuple[Stage | LookaheadStage, ...] = policy.stages
        self._names = policy.models

    def start(self, columns: Columns, threshold: float) -> Way:
        return self._names[0], None

    def go_on(self, so_far: SoFar, threshold: float) -> Way:
        place = len(so_far.path)
        probability, enough = self._stages[place - 1].judge(log_odds(so_far.told[-1]), threshold)
        return (None if enough or place == len(self._names) else self._names[place]), probability


class _PoolDecider(_Stages):
    """One model after the other, as long as the pool of all that ran is not sure enough."""

    def __init__(self, policy: PoolPolicy) -> None:
        self._policy = policy
        self._scalings = [Scaling.of(stage) for stage in policy.stages]

    def start(self, columns: Columns, threshold: float) -> Way:
        return self._policy.models[0], None

    def go_on(self, so_far: SoFar, threshold: float) -> Way:
        place = len(so_far.path)
        total = self._scalings[0](so_far.told[0][np.newaxis])
        for scaling, logits in zip(self._scalings[1:place], so_far.told[1:], strict=True):
            total = total + scaling(logits[np.newaxis])
        margin = margins(total, place)[0]
        stage, setting = self._policy.stages[place - 1], self._policy.setting(threshold)
        stops = place > len(setting) or margin >= setting[place - 1]
        return (None if stops else self._policy.models[place]), stage.probability(margin)


class _StagedDecider(_Stages):
    """A first model, then what the scores of each state say."""

    def __init__(self, policy: StagedPolicy, record: RouterRecord, source: FolderSource) -> None:
        self._policy = policy
        inputs = dict.fromkeys(("logits", "features")[: 1 + policy.needs_features], "tensor(float)")
        self._states = {
            state.ran: (
                state,
                Graph(
                    source,
                    state,
                    name=state.file,
                    inputs=inputs,
                    outputs={"answer": None, "scores": 1 + len(state.actions)},
                ),
            )
            for state in policy.states
        }
        names = (*record.columns, *record.estimates)
        self._chosen = [names.index(name) for name in policy.features]
        estimating = bool(policy.features) and policy.features == record.estimates
        self._scores = _Scores(record, source) if estimating else None

    def known(self, columns: Columns) -> Columns:
        if self._scores is None:
            return columns
        return np.concatenate([columns, odds_of_scores(self._scores(columns))], axis=1)

    def start(self, columns: Columns, threshold: float) -> Way:
        return self._policy.states[0].ran[0], None

    def go_on(self, so_far: SoFar, threshold: float) -> Way:
        state, graph = self._states[so_far.path]
        feeds = {"logits": np.array(so_far.told, np.float32)[np.newaxis]}
        if self._chosen:
            feeds["features"] = so_far.columns[:, self._chosen]
        scores = graph.run(["scores"], feeds)[0]
        _check_finite(scores)
        row = scores[0].tolist()
        return state.next(row, threshold, self._policy.rule), row[0]


def log_odds(told: NDArray[np.float32]) -> float:
    """How sure a model was, from its logits ``[C]`` or from the log-odds of its score ``[1]``."""
    return float(told[0]) if len(told) == 1 else confidence(told[np.newaxis])[0][0]


def _check_finite(scores: NDArray[np.float32]) -> None:
    if not all_finite(scores):
        raise NotFiniteError(
            "expected finite scores, got NaN or infinite ones. Fit and export the router again, with inputs "
            "like this one in the table."
        )
