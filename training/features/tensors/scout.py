"""A scout of named arrays: two small layers on standardised numbers; see :mod:`training.features.scout`."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from training.features.feature_kind import Readings
from training.features.operators import OperatorList
from training.features.scout import Scout
from zoo.errors import DataError

CHANNELS = (32, 32)
CLIPPED = 4.0  # standard deviations from the mean


class TensorScout(Scout):
    """Weights: ``mean`` and ``scale`` ``[grid]``, ``first`` ``[grid, 32]``, ``middle``, ``last``."""

    def append_to(self, operators: OperatorList, readings: str) -> str:
        """`readings` are numbers float32 ``[N, grid]``."""
        g, w = operators, self.constants(operators)
        value = g.add("Mul", g.add("Sub", readings, w["mean"]), w["scale"])
        value = g.add("Clip", value, g.constant(-CLIPPED), g.constant(CLIPPED))
        for layer in ("first", "middle"):
            value = g.add("Relu", g.add("Gemm", value, w[layer], w[f"{layer}_bias"]))
        return g.add("Gemm", value, w["last"], w["last_bias"])

    @property
    def reading(self) -> onnx.ValueInfoProto:
        """``numbers`` float32 ``[N, grid]``."""
        return helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ["N", self.grid])

    @classmethod
    def check(cls, readings: Readings, grid: int | None = None) -> int:
        """Real numbers float32 ``[n, grid]``."""
        wanted = grid or (readings.shape[1] if readings.ndim == 2 else 0)
        if readings.dtype != np.float32 or readings.shape[1:] != (wanted,) or not wanted:
            raise DataError(
                f"expected numbers float32 [n, {wanted or 'grid'}], got {readings.dtype} "
                f"{list(readings.shape)}. Read them with load_pixels."
            )
        return wanted
