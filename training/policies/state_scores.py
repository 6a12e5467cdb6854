"""Stage estimators: from what some models answered to the probability that stopping, or going on, is right.

The statistics of a stage are few and cheap: how sure the answer is, which class it names, how its probability
is spread over the classes, and how much each model that ran believes in it. The class matters most
where data differ from what the models were trained on: some answers are then given too often.
Each probability is a logistic regression on these statistics, so a stage is a dozen tiny ONNX operators.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from selector.policies.cascade import Stage
from selector.policies.pool import Scaling, margins
from selector.policies.rules import Floats, confidence, sigmoid, softmax
from training.calibration.scaling import has_matrix
from training.features.operators import OperatorList
from training.policies.logistic import fit_logistic, log_odds
from zoo.models.latency import LatencyTable
from zoo.models.session import open_session
from zoo.models.timing import time_interleaved
from zoo.models.zoo import Zoo

MAX_CLASSES = 100  # beyond, single classes are too rare in the samples to be worth a weight
UNDISTURBED_QUANTILE = 0.25  # quantile of times that other programs on the machine hardly touch
_MAX_SUMS = 2**12  # numbers of a matrix that adds up probabilities; a device fetches them with every state
_MIN_PROBABILITY = 1e-4  # of a probability, before its logarithm
_TINY = 1e-12


@dataclass(frozen=True)
class StageEstimator:
    """Weights of one stage: probability of being right when stopping, then after each action.

    Parameters
    ----------
    classes, models
        Number of classes and of models that ran.
    committee
        Whether the answer is the mean of their probabilities, else the last one's.
    weights
        ``[d + 1, 1 + A]``, intercepts last; rows in the order of :func:`stage_inputs`.
    features
        Number of input features.
    """

    classes: int
    models: int
    committee: bool
    weights: Floats
    features: int = 0

    def scores(self, logits: NDArray[np.floating], features: Floats | None = None) -> Floats:
        """Probabilities ``[n, 1 + A]`` from logits ``[n, K, C]``; the reference for :meth:`to_onnx`."""
        return sigmoid(log_odds(self.weights, stage_inputs(logits, features, committee=self.committee)))

    def to_onnx(self) -> bytes:
        """The graph ``logits`` (and ``features``) → ``answer``, ``scores``; see :class:`.State`."""
        if self.classes == 1:
            return self._of_numbers()
        g = OperatorList()
        over_classes = g.constant([1])
        each = g.add("Softmax", "logits", axis=2)
        if self.models == 1:
            answer = g.add("Flatten", each)
        elif self.committee:
            answer = g.add("ReduceMean", each, over_classes, keepdims=0)
        else:
            answer = g.add("Gather", each, g.constant(self.models - 1), axis=1)
        # 1 for the top class itself, not for all that equal it: of equals the first, as argmax has it
        is_top = g.add("Hardmax", answer, axis=1)
        # All logarithms at once; the difference of the first two, the log-odds, is left to the weights.
        sums = self._sums_of_shares()
        floors = np.full((1, sums.shape[1]), _MIN_PROBABILITY)
        floors[:, :2] = _TINY
        odds = self.weights[:1]
        weights = [odds, -odds, self.weights[1:-1]]
        if sums.size <= _MAX_SUMS:  # a product takes less time than one operator for each kind of sum
            flat = answer if self.models == 1 else g.add("Flatten", each)
            of_each = is_top if self.models == 1 else g.add("Concat", *[is_top] * self.models, axis=1)
            tops = g.add("Mul", flat, of_each)
            # what is below the top is added up without it: the difference of two sums would have no digits
            shares = g.add("Concat", tops, g.add("Sub", flat, tops), axis=1)
            values = g.add("Gemm", shares, g.constant(sums), g.constant(floors))
        else:
            below = g.add("Sub", answer, g.add("Mul", answer, is_top))
            logged = [
                g.add("ReduceMax", answer, over_classes, keepdims=1),
                g.add("ReduceSum", below, over_classes, keepdims=1),
            ]
            if self.models > 1:
                tops = g.add("Mul", g.add("Unsqueeze", is_top, over_classes), each)
                logged.append(g.add("ReduceSum", tops, g.constant([2]), keepdims=0))
            if self.classes <= MAX_CLASSES:
                logged.append(answer)
            values = g.add("Add", g.add("Concat", *logged, axis=1), g.constant(floors))
        parts = [g.add("Log", values)]
        if self.classes <= MAX_CLASSES:
            parts.append(is_top)
        return self._finished(g, parts, answer, weights)

    def _sums_of_shares(self) -> Floats:
        """What is a sum of what models give to classes ``[2 * K * C, S]``: to the top, then to the others.

        Columns: the answer's top class, all others; for several models the top class of each; for up to 100
        classes every class of the answer.
        """
        of_answer = np.full(self.models, 1 / self.models) if self.committee else np.eye(self.models)[-1]
        each = np.ones(self.classes)
        columns = [np.kron(place, np.kron(of_answer, each))[:, np.newaxis] for place in np.eye(2)]
        if self.models > 1:
            tops = np.kron(np.eye(self.models), each[:, np.newaxis])
            columns.append(np.concatenate([tops, np.zeros_like(tops)]))
        if self.classes <= MAX_CLASSES:
            of_class = np.kron(of_answer[:, np.newaxis], np.eye(self.classes))
            columns.append(np.concatenate([of_class, of_class]))
        return np.concatenate(columns, axis=1)

    def _of_numbers(self) -> bytes:
        """The graph for models that told one number each; what is answered is no affair of it."""
        g = OperatorList()
        parts = [g.add("Squeeze", "logits", g.constant([2]))]
        if self.features:
            each = g.add("Mul", "logits", g.add("Unsqueeze", "features", g.constant([1])))
            parts.append(g.add("Reshape", each, g.constant([0, -1])))
        answer = g.add("Gather", "logits", g.constant(self.models - 1), axis=1)
        return self._finished(g, parts, answer, [self.weights[:-1]])

    def _finished(self, g: OperatorList, parts: list[str], answer: str, weights: list[Floats]) -> bytes:
        """The graph that scores what is known, `parts` and the features, with the `weights` of these."""
        sources = [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", self.models, self.classes])
        ]
        if self.features:
            sources.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", self.features]))
            parts = [*parts, "features"]
        known = g.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
        odds_of = g.add("Gemm", known, g.constant(np.concatenate(weights)), g.constant(self.weights[-1]))
        outputs = {
            "answer": (answer, self.classes),
            "scores": (g.add("Sigmoid", odds_of), self.weights.shape[1]),
        }
        content: bytes = g.to_onnx(sources, outputs).SerializeToString(deterministic=True)
        return content


def answers(logits: NDArray[np.floating], *, committee: bool) -> Floats:
    """Class probabilities ``[n, C]`` of the answer of models with logits ``[n, K, C]``."""
    count, models, classes = logits.shape
    if not committee:
        return softmax(logits[:, -1])
    shares: Floats = softmax(logits.reshape(-1, classes)).reshape(count, models, classes).mean(axis=1)
    return shares


def fit_stage(
    logits: NDArray[np.floating],
    targets: NDArray[np.bool_],
    *,
    committee: bool,
    features: Floats | None = None,
    penalty: float = 10.0,
) -> StageEstimator:
    """Fit on logits ``[n, K, C]`` of the models that ran.

    Parameters
    ----------
    targets
        ``[n, 1 + A]``: right when stopping, right after each action.
    features
        Input features ``[n, F]`` that are known as well.
    penalty
        See :func:`training.policies.logistic.fit_logistic`.
    """
    weights = fit_logistic(stage_inputs(logits, features, committee=committee), targets, penalty=penalty)
    width = 0 if features is None else features.shape[1]
    return StageEstimator(logits.shape[2], logits.shape[1], committee, weights, width)


def stage_inputs(logits: NDArray[np.floating], features: Floats | None, *, committee: bool) -> Floats:
    """What a stage decides by: ``[n, d]`` of logits ``[n, K, C]`` and input features ``[n, F]``.

    Where models told one number each (C = 1), what it is worth may depend on the input: products with the
    features stand between both.
    """
    known = statistics(logits, committee=committee)
    if features is None:
        return known
    wide = features.astype(np.float64)
    parts = [known, wide]
    if logits.shape[2] == 1:
        parts.insert(1, (known[:, :, np.newaxis] * wide[:, np.newaxis]).reshape(len(known), -1))
    return np.concatenate(parts, axis=1)


def statistics(logits: NDArray[np.floating], *, committee: bool) -> Floats:
    """What a stage knows: ``[n, d]`` of logits ``[n, K, C]``.

    Columns: log-odds of the answer's top class; for several models, log of the probability that each gives
    to it; for up to 100 classes the log of every class's probability, then which class is on top. Of models
    that told one number each (C = 1), how sure they are, these numbers.
    """
    if logits.shape[2] == 1:
        return logits[:, :, 0].astype(np.float64)
    answer = answers(logits, committee=committee)
    rows = np.arange(len(answer))
    top = answer.argmax(axis=1)
    best = answer[rows, top]
    others = answer.copy()
    others[rows, top] = 0.0
    parts = [(np.log(best + _TINY) - np.log(others.sum(axis=1) + _TINY))[:, np.newaxis]]
    if logits.shape[1] > 1:
        each = softmax(logits.reshape(-1, logits.shape[2])).reshape(logits.shape)
        parts.append(np.log(each[rows, :, top] + _MIN_PROBABILITY))
    if answer.shape[1] <= MAX_CLASSES:
        parts += [np.log(answer + _MIN_PROBABILITY), top[:, np.newaxis] == np.arange(answer.shape[1])]
    return np.concatenate(parts, axis=1)


def decision_costs_ms(zoo: Zoo, table: LatencyTable, classes: int, *, runs: int = 300) -> tuple[float, float]:
    """Milliseconds of deciding after a model ran, on the device of a latency table.

    They are measured here, interleaved with the cheapest model of the zoo, and scaled by that model's time in
    the table: the ratio carries over to another device far better than the time does.

    Returns
    -------
    tuple
        Of a stage's graph; and of deciding without one, by a model's raw confidence or by a pool of
        recalibrated logits, whichever takes longer.
    """
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1, 2, classes)).astype(np.float32)
    width = statistics(logits, committee=True).shape[1]
    estimator = StageEstimator(classes, 2, True, np.zeros((width + 1, 2)))
    graph = open_session(estimator.to_onnx(), name="stage")
    any_stage = Stage(model="any", scale=1.0, offset=0.0)
    weights = np.zeros((classes, classes)) if has_matrix(classes) else None
    scaling, pool = Scaling(1.0, np.zeros(classes), weights), np.zeros((1, classes))
    cheapest = min(zoo.names, key=lambda name: table.models[name].latency.p50_ms)
    model = zoo.model(cheapest, threads=table.threads)
    times = time_interleaved(
        {
            "stage": lambda _: graph.run(["answer", "scores"], {"logits": logits}),
            "confidence": lambda _: any_stage.judge(confidence(logits[:, 0])[0][0], 0.5),
            "pool": lambda _: margins(pool + scaling(logits[:, 0]), 2)[0] >= 0.5,
            "model": model.logits,
        },
        [zoo.kind.one(zoo.kind.random(table.image, rng)) for _ in range(8)],
        runs=runs,
    )
    quick = {name: float(np.quantile(some.kept_ms, UNDISTURBED_QUANTILE)) for name, some in times.items()}
    scale = table.models[cheapest].latency.p50_ms / quick["model"]
    return quick["stage"] * scale, max(quick["confidence"], quick["pool"]) * scale
