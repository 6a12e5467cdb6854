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
from selector.policies.pool import PoolPolicy, PoolStage, Scaling
from selector.policies.rules import Rule
from selector.policies.staged import StagedPolicy, State
from training.fitting.one_file.blocks import Block
from training.fitting.one_file.parts import Parts
from zoo.models.card import match_classes
from zoo.models.model import EMBEDDING

ROOM = 1e-12  # relative, of numbers that are compared with a threshold
_TINY = 1e-30  # see selector.policies.rules
_TOP = 1.0 + 2.0**-51
_LEAST_ODDS = -50.0  # log-odds of top classes lie between minus the log of the number of classes
_MOST_ODDS = 70.0  # and minus the log of the tiny number
_CLEAR = 2.0  # above all scores


class Answer(NamedTuple):
    """Values of one answer: float64 ``[1, C]``, int64 ``[1]``, int64 ``[K]`` and float64 ``[1, 1]``."""

    probabilities: str
    top: str
    path: str  # indices of the models that ran
    probability: str


class _Look(NamedTuple):
    """How sure the logits of a model are."""

    top: str  # int64 [1, 1], the class
    is_top: str  # bool [1, C]
    weights: str  # float64 [1, C], probabilities but for their sum
    others: str  # float64 [1, 1], the sum of the weights of all other classes


