"""Rules: how a policy goes on from model to model, as operators and nested branches.

Numbers of a rule are float64, as in Python. Other processors round the last bit of an exponential otherwise;
what Python holds to be equal to a threshold must not fall below it then, so stopping has a little room.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from onnx import TensorProto, helper

from selector.bundle.bundle import Bundle
from selector.policies.cascade import CascadePolicy, LookaheadPolicy, LookaheadStage, Stage
from selector.policies.input import InputPolicy
from selector.policies.pool import PoolPolicy, Scaling
from selector.policies.rules import Rule
from selector.policies.staged import StagedPolicy, State
from training.fitting.one_file.blocks import Block
from training.fitting.one_file.parts import Parts
from zoo.models.card import match_classes
from zoo.models.model import EMBEDDING

ROOM = 1e-12  # relative, of numbers that are compared with a threshold
_TINY = 1e-30  # see selector.policies.rules
_LEAST_ODDS = -50.0  # log-odds of top classes lie between minus the log of the number of classes
_MOST_ODDS = 70.0  # and minus the log of the tiny number
_CLEAR = 2.0  # above all scores


class Answer(NamedTuple):
    """Values of one answer: float64 ``[1, C]``, int64 ``[1, 1]``, strings ``[K]`` and float64 ``[1, 1]``."""

    probabilities: str
    top: str
    path: str  # names of the models that ran
    probability: str


class _Look(NamedTuple):
    """How sure the logits of a model are."""

    wide: str  # float64 [1, C], the logits
    top: str  # int64 [1, 1], the class
    odds: str  # float64 [1, 1], log-odds of the class; NaN where a logit is not finite


class Rules:
    """Writes a policy at a threshold.

    Parameters
    ----------
    inputs
        Inputs of the models → values of the graph, each ``[1, …]``.
    """

    def __init__(self, bundle: Bundle, parts: Parts, inputs: Mapping[str, str]) -> None:
        self._bundle, self._parts, self._inputs = bundle, parts, inputs
        self.confidence: str | None = None  # of the first model, once it was placed outside of all branches
        self._watched = False

    def watch(self) -> None:
        """Also give the log-odds of the first model, where every input comes to it."""
        self._watched = True

    def alone(self, block: Block, name: str) -> Answer:
        """One model; nothing estimates how often it is right."""
        logits = self._logits(block, name)
        if self._watched:
            self._look(block, logits, first=True)
        wide = block.add("Cast", logits, to=TensorProto.DOUBLE)
        zero = _unless_infinite(block, wide, block.constant(np.zeros((1, 1))), len(self._bundle.classes))
        sure = block.add("Add", wide, zero)
        top = block.add("ArgMax", wide, axis=1, keepdims=1)
        return self._of_model(block, sure, top, (name,), block.constant(np.full((1, 1), np.nan)))

    def follow(self, block: Block, policy: object, threshold: float) -> Answer:
        """A whole policy."""
        if isinstance(policy, InputPolicy):
            return self._input(block, policy, threshold)
        if isinstance(policy, PoolPolicy):
            return self._pool(block, policy, policy.setting(threshold), 0, "")
        if isinstance(policy, StagedPolicy):
            features = self._features(block) if policy.features else None
            states = {state.ran: state for state in policy.states}
            return self._staged(block, policy, states, policy.states[0].ran, [], features, threshold)
        assert isinstance(policy, CascadePolicy | LookaheadPolicy)
        return self._chain(block, policy, threshold, 0)

    def _input(self, block: Block, policy: InputPolicy, threshold: float) -> Answer:
        selector = self._bundle.selector
        assert selector is not None
        graph = self._parts.graphs[selector.file]
        (scores,) = block.place(graph, self._inputs, ["scores"])
        columns = [policy.order.index(name) for name in policy.models]
        if columns != list(range(len(policy.order))):
            scores = block.add("Gather", scores, block.constant(columns), axis=1)
        wide = block.add("Cast", scores, to=TensorProto.DOUBLE)
        pick = _pick(block, wide, policy.costs_ms, threshold, policy.rule)
        probability = block.add("GatherElements", wide, pick, axis=1)

        def answer(branch: Block, name: str) -> Answer:
            return self._of_logits(branch, self._logits(branch, name), (name,), probability)

        ways = {name: [i] for i, name in enumerate(policy.models)}
        return _one_of(block, pick, ways, answer)

    def _chain(
        self, block: Block, policy: CascadePolicy | LookaheadPolicy, threshold: float, place: int
    ) -> Answer:
        stage, path = policy.stages[place], policy.models[: place + 1]
        look = self._look(block, self._logits(block, stage.model), first=place == 0)

        def stop(inside: Block) -> Answer:
            scale, offset = (
                (stage.scale, stage.offset)
                if isinstance(stage, Stage)
                else (stage.scales[0], stage.offsets[0])
            )
            probability = inside.add("Sigmoid", _linear(inside, look.odds, scale, offset))
            top = inside.add("Identity", look.top)  # a branch gives what it made
            return self._of_model(inside, look.wide, top, path, probability)

        def go_on(inside: Block) -> Answer:
            return self._chain(inside, policy, threshold, place + 1)

        if len(path) == len(policy.stages):
            return stop(block)
        if isinstance(stage, LookaheadStage):
            return _branch(block, _worth_more(block, look.odds, stage, threshold), go_on, stop)
        compared = _bound(stage, threshold)
        if isinstance(compared, bool):
            return stop(block) if compared else go_on(block)
        kind, bound = compared
        return _branch(block, block.add(kind, look.odds, block.constant(np.full((1, 1), bound))), go_on, stop)

    def _pool(
        self, block: Block, policy: PoolPolicy, setting: Sequence[float], place: int, before: str
    ) -> Answer:
        stage, count = policy.stages[place], place + 1
        scaling = Scaling.of(stage)
        outputs = self._outputs(block, stage.model, embedding=scaling.on_embedding)
        if place == 0 and self._watched:
            self._look(block, outputs[0], first=True)
        total = _scaled(block, scaling, outputs)
        if before:
            total = block.add("Add", before, total)
        lead = _lead(block, total, len(self._bundle.classes))  # of the sum; margins are of the mean

        def stop(inside: Block) -> Answer:
            mean = inside.add("Div", total, inside.constant(float(count))) if count > 1 else total
            top = inside.add("ArgMax", total, axis=1, keepdims=1)
            odds = _linear(inside, lead, stage.slope / count, stage.offset)
            return self._of_model(inside, mean, top, policy.models[:count], inside.add("Sigmoid", odds))

        def go_on(inside: Block) -> Answer:
            return self._pool(inside, policy, setting, count, total)

        if count == len(policy.stages):
            return stop(block)
        least = count * (setting[place] - ROOM * abs(setting[place]))
        if math.isinf(least):
            return stop(block) if least < 0 else go_on(block)
        return _branch(block, block.add("Less", lead, block.constant(np.full((1, 1), least))), go_on, stop)

    def _staged(
        self,
        block: Block,
        policy: StagedPolicy,
        states: Mapping[tuple[str, ...], State],
        ran: tuple[str, ...],
        before: list[str],
        features: str | None,
        threshold: float,
    ) -> Answer:
        state, classes = states[ran], len(self._bundle.classes)
        logits = self._logits(block, ran[-1])
        if len(ran) == 1 and self._watched:
            self._look(block, logits, first=True)
        # Expand: after Unsqueeze, an 8-bit model before a branch ends the process that loads the file
        each = [*before, block.add("Expand", logits, block.constant([1, 1, classes]))]
        together = block.add("Concat", *each, axis=1) if len(each) > 1 else each[0]
        inputs = {"logits": together} | ({} if features is None else {"features": features})
        of_last = policy.is_of_last(ran)
        wanted = ["scores"] if of_last else ["scores", "answer"]
        scores, *answers = block.place(self._parts.graphs[state.file], inputs, wanted)
        wide = block.add("Cast", scores, to=TensorProto.DOUBLE)

        def stop(inside: Block) -> Answer:
            probability = inside.add("Slice", wide, *(inside.constant([i]) for i in (0, 1, 1)))
            if of_last:
                return self._of_logits(inside, logits, ran, probability)
            return Answer(
                inside.add("Cast", answers[0], to=TensorProto.DOUBLE),
                inside.add("ArgMax", answers[0], axis=1, keepdims=1),
                self._path(inside, ran),
                probability,
            )

        if not state.actions:
            return stop(block)
        pick = _pick(block, wide, state.ways_ms, threshold, policy.rule)
        ways: dict[str, list[int]] = {}
        for i, action in enumerate(state.actions):
            ways.setdefault(action[0], []).append(i + 1)

        def go_to(inside: Block, name: str) -> Answer:
            return self._staged(inside, policy, states, (*ran, name), each, features, threshold)

        more = block.add("Greater", pick, block.constant(np.zeros((1, 1), np.int64)))
        return _branch(block, more, lambda inside: _one_of(inside, pick, ways, go_to), stop)

    def _features(self, block: Block) -> str:
        selector = self._bundle.selector
        assert selector is not None
        graph = self._parts.graphs[selector.file]
        return block.place(graph, self._inputs, ["features"])[0]

    def _logits(self, block: Block, name: str) -> str:
        return self._outputs(block, name, embedding=False)[0]

    def _outputs(self, block: Block, name: str, *, embedding: bool) -> list[str]:
        """Logits in the order of the bundle's classes, and the embedding where it is wanted."""
        wanted = ["logits", EMBEDDING] if embedding else ["logits"]
        logits, *rest = block.place(self._parts.graphs[name], self._inputs, wanted)
        classes, own = self._bundle.classes, self._bundle.card(name).classes
        if own != classes:
            logits = block.add(
                "Gather", logits, block.constant(match_classes(classes, own, model=name)), axis=1
            )
        return [logits, *rest]

    def _look(self, block: Block, logits: str, *, first: bool = False) -> _Look:
        """How sure logits ``[1, C]`` are, as ``rules.confidence`` has it."""
        wide = block.add("Cast", logits, to=TensorProto.DOUBLE)
        top = block.add("ArgMax", wide, axis=1, keepdims=1)
        best = block.add("GatherElements", wide, top, axis=1)
        # what the top class is to the others, once it weighs next to nothing: reductions would take longer
        least = block.add("Add", best, block.constant(math.log(_TINY)))
        others = block.add("ScatterElements", wide, top, least, axis=1)
        below = block.add("GatherElements", block.add("LogSoftmax", others, axis=1), top, axis=1)
        odds = block.add("Sub", below, block.constant(math.log(_TINY)))
        odds = _unless_infinite(block, wide, odds, len(self._bundle.classes))
        if first and self._watched:
            self.confidence = odds
        return _Look(wide, top, odds)

    def _of_logits(self, block: Block, logits: str, path: Sequence[str], probability: str) -> Answer:
        """The answer of one model, to which something else gave its `probability`."""
        wide = block.add("Cast", logits, to=TensorProto.DOUBLE)
        top = block.add("ArgMax", wide, axis=1, keepdims=1)
        sure = _unless_infinite(block, wide, probability, len(self._bundle.classes))
        return self._of_model(block, wide, top, path, sure)

    def _of_model(self, block: Block, wide: str, top: str, path: Sequence[str], probability: str) -> Answer:
        return Answer(block.add("Softmax", wide, axis=1), top, self._path(block, path), probability)

    def _path(self, block: Block, path: Sequence[str]) -> str:
        return block.add("Identity", block.constant(list(path)))


