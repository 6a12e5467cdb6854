"""Models that differ from a parent in normalisation and head alone, as an adapted model does."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

NORMALISATION = ("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization")
HEAD = ("Gemm", "MatMul")


def adapted(content: bytes, *, seed: int, scale: float = 0.01) -> bytes:
    """The model with its normalisation parameters and its last linear layer shaken a little.

    Parameters
    ----------
    scale
        Standard deviation of the factors around 1.
    """
    model = onnx.load_model_from_string(content)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    changed = [name for node in model.graph.node if node.op_type in NORMALISATION for name in node.input[1:]]
    head = next(node for node in reversed(model.graph.node) if node.op_type in HEAD)
    changed += head.input[1:]
    rng = np.random.default_rng(seed)
    for name in dict.fromkeys(changed):
        if name in weights:
            value = numpy_helper.to_array(weights[name])
            factor = rng.normal(1.0, scale, value.shape).astype(value.dtype)
            weights[name].CopyFrom(numpy_helper.from_array(value * factor, name))
    return bytes(model.SerializeToString(deterministic=True))


def changed_share(parent: bytes, child: bytes) -> float:
    """Share of the bytes of the weights that differ between two models of one architecture."""
    total = other = 0
    pairs = zip(
        onnx.load_model_from_string(parent).graph.initializer,
        onnx.load_model_from_string(child).graph.initializer,
        strict=True,
    )
    for one, two in pairs:
        first, second = numpy_helper.to_array(one), numpy_helper.to_array(two)
        total += first.nbytes
        other += first.nbytes if not np.array_equal(first, second) else 0
    return other / total
