"""Policies: from scores or outputs to a model. Pure numpy, no files, no sessions.

The same functions decide on the device and in every simulation of training and benchmarks, so what is
certified is what runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from zoo.card import Name, Sha256
from zoo.errors import PrecisionError

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

Rule = Literal["threshold", "price"]

_TINY = 1e-30  # keeps log-odds finite when all other classes underflow


class InputPolicy(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="input"
):
    """Decide from the input alone, before any model runs.

    With the rule ``threshold`` the cheapest model whose score reaches the threshold answers, else the one
    with the largest score. With the rule ``price`` the one with the largest ``score - threshold * cost_ms``
    does.
    """

    order: Annotated[tuple[Name, ...], Meta(min_length=1)]  # cheapest first; the columns of the scores
    among: tuple[Name, ...] = ()  # the models that may be picked, in the same order; empty: all
    rule: Rule = "threshold"
    costs_ms: tuple[Annotated[float, Meta(ge=0)], ...] = ()  # of the models that may be picked; for ``price``

    def __post_init__(self) -> None:
        if self.rule == "price" and len(self.costs_ms) != len(self.models):
            raise ValueError(f"costs_ms: expected {len(self.models)}, one a model, got {len(self.costs_ms)}")
        if self.among != tuple(name for name in self.order if name in self.among):
            raise ValueError(
                f"among: expected some of {list(self.order)} in that order, got {list(self.among)}"
            )

    @property
    def models(self) -> tuple[str, ...]:
        """Models that the policy may pick, cheapest first."""
        return self.among or self.order


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


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What can be done once the models `ran` have answered, and the graph that tells how promising it is.

    The graph takes ``logits`` float32 ``[N, K, C]`` of the models that ran (and ``features`` float32
    ``[N, F]`` where the policy uses them), and returns ``answer``, class probabilities ``[N, C]``, and
    ``scores`` ``[N, 1 + A]``: the probability that stopping here is right, then for each action the
    probability that the answer after it is right.
    """

    ran: Annotated[tuple[Name, ...], Meta(min_length=1)]
    actions: tuple[Annotated[tuple[Name, ...], Meta(min_length=1)], ...]  # models to run next, in order
    costs_ms: tuple[Annotated[float, Meta(ge=0)], ...]  # of each action, as they were when it was fitted
    file: str  # path of the graph inside the bundle
    sha256: Sha256
    size_bytes: Annotated[int, Meta(ge=1)]

    def __post_init__(self) -> None:
        check_relative(self.file)
        if len(self.costs_ms) != len(self.actions):
            raise ValueError(
                f"costs_ms: expected {len(self.actions)}, one an action, got {len(self.costs_ms)}"
            )

    @property
    def ways_ms(self) -> tuple[float, ...]:
        """Costs of stopping and of each action, as the scores have them."""
        return (0.0, *self.costs_ms)


class StagedPolicy(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="staged"
):
    """Run a first model, then decide with learned scores whether to stop or which models to run next.

    With one action a state this is a learned cascade; with several, the first model is a probe that sends the
    input on. After the first model of an action has run, the next state decides anew.

    With the rule ``threshold`` stopping counts as an action without cost, and the cheapest action whose score
    reaches the threshold is taken, else the one with the largest score. With the rule ``price`` the action
    with the largest ``score - threshold * cost_ms`` is taken: more time has to be worth its price.
    """

    states: Annotated[tuple[State, ...], Meta(min_length=1)]  # the first has one model: it always runs
    rule: Rule
    committee: bool  # answer with the mean probability of all that ran, else with the last model's
    features: tuple[str, ...] = ()  # input features that the states' graphs need, in their order

    def __post_init__(self) -> None:
        known = [state.ran for state in self.states]
        if len(set(known)) != len(known) or len(known[0]) != 1:
            raise ValueError("states: expected distinct ones, the first with one model")
        for state in self.states:
            if state.ran[:1] != known[0]:
                raise ValueError(f"states: expected all to begin with {known[0][0]}, got {list(state.ran)}")
            for action in state.actions:
                if (*state.ran, action[0]) not in known or set(action) & set(state.ran):
                    raise ValueError(f"states: nothing says what to do after {[*state.ran, action[0]]}")

    @property
    def models(self) -> tuple[str, ...]:
        """Models that may run, in the order in which they first appear."""
        return tuple(dict.fromkeys(name for state in self.states for name in state.ran))

    def by_ran(self) -> dict[tuple[str, ...], State]:
        """The states by what has run."""
        return {state.ran: state for state in self.states}


Policy = InputPolicy | CascadePolicy | LookaheadPolicy | StagedPolicy


def check_relative(file: str) -> None:
    """Raise ValueError unless `file` is a relative path that stays inside its folder."""
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts or "\\" in file or ":" in file or not path.parts:
        raise ValueError(f"file must be a relative path inside the bundle, got {file!r}")


