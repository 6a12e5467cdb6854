"""A scout of images: a tiny convolutional network on a grid of pixels; see :mod:`training.features.scout`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional as F

from training.features.feature_kind import Readings
from training.features.operators import OperatorList
from training.features.scout import Scout, ScoutNetwork, fit_network
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


def fit_scout(
    pixels: Readings, right: NDArray[np.bool_], models: Sequence[str], *, seed: int = 0
) -> ImageScout:
    """Train on pixels uint8 ``[n, grid, grid, 3]``; see :func:`training.features.scout.fit_network`."""
    return ImageScout(
        *fit_network(ImageScout, _Network, _as_input, pixels, right, models, noun="image", seed=seed)
    )


class _Network(ScoutNetwork):
    def __init__(self, pixels: Readings, grid: int, models: int) -> None:
        super().__init__()
        self.size = grid // PATCHES_PER_AXIS
        self.patch = nn.Conv2d(3, CHANNELS[0], self.size, self.size)
        self.middle = nn.Conv2d(*CHANNELS, 3, 2, 1)
        self.last = nn.Linear(CHANNELS[1], models)

    def forward(self, images: Tensor) -> Tensor:
        """Log-odds ``[N, M]`` of images float32 ``[N, 3, grid, grid]`` from -0.5 to 0.5."""
        maps = F.relu(self.middle(F.relu(self.patch(images))))
        odds: Tensor = self.last(maps.mean((2, 3)))
        return odds

    def weights(self) -> dict[str, Tensor]:
        """For pixels from 0 to 255."""
        patch = self.patch.weight.permute(0, 2, 3, 1).reshape(CHANNELS[0], 1, self.size, 3 * self.size)
        assert self.patch.bias is not None
        assert self.middle.bias is not None
        return {
            "patch": patch / 255,
            "patch_bias": self.patch.bias - 0.5 * self.patch.weight.sum((1, 2, 3)),
            "middle": self.middle.weight,
            "middle_bias": self.middle.bias,
            **self.layers("last"),
        }


def _as_input(pixels: Readings) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 255 - 0.5
