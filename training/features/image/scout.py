"""A scout of images: a tiny convolutional network on a grid of pixels; see :mod:`training.features.scout`."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from training.features.feature_kind import Readings
from training.features.operators import OperatorList
from training.features.scout import Scout
from zoo.errors import DataError

CHANNELS = (24, 32)
PATCHES_PER_AXIS = 8  # patches per axis of the first layer


class ImageScout(Scout):
    """Weights: ``patch`` ``[24, 1, p, 3 p]``, ``middle`` ``[32, 24, 3, 3]``, ``last`` ``[32, M]``.

    For pixels on the scale 0..255, channels side by side as columns.
    """

    def append_to(self, operators: OperatorList, readings: str) -> str:
        """`readings` are pixels float32 ``[N, 1, grid, 3 * grid]``."""
        g, size = operators, self.grid // PATCHES_PER_AXIS
        w = self.constants(g)
        value = g.add("Conv", readings, w["patch"], w["patch_bias"], strides=[size, 3 * size])
        value = g.add(
            "Conv", g.add("Relu", value), w["middle"], w["middle_bias"], strides=[2, 2], pads=[1, 1, 1, 1]
        )
        mean = g.add("Flatten", g.add("GlobalAveragePool", g.add("Relu", value)))
        return g.add("Gemm", mean, w["last"], w["last_bias"])

    @property
    def reading(self) -> onnx.ValueInfoProto:
        """``pixels`` uint8 ``[N, grid, grid, 3]``."""
        shape: list[str | int | None] = ["N", self.grid, self.grid, 3]
        return helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape)

    def from_reading(self, operators: OperatorList, name: str) -> str:
        """Channels side by side, as real numbers."""
        g = operators
        flat = g.add("Reshape", name, g.constant([0, 1, self.grid, 3 * self.grid]))
        return g.add("Cast", flat, to=TensorProto.FLOAT)

    @classmethod
    def check(cls, readings: Readings, grid: int | None = None) -> int:
        """Pixels uint8 ``[n, grid, grid, 3]``."""
        wanted = grid or (readings.shape[1] if readings.ndim == 4 else 0)
        shape = (wanted, wanted, 3)
        if readings.dtype != np.uint8 or readings.shape[1:] != shape or wanted < 16 or wanted % 16:
            raise DataError(
                f"expected pixels uint8 [n, {wanted}, {wanted}, 3] with a grid that is a multiple of 16, "
                f"got {readings.dtype} {list(readings.shape)}. Read them with load_pixels."
            )
        return wanted
