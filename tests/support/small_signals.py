"""Signals of two classes, and networks of two sizes that tell them apart, more or less well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from training.data.images import ListedInputs
from zoo import Zoo
from zoo.convert.add import add_signal
from zoo.convert.signals.signal_front import SignalFront
from zoo.inputs.signal import Signal

CLASSES = ("low", "high")
WIDTHS = {"small": 6, "large": 96}  # samples that a network looks at: more of them hide less in noise


def network(
    width: int, *, scale: float, kind: int = TensorProto.INT32, shape: tuple[int | str, ...] = ()
) -> bytes:
    """A network that compares the mean of `width` numbers with zero; `scale` is one over their spread."""
    axes = shape or ("N", width)
    weights = np.stack([np.full(width, -scale / width), np.full(width, scale / width)], axis=1)
    nodes = [
        helper.make_node("Cast", ["numbers"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["real", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "weights"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("numbers", kind, list(axes))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 2])],
        [
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
            numpy_helper.from_array(np.array([-1, width], np.int64), "flat"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    content: bytes = model.SerializeToString()
    onnx.checker.check_model(model)
    return content


def signals(kind: Signal, count: int = 600, *, seed: int = 0) -> ListedInputs:
    """Noise around a level below or above the middle, some nearer to it than others, of several lengths."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    items = []
    for label in labels:
        level = (2 * label - 1) * rng.choice([0.06, 0.5])
        items.append(_samples(kind, level + rng.normal(0, 0.35, int(rng.choice([96, 150, 200])))))
    return ListedInputs(kind, items, CLASSES, [f"{i:04d}" for i in range(count)], labels)


def _samples(kind: Signal, real: NDArray[np.float64]) -> NDArray[np.generic]:
    real = real.clip(-1, 1)
    if kind.type == "uint8":
        return np.rint(127.5 + 127.5 * real).astype(np.uint8)
    return (real * 32767).astype(np.int16) if kind.type == "int16" else real.astype(np.float32)


def signal_zoo(folder: Path, kind: Signal) -> Zoo:
    """Two networks for :func:`signals`."""
    zoo = Zoo.create(folder)
    for name, width in WIDTHS.items():
        front = SignalFront(kind, first=width, pad=0.0)
        inner = TensorProto.INT32 if kind.is_bytes else TensorProto.FLOAT
        content = network(width, scale=0.05 if kind.is_bytes else 6.0, kind=inner)
        if kind.is_bytes:
            content = _around(content, 127.5)
        add_signal(zoo, name, content, front, CLASSES)
    return zoo


def _around(content: bytes, middle: float) -> bytes:
    """The same network for numbers around `middle`."""
    model = onnx.load_model_from_string(content)
    model.graph.node.insert(1, helper.make_node("Sub", ["real", "middle"], ["centred"]))
    model.graph.node[2].input[0] = "centred"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(middle).reshape(1), "middle"))
    return model.SerializeToString()
