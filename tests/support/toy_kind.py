"""A new kind of input in one file: two real numbers, from text files that end with ``.pair``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from training.data.images import ListedInputs
from training.features.feature_kind import FeatureKind, Readings, ScoutLike, register_features
from training.features.operators import OperatorList
from zoo import Zoo
from zoo.errors import InputError
from zoo.inputs.kind import GraphInput, InputKind, Size, register, type_name


@register
@dataclass(frozen=True)
class Pair(InputKind):
    """Two real numbers."""

    name: ClassVar[str] = "pair"
    noun: ClassVar[str] = "pair"
    formats: ClassVar[str] = ".pair"
    default_size: ClassVar[Size] = (1, 2)

    @property
    def inputs(self) -> tuple[GraphInput, ...]:
        return (GraphInput("pair", "float32", ("N", 2)),)

    def item(self, given: Any) -> NDArray[np.float32]:
        if isinstance(given, str | Path):
            return self.load(given)
        if isinstance(given, np.ndarray) and given.shape == (2,) and given.dtype == np.float32:
            return given
        raise InputError(f"expected a pair float32 [2], got {type_name(given)}.")

    def batch(self, given: Any) -> NDArray[np.float32]:
        if isinstance(given, np.ndarray) and given.shape[1:] == (2,) and given.dtype == np.float32:
            return given
        raise InputError(f"expected pairs float32 [N, 2], got {type_name(given)}.")

    def is_file_name(self, name: str) -> bool:
        return name.endswith(".pair")

    def load(self, path: str | Path) -> NDArray[np.float32]:
        return self.item(np.array(Path(path).read_text().split(), np.float32))

    def size(self, item: NDArray[np.float32]) -> Size:
        return (1, 2)

    def random(self, size: Size, rng: np.random.Generator) -> NDArray[np.float32]:
        return rng.normal(size=2).astype(np.float32)

    def reference(self, size: Size) -> NDArray[np.float32]:
        return np.array([1, -2], np.float32)


@register_features("pair")
class PairFeatures(FeatureKind):
    """The sum of the numbers, and their difference."""

    version: ClassVar[int] = 1
    _COLUMNS: ClassVar[dict[str, list[float]]] = {"sum": [1, 1], "difference": [1, -1]}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._COLUMNS)

    @property
    def watched(self) -> tuple[str, ...]:
        return ("sum",)

    def stages(self, name: str) -> frozenset[str]:
        return frozenset({"all"})

    def operators(self, names: Sequence[str], grid: int, scout: ScoutLike | None) -> tuple[OperatorList, str]:
        g = OperatorList()
        weights = np.array([self._COLUMNS[name] for name in names], float).T
        return g, g.add("MatMul", "pair", g.constant(weights))

    def grid_for(self, items: Sequence[Any]) -> int:
        return 1

    def reading(self, grid: int) -> tuple[tuple[int, ...], type[np.generic]]:
        return (2,), np.float32

    def read(self, batch: NDArray[np.float32], grid: int) -> Readings:
        return batch

    def synthetic(self) -> list[NDArray[np.float32]]:
        return [np.array([[0, 1], [2, 3]], np.float32)]


def pairs(count: int = 600) -> ListedInputs:
    """Pairs whose sum is negative or positive."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(count, 2)).astype(np.float32)
    labels = values.sum(axis=1) > 0
    return ListedInputs(Pair(), [*values], ("minus", "plus"), [f"{i:04d}" for i in range(count)], labels)


def pair_zoo(folder: Path) -> Zoo:
    """A network that looks at the first number alone, and one that looks at both."""
    zoo = Zoo.create(folder)
    for name, weights in {"small": [[-3, 3], [0, 0]], "large": [[-3, 3], [-3, 3]]}.items():
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["pair", "weights"], ["logits"])],
            "net",
            [helper.make_tensor_value_info("pair", TensorProto.FLOAT, ["N", 2])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])],
            [numpy_helper.from_array(np.array(weights, np.float32), "weights")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        zoo.add(
            name,
            model.SerializeToString(),
            classes=("minus", "plus"),
            resolution=(1, 2),
            parameters=4,
            macs=4,
            kind=Pair(),
        )
    return zoo