def check_precision(precision: float) -> float:
    """`precision` as a float; raises :class:`PrecisionError` unless it lies strictly between 0 and 1."""
    try:
        value = float(precision)
    except (TypeError, ValueError):
        value = float("nan")
    if not 0.0 < value < 1.0:
        raise PrecisionError(
            f"expected a precision strictly between 0 and 1, such as 0.95, got {precision!r}."
        )
    return value


def softmax(logits: NDArray[np.floating]) -> Floats:
    """Class probabilities float64 ``[N, C]`` of logits ``[N, C]``."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares


def top_log_odds(logits: NDArray[np.floating]) -> tuple[Indices, Floats]:
    """Top class and its log-odds ``log(p / (1 - p))``, p the softmax probability.

    Log-odds order answers like the maximum softmax probability does, but do not saturate at 1.

    Parameters
    ----------
    logits
        ``[N, C]`` with C >= 2.

    Returns
    -------
    tuple
        Class indices ``[N]`` and log-odds float64 ``[N]``.
    """
    wide = logits.astype(np.float64)
    top = wide.argmax(axis=1)
    rows = np.arange(len(wide))
    exponentials = np.exp(wide - wide[rows, top][:, np.newaxis])
    exponentials[rows, top] = 0.0
    return top, -np.log(exponentials.sum(axis=1) + _TINY)


def right_probability(stage: Stage, log_odds: Floats) -> Floats:
    """Estimated probability ``[N]`` that the stage's answers are right, from their log-odds ``[N]``."""
    return _sigmoid(stage.scale * log_odds + stage.offset)


def way_probabilities(stage: LookaheadStage, log_odds: Floats) -> Floats:
    """Estimated probabilities ``[N, 1 + A]`` of being right when stopping, and after each way to go on."""
    return _sigmoid(log_odds[:, np.newaxis] * np.array(stage.scales) + np.array(stage.offsets))


def _sigmoid(odds: Floats) -> Floats:
    probabilities: Floats = 1.0 / (1.0 + np.exp(np.clip(-odds, -700.0, 700.0)))
    return probabilities


def log_odds_of(logits: NDArray[np.floating]) -> float:
    """:func:`top_log_odds` of one row ``[C]``, several times as fast."""
    wide = logits.astype(np.float64)
    top = wide.argmax()
    exponentials = np.exp(wide - wide[top])
    exponentials[top] = 0.0
    return -math.log(float(exponentials.sum()) + _TINY)


def right_probability_of(stage: Stage, log_odds: float) -> float:
    """:func:`right_probability` of one number."""
    return _sigmoid_of(stage.scale * log_odds + stage.offset)


def _sigmoid_of(odds: float) -> float:
    return 1.0 / (1.0 + math.exp(min(max(-odds, -700.0), 700.0)))


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


def choose(scores: NDArray[np.floating], threshold: float) -> Indices:
    """The input policy's rule: the first column that reaches `threshold`, else the largest.

    Parameters
    ----------
    scores
        Estimated probabilities of being right ``[N, M]``, columns cheapest model first.

    Returns
    -------
    ndarray
        Column per row, ``[N]``.
    """
    enough = scores >= threshold
    picks: Indices = np.where(enough.any(axis=1), enough.argmax(axis=1), scores.argmax(axis=1))
    return picks


def escalate(probabilities: NDArray[np.floating], threshold: float) -> Indices:
    """The cascade's rule, for all stages at once: the stage ``[N]`` that answers each input.

    Parameters
    ----------
    probabilities
        Estimated probabilities of being right ``[N, K]``, columns in the order of the stages.
    """
    enough = probabilities >= threshold
    last = probabilities.shape[1] - 1
    stages: Indices = np.where(enough.any(axis=1), enough.argmax(axis=1), last)
    return stages


def next_action(
    scores: NDArray[np.floating], costs_ms: Sequence[float], threshold: float, rule: Rule
) -> Indices:
    """Which way to go on: a column of `scores` per row.

    Parameters
    ----------
    scores
        Estimated probabilities of being right ``[N, A]``, cheapest way first.
    costs_ms
        Of the A ways; 0 for stopping.
    rule
        ``threshold`` or ``price``; see :class:`StagedPolicy`.

    Returns
    -------
    ndarray
        ``[N]``.
    """
    if rule == "price":
        picks: Indices = (scores - threshold * np.array(costs_ms)).argmax(axis=1)
        return picks
    return choose(scores, threshold)


def next_action_of(scores: Sequence[float], costs_ms: Sequence[float], threshold: float, rule: Rule) -> int:
    """:func:`next_action` of one row, without numpy's overhead."""
    if rule == "price":
        worth = [score - threshold * cost for score, cost in zip(scores, costs_ms, strict=True)]
        return max(range(len(worth)), key=worth.__getitem__)
    for i, score in enumerate(scores):
        if score >= threshold:
            return i
    return max(range(len(scores)), key=scores.__getitem__)