Written = Callable[[Block], Answer]


def _branch(block: Block, condition: str, then: Written, otherwise: Written) -> Answer:
    branches = [(inside := block.branch(), write(inside)) for write in (then, otherwise)]
    return Answer(*block.choose(condition, *branches))


def _one_of(
    block: Block, pick: str, ways: Mapping[str, Sequence[int]], write: Callable[[Block, str], Answer]
) -> Answer:
    """One branch a name, each for some of the numbers that `pick` may be; the last for all others."""
    (name, numbers), *rest = ways.items()
    if not rest:
        return write(block, name)
    conditions = [block.add("Equal", pick, block.constant(np.full((1, 1), i, np.int64))) for i in numbers]
    condition = conditions[0]
    for other in conditions[1:]:
        condition = block.add("Or", condition, other)
    return _branch(
        block,
        condition,
        lambda inside: write(inside, name),
        lambda inside: _one_of(inside, pick, dict(rest), write),
    )


def _pick(block: Block, scores: str, costs_ms: Sequence[float], threshold: float, rule: Rule) -> str:
    """The way int64 ``[1, 1]`` that ``rules.next_action_of`` takes, from scores float64 ``[1, A]``."""
    if rule == "price":
        prices = np.array([[threshold * cost for cost in costs_ms]])
        value = block.add("Sub", scores, block.constant(prices))
    else:  # the first that is enough is the first of the largest
        enough = block.add("GreaterOrEqual", scores, block.constant(threshold))
        value = block.add("Where", enough, block.constant(_CLEAR), scores)
    return block.add("ArgMax", value, axis=1, keepdims=1)


