"""Nearest neighbours as an estimator of correctness whose graph is two products and a TopK.

How alike two inputs are is the cosine of their standardised features with a constant beside them (as the
router of RouterBench compares prompts: Hu et al. 2024). Neighbours count the less the nearer they are to the
first one that does not count any more (a triangular kernel on the squared distance), so scores hardly jump.

Directions are whole numbers of at most STEPS in length, so every partial sum of a product of two is a whole
number below 2 ** 24, which single precision holds exactly: it gives the same bits in any order, alone and in
batches, on every machine, at a quarter of the time that double precision takes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from sklearn.base import BaseEstimator, RegressorMixin

MAX_EXAMPLES = 8000  # inputs that are remembered: all are compared with every new one
CHUNK_ROWS = 2000
STEPS = 4000  # of a direction: rounding makes it a little longer, and its square has to stay below 2 ** 24
LEAST_WEIGHT = 160.0  # of a neighbour, in steps squared


class Neighbours(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Mean target of the nearest examples.

    Parameters
    ----------
    count
        How many neighbours; fewer where there are fewer examples.
    seed
        Of the choice of examples where there are more than MAX_EXAMPLES.
    """

    def __init__(self, count: int = 40, *, seed: int = 0) -> None:
        self.count = count
        self.seed = seed

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> Neighbours:
        """Remember features ``[n, F]`` and targets ``[n, M]`` between 0 and 1."""
        rows = np.arange(len(X))
        if len(rows) > MAX_EXAMPLES:
            rows = np.sort(np.random.default_rng(self.seed).choice(rows, MAX_EXAMPLES, replace=False))
        known = np.asarray(X, np.float64)
        spread = known.std(axis=0)
        self.scale_ = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1.0), 0.0)
        self.shift_ = -known.mean(axis=0) * self.scale_
        self.examples_ = self._directions(known[rows])
        self.targets_ = np.asarray(y, np.float64)[rows]
        return self

    def predict(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Weighted mean of the neighbours' targets ``[n, M]``."""
        parts = [self._some(X[first : first + CHUNK_ROWS]) for first in range(0, len(X), CHUNK_ROWS)]
        return np.concatenate([np.empty((0, self.targets_.shape[1])), *parts])

    def _some(self, X: NDArray[Any]) -> NDArray[np.float64]:
        alike = (self._directions(X) @ self.examples_.T).astype(np.int64)
        count = min(self.count, len(self.examples_))
        # one number for both: how alike, then which comes first
        keys = alike * len(self.examples_) - np.arange(len(self.examples_))
        near = np.argpartition(-keys, count - 1, axis=1)[:, :count]
        near = np.take_along_axis(near, np.argsort(-np.take_along_axis(keys, near, axis=1), axis=1), axis=1)
        weights = np.take_along_axis(alike, near, axis=1).astype(np.float64)
        weights = weights - weights[:, -1:] + LEAST_WEIGHT
        sums = np.einsum("nk,nkm->nm", weights, self.targets_[near])
        found: NDArray[np.float64] = sums / weights.sum(axis=1, keepdims=True)
        return found

    def _directions(self, X: NDArray[Any]) -> NDArray[np.float32]:
        """Standardised features and a constant ``[n, F + 1]``, as long as STEPS, in whole numbers."""
        known = np.asarray(X, np.float32) * self.scale_ + self.shift_
        wide = np.concatenate([known, np.ones((len(known), 1))], axis=1)
        length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
        found: NDArray[np.float32] = np.rint(wide / length * STEPS).astype(np.float32)
        return found

    def to_nodes(self) -> tuple[list[NodeProto], list[TensorProto]]:
        """Operators and constants from ``features`` ``[N, F]`` to ``probability`` ``[N, M]``."""
        count = min(self.count, len(self.examples_))
        constants = {
            "scale": self.scale_[np.newaxis],
            "shift": self.shift_[np.newaxis],
            "after": np.array([0, 0, 0, 1], np.int64),
            "unit": np.float64(1),
            "examples": np.ascontiguousarray(self.examples_.T),
            "steps": np.float64(STEPS),
            "targets": self.targets_,
            "count": np.array([count], np.int64),
            "last": np.array([count - 1], np.int64),
            "least": np.float64(LEAST_WEIGHT),
            "second": np.array([1], np.int64),
        }
        steps: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
            ("Cast", ["features"], ["exact"], {"to": TensorProto.DOUBLE}),
            ("Mul", ["exact", "scale"], ["scaled"], {}),
            ("Add", ["scaled", "shift"], ["standard"], {}),
            ("Pad", ["standard", "after", "unit"], ["wide"], {}),
            ("ReduceL2", ["wide", "second"], ["length"], {"keepdims": 1}),
            ("Div", ["wide", "length"], ["direction"], {}),
            ("Mul", ["direction", "steps"], ["stepped"], {}),
            ("Round", ["stepped"], ["whole"], {}),
            ("Cast", ["whole"], ["directions"], {"to": TensorProto.FLOAT}),
            ("MatMul", ["directions", "examples"], ["alike"], {}),
            ("TopK", ["alike", "count"], ["most", "places"], {"axis": 1}),
            ("Cast", ["most"], ["nearest"], {"to": TensorProto.DOUBLE}),
            ("Gather", ["nearest", "last"], ["farthest"], {"axis": 1}),
            ("Sub", ["nearest", "farthest"], ["nearer"], {}),
            ("Add", ["nearer", "least"], ["weights"], {}),
            ("Gather", ["targets", "places"], ["theirs"], {"axis": 0}),
            ("Unsqueeze", ["weights", "second"], ["row"], {}),
            ("MatMul", ["row", "theirs"], ["sum"], {}),
            ("Squeeze", ["sum", "second"], ["sums"], {}),
            ("ReduceSum", ["weights", "second"], ["total"], {"keepdims": 1}),
            ("Div", ["sums", "total"], ["mean"], {}),
            ("Cast", ["mean"], ["probability"], {"to": TensorProto.FLOAT}),
        ]
        nodes = [helper.make_node(kind, given, made, **how) for kind, given, made, how in steps]
        return nodes, [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
