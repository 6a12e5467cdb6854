"""Runners: how each kind of policy answers images, one or many at a time.

A runner decides for every image alone, with the rule of its policy, and runs each model once for all images
that come to it. So an image in a batch is decided like the same image alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from selector.policies.cascade import CascadePolicy, LookaheadPolicy, LookaheadStage, Stage
from selector.policies.input import InputPolicy
from selector.policies.policy import Policy
from selector.policies.pool import PoolPolicy, Scaling, margin_of, margins
from selector.policies.rules import (
    Floats,
    confidence,
    log_odds_of,
    next_action_of,
    shares,
    shares_of,
)
from selector.policies.staged import StagedPolicy, State
from zoo.inputs.kind import Batch

_UNKNOWN = float("nan")
Rows = TypeVar("Rows")  # an array or a batch


class Outcome(NamedTuple):
    """What happened to one image."""

    model: str  # the model whose answer counts
    path: tuple[str, ...]  # all models that ran (or would run), in order
    probability: float  # estimated probability that the answer is right; NaN where nothing estimates it
    # Class probabilities [C]; None where the model was only picked. A list holds logits, whose softmax they
    # are: it is not worked out for who wants the label alone.
    answer: NDArray[np.floating] | list[float] | None
    scores: Sequence[float] | None = None  # of all models, in the policy's order, where the policy has them
    # log-odds of the first model's answer, where that is the same model for every image; a list holds its
    # logits, whose log-odds are not worked out for inputs that nobody looks at
    confidence: float | list[float] | None = None
    top: int | None = None  # the most probable class, where that is known already

    @property
    def probabilities(self) -> Floats:
        """Class probabilities float64 ``[C]`` of what was answered."""
        return probabilities_of(self.answer)


def probabilities_of(answer: NDArray[np.floating] | list[float] | None) -> Floats:
    """Class probabilities float64 ``[C]`` of an answer as an :class:`Outcome` holds it."""
    if isinstance(answer, list):
        return np.array(shares_of(answer))
    assert answer is not None, "a model that was only picked"
    return np.asarray(answer, np.float64)


class Sessions(Protocol):
    """What a runner runs; batches are checked, of images uint8 ``[N, H, W, 3]``."""

    def logits(self, name: str, batch: Batch) -> NDArray[np.float32]:
        """Logits ``[N, C]`` of one model, in the order of the bundle's classes."""
        ...

    def embedded(
        self, name: str, batch: Batch, width: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits ``[N, C]`` as of :meth:`logits`, and the embedding ``[N, width]``."""
        ...

    def scores(self, batch: Batch) -> NDArray[np.float32]:
        """Scores ``[N, M]`` of the selector graph."""
        ...

    def features(self, batch: Batch) -> NDArray[np.float32]:
        """Features ``[N, F]`` of the selector graph."""
        ...

    def judge(
        self, state: State, logits: NDArray[np.float32], features: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Answers ``[N, C]`` and scores ``[N, 1 + A]`` of a state, from logits ``[N, K, C]``."""
        ...


class Single(Protocol):
    """What a runner runs for one image, uint8 ``[1, H, W, 3]``; as :class:`Sessions`, but in lists."""

    def row(self, name: str, image: Batch) -> tuple[list[float], NDArray[np.float32]]:
        """Logits of one model, as a list and ``[1, C]``, in the order of the bundle's classes."""
        ...

    def logits(self, name: str, batch: Batch) -> NDArray[np.float32]:
        """As of :class:`Sessions`."""
        ...

    def embedded(
        self, name: str, batch: Batch, width: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As of :class:`Sessions`."""
        ...

    def scores_of(self, image: Batch) -> list[float]:
        """Scores ``[M]`` of the selector graph."""
        ...

    def features(self, batch: Batch) -> NDArray[np.float32]:
        """As of :class:`Sessions`."""
        ...

    def judge_one(
        self, state: State, logits: NDArray[np.float32], features: NDArray[np.float32] | None, *, answer: bool
    ) -> tuple[list[float], NDArray[np.float32] | None]:
        """Scores of a state, and its answer ``[1, C]`` if wanted, from logits ``[1, K, C]``."""
        ...


class Runner(Protocol):
    """Answers images by one policy."""

    def one(self, sessions: Single, image: Batch, threshold: float) -> Outcome:
        """The answer to one image ``[1, H, W, 3]``, as :meth:`run` gives it; for up to MAX_LISTED classes.

        Beside a small model numpy's overhead on single rows would be felt: this works on lists of numbers.
        """
        ...

    def run(self, sessions: Sessions, batch: Batch, threshold: float, *, answer: bool) -> list[Outcome]:
        """Outcomes of images ``[N, H, W, 3]``; without `answer`, no model runs that is not needed to pick."""
        ...


def runner_of(policy: Policy, *, confident: bool) -> Runner:
    """The runner of a policy.

    Parameters
    ----------
    confident
        Whether outcomes are to have the log-odds of the first model's answer where the policy does not need
        them itself.
    """
    if isinstance(policy, InputPolicy):
        return _InputRunner(policy)
    if isinstance(policy, StagedPolicy):
        return _StagedRunner(policy, confident=confident)
    if isinstance(policy, PoolPolicy):
        return _PoolRunner(policy, confident=confident)
    return _CascadeRunner(policy)


def run_alone(name: str, sessions: Sessions, batch: Batch, *, answer: bool, confident: bool) -> list[Outcome]:
    """Outcomes of one model that answers every image; nothing estimates how often it is right.

    Parameters
    ----------
    confident
        Whether its log-odds are wanted.
    """
    if not answer:
        return [Outcome(name, (name,), _UNKNOWN, None)] * len(batch)
    log_odds, weights = confidence(sessions.logits(name, batch))
    return [
        Outcome(name, (name,), _UNKNOWN, row, None, odds if confident else None)
        for row, odds in zip(shares(weights), log_odds, strict=True)
    ]


def one_alone(name: str, sessions: Single, image: Batch, *, confident: bool) -> Outcome:
    """:func:`run_alone` for one image ``[1, H, W, 3]`` that is to be answered."""
    row, _ = sessions.row(name, image)
    return Outcome(name, (name,), _UNKNOWN, row, None, row if confident else None, row.index(max(row)))


class _InputRunner:
    """Scores first, then one model for each image."""

    def __init__(self, policy: InputPolicy) -> None:
        self._policy = policy
        self._columns = [policy.order.index(name) for name in policy.models]
        self._ways = [
            (name, (name,), column) for name, column in zip(policy.models, self._columns, strict=True)
        ]

    def one(self, sessions: Single, image: Batch, threshold: float) -> Outcome:
        scores = sessions.scores_of(image)
        pick = self._policy.pick([scores[column] for column in self._columns], threshold)
        name, path, column = self._ways[pick]
        row, _ = sessions.row(name, image)
        return Outcome(name, path, scores[column], row, scores, None, row.index(max(row)))

    def run(self, sessions: Sessions, batch: Batch, threshold: float, *, answer: bool) -> list[Outcome]:
        policy, columns = self._policy, self._columns
        every = sessions.scores(batch).tolist()
        picked: dict[int, list[int]] = {}
        for image, scores in enumerate(every):
            pick = policy.pick([scores[column] for column in columns], threshold)
            picked.setdefault(pick, []).append(image)
        outcomes: dict[int, Outcome] = {}
        for pick, images in picked.items():
            name, column = policy.models[pick], columns[pick]
            answers = _shares(sessions.logits(name, _part(batch, images))) if answer else None
            for i, image in enumerate(images):
                scores = every[image]
                found = None if answers is None else answers[i]
                outcomes[image] = Outcome(name, (name,), scores[column], found, scores)
        return _in_order(outcomes)


class _CascadeRunner:
    """One model after the other, as long as its raw confidence says so."""

    def __init__(self, policy: CascadePolicy | LookaheadPolicy) -> None:
        names = policy.models
        stages: tuple[Stage | LookaheadStage, ...] = policy.stages
        self._steps = [(stage, names[: i + 1], i + 1 == len(names)) for i, stage in enumerate(stages)]
        self._quick = [(stage.model, stage.judge, path, is_last) for stage, path, is_last in self._steps]

    def one(self, sessions: Single, image: Batch, threshold: float) -> Outcome:
        first: float | None = None
        for name, judge, path, is_last in self._quick:
            row, _ = sessions.row(name, image)
            odds, top = log_odds_of(row)
            if first is None:
                first = odds
            probability, enough = judge(odds, threshold)
            if enough or is_last:
                return Outcome(name, path, probability, row, None, first, top)
        raise AssertionError("a cascade has stages")

    def run(self, sessions: Sessions, batch: Batch, threshold: float, *, answer: bool) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        images = list(range(len(batch)))  # that no model was sure enough of so far
        for stage, path, is_last in self._steps:
            log_odds, weights = confidence(sessions.logits(stage.model, _part(batch, images)))
            if len(path) == 1:
                confidences = log_odds
            judged = [stage.judge(odds, threshold) for odds in log_odds]
            done = [i for i, (_, enough) in enumerate(judged) if enough or is_last]
            if done:
                for i, row in zip(done, shares(_part(weights, done)), strict=True):
                    image = images[i]
                    found = Outcome(stage.model, path, judged[i][0], row, None, confidences[image])
                    outcomes[image] = found
            if len(done) == len(images):
                break
            images = [image for image, (_, enough) in zip(images, judged, strict=True) if not enough]
        return _in_order(outcomes)


class _PoolRunner:
    """One model after the other, as long as the pool of all that ran is not sure enough."""

    def __init__(self, policy: PoolPolicy, *, confident: bool) -> None:
        self._policy, self._confident = policy, confident
        names = policy.models
        self._steps = [(stage, Scaling.of(stage), names[: i + 1]) for i, stage in enumerate(policy.stages)]
        self._quick = [
            (stage.model, stage.scaled, None if scaling.weights is None else scaling, path, stage.probability)
            for stage, scaling, path in self._steps
        ]

    def one(self, sessions: Single, image: Batch, threshold: float) -> Outcome:
        enough = (*self._policy.setting(threshold), None)  # the last stage answers whatever comes to it
        first: list[float] | None = None
        total: list[float] = []
        for (name, scaled_of, matrix, path, probability), least in zip(self._quick, enough, strict=True):
            count = len(path)
            if matrix is None:
                row, _ = sessions.row(name, image)
                scaled = scaled_of(row)
            else:
                logits, embedding = None, None
                if matrix.on_embedding and matrix.weights is not None:
                    logits, embedding = sessions.embedded(name, image, len(matrix.weights))
                    row = logits.tolist()[0]
                else:
                    row, logits = sessions.row(name, image)
                scaled = matrix(logits, embedding).tolist()[0]
            if count == 1:
                total = scaled
                first = row if self._confident else None
            else:
                total = [one + other for one, other in zip(total, scaled, strict=True)]
            margin = margin_of(total, count)
            if least is None or margin >= least:
                mean = total if count == 1 else [value / count for value in total]
                top = mean.index(max(mean))
                return Outcome(name, path, probability(margin), mean, None, first, top)
        raise AssertionError("a pool has stages")

    def run(self, sessions: Sessions, batch: Batch, threshold: float, *, answer: bool) -> list[Outcome]:
        enough = (*self._policy.setting(threshold), None)  # the last stage answers whatever comes to it
        outcomes: dict[int, Outcome] = {}
        images = list(range(len(batch)))  # that no pool was sure enough of so far
        confidences: Sequence[float | None] = [None] * len(batch)
        for (stage, scaling, path), least in zip(self._steps, enough, strict=True):
            part, embedding = _part(batch, images), None
            if scaling.on_embedding and scaling.weights is not None:
                logits, embedding = sessions.embedded(stage.model, part, len(scaling.weights))
            else:
                logits = sessions.logits(stage.model, part)
            scaled = scaling(logits, embedding)
            if len(path) == 1:
                total = scaled
                if self._confident:
                    confidences = confidence(logits)[0]
            else:
                total = total + scaled
            sure = margins(total, len(path))
            done = [i for i, margin in enumerate(sure) if least is None or margin >= least]
            if done:
                for i, row in zip(done, _shares(_part(total, done) / len(path)), strict=True):
                    image, right = images[i], stage.probability(sure[i])
                    outcomes[image] = Outcome(stage.model, path, right, row, None, confidences[image])
            if len(done) == len(images):
                break
            stopped = set(done)
            going = [i for i in range(len(images)) if i not in stopped]
            images, total = [images[i] for i in going], total[going]
        return _in_order(outcomes)


class _StagedRunner:
    """A first model, then what the scores of each state say."""

    def __init__(self, policy: StagedPolicy, *, confident: bool) -> None:
        self._policy, self._confident = policy, confident
        self._states = {state.ran: state for state in policy.states}
        # of a state: what may run next, and its cost, nothing first
        self._ways = {
            state.ran: ((None, *(action[0] for action in state.actions)), state.ways_ms)
            for state in policy.states
        }

    def one(self, sessions: Single, image: Batch, threshold: float) -> Outcome:
        policy = self._policy
        features = sessions.features(image) if policy.features else None
        state, ran = policy.states[0], policy.states[0].ran
        row, logits = sessions.row(ran[0], image)
        first = row if self._confident else None
        rows = logits[np.newaxis]
        while True:
            scores, mean = sessions.judge_one(state, rows, features, answer=not policy.is_of_last(ran))
            names, costs = self._ways[ran]
            name = names[next_action_of(scores, costs, threshold, policy.rule)] if names[1:] else None
            if name is None:
                answer, top = (row, row.index(max(row))) if mean is None else (mean[0], int(mean.argmax()))
                return Outcome(ran[-1], ran, scores[0], answer, None, first, top)
            ran = (*ran, name)
            state = self._states[ran]
            row, logits = sessions.row(name, image)
            rows = np.concatenate([rows, logits[np.newaxis]], axis=1)

    def run(self, sessions: Sessions, batch: Batch, threshold: float, *, answer: bool) -> list[Outcome]:
        policy = self._policy
        features = sessions.features(batch) if policy.features else None
        outcomes: dict[int, Outcome] = {}
        first = policy.states[0].ran
        logits = sessions.logits(first[0], batch)
        confidences = confidence(logits)[0] if self._confident else [None] * len(logits)
        waiting = [(first, list(range(len(batch))), logits[:, np.newaxis])]
        while waiting:
            ran, images, rows = waiting.pop()
            state = self._states[ran]
            known = None if features is None else _part(features, images)
            answers, scores = sessions.judge(state, rows, known)
            found = _shares(rows[:, -1]) if policy.is_of_last(ran) else answers.astype(np.float64)
            ways: dict[str, list[int]] = {}
            for i, row in enumerate(scores.tolist()):
                name = state.next(row, threshold, policy.rule)
                if name is None:
                    odds = confidences[images[i]]
                    outcomes[images[i]] = Outcome(ran[-1], ran, row[0], found[i], None, odds)
                else:
                    ways.setdefault(name, []).append(i)
            for name, going in ways.items():
                on = [images[i] for i in going]
                more = sessions.logits(name, _part(batch, on))[:, np.newaxis]
                waiting.append(((*ran, name), on, np.concatenate([_part(rows, going), more], axis=1)))
        return _in_order(outcomes)


def _part(values: Rows, rows: list[int]) -> Rows:
    """Some rows, ascending; all of them are not copied."""
    whole: Any = values
    return values if len(rows) == len(whole) else cast("Rows", whole[rows])


def _in_order(outcomes: dict[int, Outcome]) -> list[Outcome]:
    return [outcomes[image] for image in range(len(outcomes))]


def _shares(logits: NDArray[np.floating]) -> Floats:
    """Class probabilities ``[N, C]``, of each row as :func:`confidence_of` has them."""
    return shares(confidence(logits)[1])