def _worth_more(block: Block, odds: str, stage: LookaheadStage, threshold: float) -> str:
    """Whether going on is worth its time."""
    scales, offsets = (np.array([values]) for values in (stage.scales, stage.offsets))
    linear = block.add("Add", block.add("Mul", odds, block.constant(scales)), block.constant(offsets))
    prices = np.array([[threshold * cost for cost in stage.ways_ms]])
    prices[0, 0] -= ROOM
    worth = block.add("Sub", block.add("Sigmoid", linear), block.constant(prices))
    best = block.add("ArgMax", worth, axis=1, keepdims=1)
    return block.add("Greater", best, block.constant(np.zeros((1, 1), np.int64)))


def _bound(stage: Stage, threshold: float) -> tuple[str, float] | bool:
    """When a cascade goes on, as a comparison of log-odds; or whether it always stops.

    The rule is a threshold on them: it is searched with the rule.
    """
    low, high = _LEAST_ODDS, _MOST_ODDS
    stops_low, stops_high = (stage.judge(odds, threshold)[1] for odds in (low, high))
    if stops_low == stops_high:
        return stops_low
    while low < (middle := (low + high) / 2) < high:
        if stage.judge(middle, threshold)[1] == stops_low:
            low = middle
        else:
            high = middle
    edge = high if stops_high else low  # the last log-odds that stop
    return ("Less", edge - ROOM) if stops_high else ("Greater", edge + ROOM)


