"""Estimators of correctness: features → probability, per model, that its answer is right.

Any multi-output scikit-learn classifier or regressor with outputs in [0, 1] fits in; those here
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
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from selector.policies.rules import Floats
from training.policies.neighbours import Neighbours
from training.policies.platt import platt
from zoo.models.session import open_session
from zoo.quiet import quiet

OPSET = 20
_CLIP = 1e-4  # keeps the log-odds of a forest that is certain finite


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
    "deep forest": lambda seed: RandomForestRegressor(
        80, min_samples_leaf=5, max_features=0.4, max_depth=14, n_jobs=-1, random_state=seed
    ),
    "20 neighbours": lambda seed: Neighbours(20, seed=seed),
    "40 neighbours": lambda seed: Neighbours(40, seed=seed),
    "80 neighbours": lambda seed: Neighbours(80, seed=seed),
}
SMALL = ("logistic", "mlp", "forest")  # of a few microseconds, simplest first


class CorrectnessEstimator(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Probabilities of being right for M models from F features.

    A scikit-learn classifier for targets of two classes ``[n]`` or indicators ``[n, M]``. Models that were
    always right or always wrong in the data, and models right on exactly the same samples, are no obstacle:
    constant columns get their smoothed share instead of an estimator.

    Parameters
    ----------
    kind
        One of :data:`KINDS`.
    seed
        Seed of the estimator.

    Attributes
    ----------
    classes_
        The two classes (one, where the target is constant), or 0 and 1 for indicators.
    """

    def __init__(self, kind: str = "logistic", *, seed: int = 0) -> None:
        self.kind = kind
        self.seed = seed

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> CorrectnessEstimator:
        """Fit on features ``[n, F]`` and correctness ``[n, M]``, or a target of two classes ``[n]``.

        Raises
        ------
        ValueError
            When there is no sample, a number is NaN or infinite, or there are more than two classes.
        """
        if self.kind not in KINDS:
            raise ValueError(f"expected a kind among {', '.join(KINDS)}, got {self.kind!r}.")
        features, target = validate_data(self, X, y, dtype=np.float32, multi_output=True)
        check_classification_targets(target)
        self.indicator_ = target.ndim == 2
        self.classes_ = np.array([0, 1]) if self.indicator_ else np.unique(target)
        if len(self.classes_) > 2:
            raise ValueError(
                "Only binary classification is supported. The type of the target is "
                f"{type_of_target(target)}: expected two classes, got {len(self.classes_)}."
            )
        right = self._right(target)
        share = right.mean(axis=0)
        self.varies_ = np.flatnonzero((share > 0) & (share < 1))
        models = right.shape[1]
        # Laplace's rule of succession, so that "always right so far" is not certainty
        constant = (right.sum(axis=0) + 1) / (len(right) + 2)
        self.slope_ = np.zeros((max(1, len(self.varies_)), models))
        self.offset_ = np.log(constant / (1 - constant))
        self.pipeline_: Any = None
        if len(self.varies_):
            self.slope_[np.arange(len(self.varies_)), self.varies_] = 1.0
            self.offset_[self.varies_] = 0.0
            estimator = clone(KINDS[self.kind](self.seed))
            targets = right[:, self.varies_].astype(np.int64)
            if isinstance(estimator, MLPClassifier) and not _can_hold_out(targets):
                estimator.set_params(early_stopping=False)
            forest = isinstance(estimator, RandomForestRegressor)
            # trees need no scaling, which ONNX Runtime rounds otherwise than scikit-learn
            unscaled = forest or isinstance(estimator, Neighbours)
            self.pipeline_ = make_pipeline(*([] if unscaled else [StandardScaler()]), estimator)
            with quiet():  # a linear model that did not converge is judged by its quality like any other
                self.pipeline_.fit(_rounded(features), targets)
            if forest:
                for tree in self.pipeline_[-1].estimators_:
                    tree.tree_.threshold[:] = _float32_below(tree.tree_.threshold)
                # threads add the trees up in any order: other last digits each time
                self.pipeline_[-1].n_jobs = 1
        return self

    def calibrate(self, X: NDArray[Any], y: NDArray[Any]) -> CorrectnessEstimator:
        """Platt scaling on other samples than the ones that were fitted."""
        check_is_fitted(self)
        if self.pipeline_ is None:
            return self
        right = self._right(np.asarray(y))
        odds = self._raw_log_odds(X)
        for column, model in enumerate(self.varies_):
            scale, offset = platt(odds[:, column], right[:, model])
            self.slope_[column, model], self.offset_[model] = scale, offset
        return self

    def recalibrate(self, scale: Floats, offset: Floats) -> CorrectnessEstimator:
        """Take other lines ``scale * log-odds + offset`` ``[M]`` where correctness varies: found out of fold,
        say."""
        check_is_fitted(self)
        for column, model in enumerate(self.varies_):
            self.slope_[column, model], self.offset_[model] = scale[model], offset[model]
        return self

    def scores(self, X: NDArray[Any]) -> Floats:
        """Estimated probabilities of being right ``[n, M]``."""
        odds = self._raw_log_odds(X) @ self.slope_ + self.offset_
        scores: Floats = 1 / (1 + np.exp(-odds))
        return scores

    def predict_proba(self, X: NDArray[Any]) -> Floats:
        """Probabilities of the classes ``[n, 2]``, or for indicators :meth:`scores`."""
        check_is_fitted(self)
        scores = self.scores(X)
        if self.indicator_:
            return scores
        if len(self.classes_) == 1:
            return np.ones((len(scores), 1))
        return np.concatenate([1 - scores, scores], axis=1)

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """The more probable class ``[n]``, or indicators ``[n, M]`` of what is more likely right than not."""
        probabilities = self.predict_proba(X)
        if self.indicator_:
            return (probabilities >= 0.5).astype(np.int64)
        predicted: NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return predicted

    def to_onnx(self, width: int) -> onnx.ModelProto:
        """The graph ``features`` float32 ``[N, F]`` → ``scores`` float32 ``[N, M]``."""
        near = self.pipeline_ is not None and isinstance(self.pipeline_[-1], Neighbours)
        # logarithms of right and of wrong: their difference is part of the product
        slope = np.append(self.slope_, -self.slope_, axis=0) if near else self.slope_
        ends = _constants(slope=slope, offset=self.offset_)
        tail = [
            helper.make_node("Gemm", ["logs" if near else "log_odds", "slope", "offset"], ["calibrated"]),
            helper.make_node("Sigmoid", ["calibrated"], ["scores"]),
        ]
        source = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", width])
        result = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", self.slope_.shape[1]])
        opsets = {"": OPSET}
        if self.pipeline_ is None:
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
        estimator = self.pipeline_[-1]
        if isinstance(estimator, OneVsRestClassifier):
            return self._linear()
        if isinstance(estimator, Neighbours):
            return *estimator.to_nodes(), {"": OPSET}
        nodes, constants, opsets = self._converted(width)
        constants += _constants(low=_CLIP, high=1 - _CLIP, one=1.0)
        odds = [
            helper.make_node("Clip", ["probability", "low", "high"], ["clipped"]),
            helper.make_node("Sub", ["one", "clipped"], ["wrong"]),
            helper.make_node("Div", ["clipped", "wrong"], ["odds"]),
            helper.make_node("Log", ["odds"], ["log_odds"]),
        ]
        return [*nodes, *odds], constants, opsets

    def _linear(self) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], dict[str, int]]:
        """Logistic regressions as one product, whose sums are log-odds already."""
        scaler, models = self.pipeline_[0], self.pipeline_[-1].estimators_
        most = np.log((1 - _CLIP) / _CLIP)
        constants = _constants(
            mean=scaler.mean_,
            spread=scaler.scale_,
            weights=np.concatenate([model.coef_ for model in models]).T,
            intercepts=np.concatenate([model.intercept_ for model in models]),
            low=-most,
            high=most,
        )
        nodes = [
            helper.make_node("Sub", ["features", "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "spread"], ["standard"]),
            helper.make_node("Gemm", ["standard", "weights", "intercepts"], ["sums"]),
            helper.make_node("Clip", ["sums", "low", "high"], ["log_odds"]),
        ]
        return nodes, constants, {"": OPSET}

    def _converted(self, width: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], dict[str, int]]:
        """What skl2onnx makes of the pipeline, from ``features`` to ``probability``."""
        with quiet():
            from skl2onnx import to_onnx

        classifier = hasattr(self.pipeline_, "predict_proba")
        options = {"zipmap": False} if classifier else None
        with quiet():
            converted = to_onnx(
                self.pipeline_,
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
        columns = len(self.varies_)
        if outputs == 2 * columns:
            # wrong before right: with one target everywhere, with two in skl2onnx's perceptron
            form = numpy_helper.from_array(np.arange(columns, 2 * columns), "last")
            select = [helper.make_node("Gather", [probability, "last"], ["probability"], axis=1)]
        else:
            form = numpy_helper.from_array(np.array([-1, columns], np.int64), "form")
            select = [helper.make_node("Reshape", [probability, "form"], ["probability"])]
        opsets = {item.domain: item.version for item in converted.opset_import}
        used = [tensor for tensor in converted.graph.initializer if tensor.name in wanted]
        return [*reversed(kept), *select], [*used, form], opsets | {"": OPSET}

    def _right(self, target: NDArray[Any]) -> NDArray[np.bool_]:
        """A target as indicators ``[n, M]``."""
        right: NDArray[np.bool_] = target == self.classes_[-1]
        return right if self.indicator_ else right.reshape(-1, 1)

    def _raw_log_odds(self, X: NDArray[Any]) -> Floats:
        check_is_fitted(self)
        # wide, or the last digits of a row would depend on its place among the others
        features = validate_data(self, X, reset=False, dtype=np.float32).astype(np.float64)
        if self.pipeline_ is None:
            return np.zeros((len(features), 1))
        if hasattr(self.pipeline_, "predict_proba"):
            probabilities = np.asarray(self.pipeline_.predict_proba(features), dtype=np.float64)
            if len(self.varies_) == 1:
                probabilities = probabilities[:, -1:]
        else:
            probabilities = np.asarray(self.pipeline_.predict(features), dtype=np.float64)
        clipped = np.clip(probabilities.reshape(len(features), -1), _CLIP, 1 - _CLIP)
        odds: Floats = np.log(clipped / (1 - clipped))
        return odds


def _constants(**values: Any) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in values.items()]


def _can_hold_out(targets: NDArray[np.int64]) -> bool:
    """Whether a tenth of the samples can tell when to stop: of one target it needs both classes."""
    rarer = np.minimum(targets.sum(axis=0), (1 - targets).sum(axis=0))
    return len(targets) >= 40 and (targets.shape[1] > 1 or int(rarer[0]) >= 2)


def _float32_below(thresholds: Floats) -> NDArray[np.float32]:
    """The largest float32 that is not above each threshold: float32 features lie on the same side of it.

    ONNX has float32 thresholds. Rounded to the nearest, one of two neighbours would change sides.
    """
    nearest = thresholds.astype(np.float32)
    below: NDArray[np.float32] = np.where(
        nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest
    )
    return below


def _rounded(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features in steps of a thousandth of their spread, to fit on.

    Between values that differ by rounding alone a tree would split all the same, and torch and ONNX Runtime,
    which round differently, would end in different leaves.
    """
    step = features.std(axis=0, dtype=np.float64) / 1000
    steps = np.where(step > 0, step, 1.0)
    rounded: NDArray[np.float32] = np.where(step > 0, np.rint(features / steps) * steps, features)
    return rounded.astype(np.float32)
