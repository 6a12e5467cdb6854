"""A scout of signals: a tiny one-dimensional network; see :mod:`training.features.scout`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import onnx
from onnx import TensorProto, helper

from training.features.feature_kind import Readings
from training.features.operators import OperatorList
from training.features.scout import Floats, Scout
from zoo.errors import DataError

PATCH = 8  # samples
EMBEDDED = 6  # numbers that a byte becomes
CHANNELS = (24, 32)
_TYPE = "type"
_SCALES = {"int16": 1 / 32768, "float32": 1.0}


@dataclass(frozen=True, eq=False)
class SignalScout(Scout):
    """Weights: ``embedding`` ``[256, 6]`` for bytes, ``patch`` ``[8 · 6 or 8, 24]``, ``middle``, ``last``."""

    kind: str = "uint8"  # type of a sample

    def append_to(self, operators: OperatorList, readings: str) -> str:
        """`readings` are samples ``[N, grid]``."""
        g, patches = operators, self.grid // PATCH
        w = self.constants(g)
        if self.kind == "uint8":
            value = g.add("Gather", w["embedding"], g.add("Cast", readings, to=TensorProto.INT32), axis=0)
        else:
            value = g.add("Cast", readings, to=TensorProto.FLOAT)
            value = g.add("Mul", value, g.constant(_SCALES[self.kind]))
        value = g.add("Reshape", value, g.constant([0, patches, len(self.weights["patch"])]))
        value = g.add("Relu", g.add("Add", g.add("MatMul", value, w["patch"]), w["patch_bias"]))
        value = g.add("Reshape", value, g.constant([0, patches // 2, 2 * CHANNELS[0]]))
        value = g.add("Relu", g.add("Add", g.add("MatMul", value, w["middle"]), w["middle_bias"]))
        found = [g.add(kind, value, g.constant([1]), keepdims=0) for kind in ("ReduceMean", "ReduceMax")]
        return g.add("Gemm", g.add("Concat", *found, axis=1), w["last"], w["last_bias"])

    @property
    def reading(self) -> onnx.ValueInfoProto:
        """``signal`` ``[N, grid]``."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.kind))
        return helper.make_tensor_value_info("signal", kind, ["N", self.grid])

    @property
    def properties(self) -> Mapping[str, str]:
        """The type of a sample."""
        return {_TYPE: self.kind}

    @classmethod
    def restored(
        cls, models: tuple[str, ...], grid: int, weights: dict[str, Floats], properties: Mapping[str, str]
    ) -> Self:
        """With the type of a sample."""
        return cls(models, grid, weights, properties[_TYPE])

    @classmethod
    def check(cls, readings: Readings, grid: int | None = None) -> int:
        """Samples ``[n, grid]``."""
        wanted = grid or (readings.shape[1] if readings.ndim == 2 else 0)
        if readings.shape[1:] != (wanted,) or wanted < 2 * PATCH or wanted % (2 * PATCH):
            raise DataError(
                f"expected samples [n, {wanted}] with a grid that is a multiple of {2 * PATCH}, "
                f"got {readings.dtype} {list(readings.shape)}. Read them with load_pixels."
            )
        return wanted