def _linear(block: Block, value: str, scale: float, offset: float) -> str:
    return block.add("Add", block.add("Mul", value, block.constant(scale)), block.constant(offset))


def _unless_infinite(block: Block, logits: str, value: str, classes: int) -> str:
    """`value` ``[1, 1]``, or NaN where one of the float64 logits ``[1, C]`` is not finite.

    An infinite logit is no answer, and a class of no weight would hide it.
    """
    return block.add("Gemm", logits, block.constant(np.zeros((classes, 1))), value)


def _lead(block: Block, values: str, classes: int) -> str:
    """Largest minus second largest ``[1, 1]`` of float64 ``[1, C]``; NaN where one is not finite."""
    tops = f"tops/{next(block.numbers)}"
    places = f"{tops}/places"
    block.nodes.append(
        helper.make_node("TopK", [values, block.constant([2])], [tops, places], name=tops, axis=1)
    )
    lead = block.add("MatMul", tops, block.constant(np.array([[1.0], [-1.0]])))
    return _unless_infinite(block, values, lead, classes)


def _scaled(block: Block, scaling: Scaling, outputs: Sequence[str]) -> str:
    """Recalibrated logits float64 ``[1, C]`` of logits, and of the embedding where there is one."""
    wide = [block.add("Cast", value, to=TensorProto.DOUBLE) for value in outputs]
    scaled = block.add("Mul", wide[0], block.constant(scaling.scale)) if scaling.scale != 1.0 else wide[0]
    if scaling.bias is not None:
        scaled = block.add("Add", scaled, block.constant(scaling.bias[np.newaxis]))
    if scaling.weights is not None:
        product = block.add("MatMul", wide[-1], block.constant(scaling.weights))
        scaled = block.add("Add", scaled, product)
    return scaled
