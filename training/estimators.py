"""Estimators of correctness: features → probability, per model, that its answer is right.

Any multi-output scikit-learn classifier or regressor with outputs in [0, 1] fits in; the three here
convert to a few ONNX operators. Probabilities are calibrated by Platt scaling (Platt 1999) on samples that
did not fit them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from zoo.build.quiet import quiet
from zoo.model import open_session

OPSET = 20
_CLIP = 1e-4  # keeps the log-odds of a forest that is certain finite

Floats = NDArray[np.float64]

KINDS: dict[str, Callable[[int], BaseEstimator]] = {
    "logistic": lambda seed: OneVsRestClassifier(LogisticRegression(C=0.3, max_iter=500)),
    "mlp": lambda seed: MLPClassifier(
        (24,),
        alpha=1e-2,
        learning_rate_init=1e-2,  # at the default, early stopping comes before learning on small data
        early_stopping=True,
        max_iter=150,
        n_iter_no_change=8,
        random_state=seed,
    ),
    "forest": lambda seed: RandomForestRegressor(
        50, min_samples_leaf=20, max_features=0.4, max_depth=8, n_jobs=-1, random_state=seed
    ),
}


class CorrectnessEstimator:
    """Probabilities of being right for M models from F features.

    Models that were always right or always wrong in the data, and models right on exactly the same
    samples, are no obstacle: constant columns get their smoothed share instead of an estimator.

    Parameters
    ----------
    kind
        One of :data:`KINDS`.
    seed
        Seed of the estimator.
    """

    def __init__(self, kind: str, *, seed: int = 0) -> None:
        self.kind = kind
        self.seed = seed

    def fit(self, features: NDArray[np.float32], right: NDArray[np.bool_]) -> CorrectnessEstimator:
        """Fit on features ``[n, F]`` and correctness ``[n, M]``."""
        share = right.mean(axis=0)
        self.varies = np.flatnonzero((share > 0) & (share < 1))
        models = right.shape[1]
        # Laplace's rule of succession, so that "always right so far" is not certainty
        constant = (right.sum(axis=0) + 1) / (len(right) + 2)
        self.slope = np.zeros((max(1, len(self.varies)), models))
        self.offset = np.log(constant / (1 - constant))
        self.pipeline: Any = None
        if len(self.varies):
            self.slope[np.arange(len(self.varies)), self.varies] = 1.0
            self.offset[self.varies] = 0.0
            self.pipeline = make_pipeline(StandardScaler(), clone(KINDS[self.kind](self.seed)))
            targets = right[:, self.varies].astype(np.int64)
            with quiet():  # a linear model that did not converge is judged by its quality like any other
                self.pipeline.fit(_rounded(features), targets)
            if isinstance(self.pipeline[-1], RandomForestRegressor):
                self.pipeline[
                    -1
                ].n_jobs = 1  # threads add the trees up in any order: other last digits each time
        return self

    def calibrate(self, features: NDArray[np.float32], right: NDArray[np.bool_]) -> CorrectnessEstimator:
        """Platt scaling on other samples than the ones that were fitted."""
        if self.pipeline is None:
            return self
        odds = self._raw_log_odds(features)
        for column, model in enumerate(self.varies):
            scale, offset = platt(odds[:, column], right[:, model])
            self.slope[column, model], self.offset[model] = scale, offset
        return self

    def scores(self, features: NDArray[np.float32]) -> Floats:
        """Estimated probabilities of being right ``[n, M]``."""
        odds = self._raw_log_odds(features) @ self.slope + self.offset
        scores: Floats = 1 / (1 + np.exp(-odds))
        return scores

    def to_onnx(self, width: int) -> onnx.ModelProto:
        """The graph ``features`` float32 ``[N, F]`` → ``scores`` float32 ``[N, M]``."""
        ends = [
            numpy_helper.from_array(self.slope.astype(np.float32), "slope"),
            numpy_helper.from_array(self.offset.astype(np.float32), "offset"),
        ]
        tail = [
            helper.make_node("Gemm", ["log_odds", "slope", "offset"], ["calibrated"]),
            helper.make_node("Sigmoid", ["calibrated"], ["scores"]),
        ]
        source = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", width])
        result = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", self.slope.shape[1]])
        opsets = {"": OPSET}
        if self.pipeline is None:
            # a product with zeros keeps the batch size without a Shape operator
            ends.append(numpy_helper.from_array(np.zeros((width, 1), np.float32), "nothing"))
            nodes = [helper.make_node("MatMul", ["features", "nothing"], ["log_odds"])]
        else:
            nodes, initializers, opsets = self._convert(width)
            ends += initializers
        graph = helper.make_graph([*nodes, *tail], "scores", [source], [result], ends)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid(*item) for item in opsets.items()]
        )
        model.ir_version = 10
        onnx.checker.check_model(model)
        return model

    def _convert(self, width: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], dict[str, int]]:
        classifier = hasattr(self.pipeline, "predict_proba")
        options = {"zipmap": False} if classifier else None
        with quiet():
            converted = to_onnx(
                self.pipeline,
                np.zeros((1, width), np.float32),
                options=options,
                target_opset={"": OPSET, "ai.onnx.ml": 3},
            )
        probability = converted.graph.output[-1].name
        session = open_session(converted.SerializeToString(), name="scores")
        sample = {session.get_inputs()[0].name: np.zeros((1, width), np.float32)}
        outputs = session.run([probability], sample)[0].size
        wanted, kept = {probability}, []
        for node in reversed(converted.graph.node):
            if wanted & set(node.output):  # the branch of the labels is not needed
                kept.append(node)
                wanted |= set(node.input)
        for node in kept:
            for i, name in enumerate(node.input):
                node.input[i] = "features" if name == converted.graph.input[0].name else name
        constants = [
            numpy_helper.from_array(np.array(value, np.float32), name)
            for name, value in (("low", _CLIP), ("high", 1 - _CLIP), ("one", 1.0))
        ]
        columns = len(self.varies)
        if outputs == 2 * columns:
            # wrong before right: with one target everywhere, with two in skl2onnx's perceptron
            constants.append(numpy_helper.from_array(np.arange(columns, 2 * columns), "last"))
            select = [helper.make_node("Gather", [probability, "last"], ["probability"], axis=1)]
        else:
            constants.append(numpy_helper.from_array(np.array([-1, columns], np.int64), "form"))
            select = [helper.make_node("Reshape", [probability, "form"], ["probability"])]
        odds = [
            *select,
            helper.make_node("Clip", ["probability", "low", "high"], ["clipped"]),
            helper.make_node("Sub", ["one", "clipped"], ["wrong"]),
            helper.make_node("Div", ["clipped", "wrong"], ["odds"]),
            helper.make_node("Log", ["odds"], ["log_odds"]),
        ]
        opsets = {item.domain: item.version for item in converted.opset_import}
        used = [tensor for tensor in converted.graph.initializer if tensor.name in wanted]
        return [*reversed(kept), *odds], [*used, *constants], opsets | {"": OPSET}

    def _raw_log_odds(self, features: NDArray[np.float32]) -> Floats:
        if self.pipeline is None:
            return np.zeros((len(features), 1))
        if hasattr(self.pipeline, "predict_proba"):
            probabilities = np.asarray(self.pipeline.predict_proba(features), dtype=np.float64)
            if len(self.varies) == 1:
                probabilities = probabilities[:, -1:]
        else:
            probabilities = np.asarray(self.pipeline.predict(features), dtype=np.float64)
        clipped = np.clip(probabilities.reshape(len(features), -1), _CLIP, 1 - _CLIP)
        odds: Floats = np.log(clipped / (1 - clipped))
        return odds


def _rounded(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features in steps of a thousandth of their spread, to fit on.

    Between values that differ by rounding alone a tree would split all the same, and torch and ONNX Runtime,
    which round differently, would end in different leaves.
    """
    step = features.std(axis=0, dtype=np.float64) / 1000
    steps = np.where(step > 0, step, 1.0)
    rounded: NDArray[np.float32] = np.where(step > 0, np.rint(features / steps) * steps, features)
    return rounded.astype(np.float32)


def platt(log_odds: Floats, right: NDArray[np.bool_]) -> tuple[float, float]:
    """Scale and offset with ``P(right) = sigmoid(scale * log_odds + offset)``, maximum likelihood.

    With constant correctness, or when more sureness would mean less correctness, the scale is 0 and the
    offset carries the smoothed share: the number says nothing then.
    """
    share = (right.sum() + 1) / (len(right) + 2)
    nothing = 0.0, float(np.log(share / (1 - share)))
    if right.all() or not right.any():
        return nothing
    spread = float(log_odds.std())
    if not spread > 1e-9:
        return nothing
    line = LogisticRegression(C=100.0).fit((log_odds / spread).reshape(-1, 1), right)
    scale = float(line.coef_[0, 0]) / spread
    return (scale, float(line.intercept_[0])) if scale > 0 else nothing
