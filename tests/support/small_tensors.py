"""Named arrays of two classes, and networks that look at some of them or at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from training.data.images import ListedInputs
from zoo import Zoo
from zoo.convert.add import add_tensors
from zoo.inputs.tensors import Array, Tensors

CLASSES = ("minus", "plus")
KIND = Tensors((Array("tokens", "int64", (12,), pad=0), Array("row", "float32", (2,))))


def table_of(count: int = 600, *, seed: int = 0) -> ListedInputs:
    """Two numbers, and up to twelve tokens; odd ones count for the second class, even ones for the first."""
    rng = np.random.default_rng(seed)
    items, labels = [], []
    for _ in range(count):
        tokens, row = rng.integers(1, 20, rng.integers(1, 13)), rng.normal(size=2).astype(np.float32)
        items.append({"tokens": tokens, "row": row})
        labels.append(int(2 * row.sum() + np.where(tokens % 2, 1, -1).sum() > 0))
    return ListedInputs(KIND, items, CLASSES, [f"{i:04d}" for i in range(count)], labels)


def network(*, tokens: bool, type: int = TensorProto.INT64, length: int | str = "L") -> bytes:
    """What says which class it is, by the row alone or by the tokens as well."""
    worth = np.zeros((20, 1), np.float32)
    worth[1:, 0] = np.where(np.arange(1, 20) % 2, 1, -1)
    weights = {"ends": np.array([[-3, 3], [-3, 3]], np.float32), "both": np.array([[-1.5, 1.5]], np.float32)}
    nodes = [helper.make_node("MatMul", ["row", "ends"], ["of row" if tokens else "out"])]
    inputs = [helper.make_tensor_value_info("row", TensorProto.FLOAT, ["N", 2])]
    if tokens:
        weights |= {"worth": worth, "axis": np.array([1])}
        nodes += [
            helper.make_node("Gather", ["worth", "tokens"], ["each"]),
            helper.make_node("ReduceSum", ["each", "axis"], ["sum"], keepdims=0),
            helper.make_node("MatMul", ["sum", "both"], ["of tokens"]),
            helper.make_node("Add", ["of row", "of tokens"], ["out"]),
        ]
        inputs.insert(0, helper.make_tensor_value_info("tokens", type, ["N", length]))
    graph = helper.make_graph(
        nodes,
        "net",
        inputs,
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(value, name) for name, value in weights.items() if tokens or name == "ends"],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def tensor_zoo(folder: Path) -> Zoo:
    """A network of everything, and one of the row."""
    zoo = Zoo.create(folder)
    add_tensors(zoo, "large", network(tokens=True), CLASSES, length=12)
    add_tensors(zoo, "small", network(tokens=False), CLASSES)
    return zoo
