"""A scout of named arrays: two small layers on standardised numbers; see :mod:`training.features.scout`."""

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

CHANNELS = (32, 32)
_CLIPPED = 4.0  # standard deviations from the mean


class TensorScout(Scout):
    """Weights: ``mean`` and ``scale`` ``[grid]``, ``first`` ``[grid, 32]``, ``middle``, ``last``."""

    def append_to(self, operators: OperatorList, readings: str) -> str:
        """`readings` are numbers float32 ``[N, grid]``."""
        g, w = operators, self.constants(operators)
        value = g.add("Mul", g.add("Sub", readings, w["mean"]), w["scale"])
        value = g.add("Clip", value, g.constant(-_CLIPPED), g.constant(_CLIPPED))
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


def fit_tensor_scout(
    readings: Readings, right: NDArray[np.bool_], models: Sequence[str], *, seed: int = 0
) -> TensorScout:
    """Train a scout on numbers ``[n, grid]``; see :func:`training.features.scout.fit_network`."""
    return TensorScout(
        *fit_network(
            TensorScout, _Network, torch.from_numpy, readings, right, models, noun="input", seed=seed
        )
    )


class _Network(ScoutNetwork):
    def __init__(self, readings: Readings, grid: int, models: int) -> None:
        super().__init__()
        real = torch.from_numpy(readings).double()
        self.mean = real.mean(0).float()
        self.scale = (1 / (real.std(0, correction=0) + 1e-6)).float()
        self.first = nn.Linear(grid, CHANNELS[0])
        self.middle = nn.Linear(*CHANNELS)
        self.last = nn.Linear(CHANNELS[1], models)

    def forward(self, numbers: Tensor) -> Tensor:
        """Log-odds ``[N, M]`` of numbers ``[N, grid]``."""
        value = ((numbers - self.mean) * self.scale).clamp(-_CLIPPED, _CLIPPED)
        odds: Tensor = self.last(F.relu(self.middle(F.relu(self.first(value)))))
        return odds

    def weights(self) -> dict[str, Tensor]:
        """With mean and scale of the numbers."""
        return {"mean": self.mean, "scale": self.scale, **self.layers("first", "middle", "last")}
