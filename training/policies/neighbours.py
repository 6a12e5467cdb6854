"""Nearest neighbours as an estimator of correctness whose graph is one product and a TopK.

How alike two inputs are is the cosine of their standardised features with a constant beside them (as the
router of RouterBench compares prompts: Hu et al. 2024). Neighbours count the less the nearer they are to the
first one that does not count any more (a triangular kernel on the squared distance), so scores hardly jump.

The features of an input are rounded to GRID steps a standard deviation, the directions of examples to whole
numbers, so that every partial sum of a product of two is a whole number below 2 ** 24, which single precision
holds exactly: it gives the same bits in any order, alone and in batches, on every machine. How long the
features of an input are does not change which examples are nearest, so nothing divides by it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from sklearn.base import BaseEstimator, RegressorMixin

MAX_EXAMPLES = 8000  # inputs that are remembered: all are compared with every new one
CHUNK_ROWS = 2000
GRID = 16  # steps of a standard deviation; a feature counts as at most 8 of these away from its mean
STEPS = 4000  # of an example's direction, at most
LEAST_WEIGHT = 2.0  # of a neighbour, in steps of the grid times those of a direction
LEAST_SHARE = 1e-4  # of right and of wrong: logarithms stay finite where all neighbours agree


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
        self.mean_ = known.mean(axis=0).astype(np.float32)
        self.step_ = np.where(spread > 0, spread / GRID, np.inf).astype(np.float32)
        # of features whose spread is nothing, too small for single precision or too large, nothing is seen
        self.step_[~((self.step_ > 0) & np.isfinite(self.step_))] = np.finfo(np.float32).max
        wide = np.append(self._on_grid(known[rows]), np.full((len(rows), 1), GRID), axis=1)
        # rounding makes a direction a little longer, by half a step a number
        longest = np.sqrt(wide.shape[1]) * 128
        steps = min(STEPS, int(2**24 / longest - np.sqrt(wide.shape[1])))
        directions = np.rint(wide / np.sqrt((wide * wide).sum(axis=1, keepdims=True)) * steps)
        self.examples_ = directions[:, :-1].astype(np.float32)
        self.constant_ = (directions[:, -1] * GRID).astype(np.float32)
        self.targets_ = LEAST_SHARE + (1 - 2 * LEAST_SHARE) * np.asarray(y, np.float64)[rows]
        return self

    def predict(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Weighted mean of the neighbours' targets ``[n, M]``."""
        parts = [self._some(X[first : first + CHUNK_ROWS]) for first in range(0, len(X), CHUNK_ROWS)]
        return np.concatenate([np.empty((0, self.targets_.shape[1])), *parts])

    def _some(self, X: NDArray[Any]) -> NDArray[np.float64]:
        alike = (self._on_grid(X) @ self.examples_.T + self.constant_).astype(np.int64)
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

    def _on_grid(self, X: NDArray[Any]) -> NDArray[np.float32]:
        """Features ``[n, F]`` in whole steps from their means, -128 to 127."""
        steps = (np.asarray(X, np.float32) - self.mean_) / self.step_
        found: NDArray[np.float32] = np.clip(np.rint(steps), -128, 127)
        return found

    def to_nodes(self) -> tuple[list[NodeProto], list[TensorProto]]:
        """Operators and constants from ``features`` ``[N, F]`` to ``logs`` ``[N, 2 M]``.

        These are the logarithms of the probabilities of being right, then of being wrong.
        """
        count = min(self.count, len(self.examples_))
        constants = {
            "mean": self.mean_,
            "step": self.step_,
            "middle": np.zeros(len(self.step_), np.int8),
            "examples": np.ascontiguousarray(self.examples_.T),
            "constant": self.constant_,
            "targets": np.append(self.targets_, 1 - self.targets_, axis=1).astype(np.float32),
            "count": np.array([count], np.int64),
            "last": np.array([count - 1], np.int64),
            "least": np.float32(LEAST_WEIGHT),
            "second": np.array([1], np.int64),
        }
        steps: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
            ("Sub", ["features", "mean"], ["centred"], {}),
            ("QuantizeLinear", ["centred", "step", "middle"], ["on_grid"], {"axis": 1}),
            ("Cast", ["on_grid"], ["whole"], {"to": TensorProto.FLOAT}),
            ("Gemm", ["whole", "examples", "constant"], ["alike"], {}),
            ("TopK", ["alike", "count"], ["nearest", "places"], {"axis": 1}),
            ("Gather", ["nearest", "last"], ["farthest"], {"axis": 1}),
            ("Sub", ["nearest", "farthest"], ["nearer"], {}),
            ("Add", ["nearer", "least"], ["weights"], {}),
            ("LpNormalization", ["weights"], ["shares"], {"axis": 1, "p": 1}),
            ("Gather", ["targets", "places"], ["theirs"], {"axis": 0}),
            ("Unsqueeze", ["shares", "second"], ["row"], {}),
            ("MatMul", ["row", "theirs"], ["mean_target"], {}),
            ("Squeeze", ["mean_target", "second"], ["means"], {}),
            ("Log", ["means"], ["logs"], {}),
        ]
        nodes = [helper.make_node(kind, given, made, **how) for kind, given, made, how in steps]
        return nodes, [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