class Rules:
    """Writes a policy at a threshold.

    Parameters
    ----------
    inputs
        Inputs of the models → values of the graph, each ``[1, …]``.
    models
        In the file; paths are indices of these.
    """

    def __init__(
        self, bundle: Bundle, parts: Parts, inputs: Mapping[str, str], models: Sequence[str]
    ) -> None:
        self._bundle, self._parts, self._inputs = bundle, parts, inputs
        self._models = list(models)
        self.confidence: str | None = None  # of the first model, once it was placed outside of all branches
        self._watched = False

    def watch(self) -> None:
        """Also give the log-odds of the first model, where every input comes to it."""
        self._watched = True

    def alone(self, block: Block, name: str) -> Answer:
        """One model; nothing estimates how often it is right."""
        look = self._look(block, self._logits(block, name), first=True)
        return self._of_model(block, look, (name,), block.constant(np.full((1, 1), np.nan)))

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
            look = self._look(branch, self._logits(branch, name))
            return self._of_model(branch, look, (name,), branch.add("Identity", probability))

        ways = {name: [i] for i, name in enumerate(policy.models)}
        return _one_of(block, pick, ways, answer)

    def _chain(
        self, block: Block, policy: CascadePolicy | LookaheadPolicy, threshold: float, place: int
    ) -> Answer:
        stage, path = policy.stages[place], policy.models[: place + 1]
        look = self._look(block, self._logits(block, stage.model), first=place == 0)

        def stop(inside: Block) -> Answer:
            odds = _log_odds(inside, look.others)
            scale, offset = (
                (stage.scale, stage.offset)
                if isinstance(stage, Stage)
                else (stage.scales[0], stage.offsets[0])
            )
            return self._of_model(inside, look, path, _sigmoid(inside, _linear(inside, odds, scale, offset)))

        def go_on(inside: Block) -> Answer:
            return self._chain(inside, policy, threshold, place + 1)

        if len(path) == len(policy.stages):
            return stop(block)
        if isinstance(stage, LookaheadStage):
            return _branch(block, _worth_more(block, look.others, stage, threshold), go_on, stop)
        compared = _bound(stage, threshold)
        if isinstance(compared, bool):
            return stop(block) if compared else go_on(block)
        kind, bound = compared
        return _branch(
            block, block.add(kind, look.others, block.constant(np.full((1, 1), bound))), go_on, stop
        )

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
        two = _lead(block, total)
        margin = block.add("Div", two, block.constant(float(count))) if count > 1 else two

        def stop(inside: Block) -> Answer:
            return self._of_pool(inside, stage, total, margin, policy.models[:count])

        def go_on(inside: Block) -> Answer:
            return self._pool(inside, policy, setting, count, total)

        if count == len(policy.stages):
            return stop(block)
        least = setting[place] - ROOM * abs(setting[place])
        if math.isinf(least):
            return stop(block) if least < 0 else go_on(block)
        return _branch(block, block.add("Less", margin, block.constant(np.full((1, 1), least))), go_on, stop)

    def _of_pool(
        self, block: Block, stage: PoolStage, total: str, margin: str, path: Sequence[str]
    ) -> Answer:
        mean = block.add("Div", total, block.constant(float(len(path)))) if len(path) > 1 else total
        odds = _linear(block, margin, stage.slope, stage.offset)
        return self._of_model(block, self._sure(block, mean), path, _sigmoid(block, odds))

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
                return self._of_model(inside, self._look(inside, logits), ran, probability)
            return Answer(
                inside.add("Cast", answers[0], to=TensorProto.DOUBLE),
                inside.add("ArgMax", answers[0], axis=1, keepdims=0),
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
        look = self._sure(block, block.add("Cast", logits, to=TensorProto.DOUBLE))
        if first and self._watched:
            self.confidence = _log_odds(block, look.others)
        return look

    def _sure(self, block: Block, wide: str) -> _Look:
        """How sure float64 logits ``[1, C]`` are, with the arithmetic of ``rules.confidence``."""
        over = block.constant([1])
        top = block.add("ArgMax", wide, axis=1, keepdims=1)
        best = block.add("ReduceMax", wide, over, keepdims=1)
        weights = block.add("Exp", block.add("Sub", wide, best))
        places = block.constant(np.arange(len(self._bundle.classes))[np.newaxis])
        is_top = block.add("Equal", places, top)
        others = block.add("Where", is_top, block.constant(0.0), weights)
        # an infinite logit is no answer either, and a class of no weight would hide it
        nothing = block.add("Mul", block.add("ReduceSum", wide, over, keepdims=1), block.constant(0.0))
        total = block.add("Add", block.add("ReduceSum", others, over, keepdims=1), nothing)
        return _Look(top, is_top, weights, total)

    def _of_model(self, block: Block, look: _Look, path: Sequence[str], probability: str) -> Answer:
        weights = block.add("Where", look.is_top, block.constant(_TOP), look.weights)
        total = block.add("Add", look.others, block.constant(_TOP))
        index = block.add("Squeeze", look.top, block.constant([1]))
        return Answer(block.add("Div", weights, total), index, self._path(block, path), probability)

    def _path(self, block: Block, path: Sequence[str]) -> str:
        return block.add("Identity", block.constant([self._models.index(name) for name in path]))


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


def _worth_more(block: Block, others: str, stage: LookaheadStage, threshold: float) -> str:
    """Whether going on is worth its time."""
    odds = _log_odds(block, others)
    scales, offsets = (np.array([values]) for values in (stage.scales, stage.offsets))
    linear = block.add("Add", block.add("Mul", odds, block.constant(scales)), block.constant(offsets))
    prices = np.array([[threshold * cost for cost in stage.ways_ms]])
    prices[0, 0] -= ROOM
    worth = block.add("Sub", _sigmoid(block, linear), block.constant(prices))
    first = block.add("Slice", worth, *(block.constant([i]) for i in (0, 1, 1)))
    return block.add("Greater", block.add("ReduceMax", worth, block.constant([1]), keepdims=1), first)


def _bound(stage: Stage, threshold: float) -> tuple[str, float] | bool:
    """When a cascade goes on, as a comparison of the other classes' weights; or whether it always stops.

    The weights fall with the log-odds, and the rule is a threshold on these: it is searched with the rule.
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
    room = 1.0 + ROOM if stops_high else 1.0 - ROOM
    return "Greater" if stops_high else "Less", math.exp(-edge) * room - _TINY


def _log_odds(block: Block, others: str) -> str:
    return block.add("Neg", block.add("Log", block.add("Add", others, block.constant(_TINY))))


def _linear(block: Block, value: str, scale: float, offset: float) -> str:
    return block.add("Add", block.add("Mul", value, block.constant(scale)), block.constant(offset))


def _sigmoid(block: Block, odds: str) -> str:
    low, high = block.constant(-700.0), block.constant(700.0)
    exponential = block.add("Exp", block.add("Clip", block.add("Neg", odds), low, high))
    return block.add("Reciprocal", block.add("Add", block.constant(1.0), exponential))


def _lead(block: Block, values: str) -> str:
    """Largest minus second largest ``[1, 1]`` of float64 ``[1, C]``."""
    tops = f"tops/{next(block.numbers)}"
    places = f"{tops}/places"
    block.nodes.append(
        helper.make_node("TopK", [values, block.constant([2])], [tops, places], name=tops, axis=1)
    )
    sides = (block.add("Slice", tops, *(block.constant([i]) for i in (at, at + 1, 1))) for at in (0, 1))
    return block.add("Sub", *sides)


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
