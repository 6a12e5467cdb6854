"""The network of a scout of named arrays, and its training; see :mod:`training.features.scout_network`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from training.features.feature_kind import Readings
from training.features.scout_network import ScoutNetwork, fit_network
from training.features.tensors.scout import CHANNELS, CLIPPED, TensorScout


def fit_tensor_scout(
    readings: Readings, right: NDArray[np.bool_], models: Sequence[str], *, seed: int = 0
) -> TensorScout:
    """Train a scout on numbers ``[n, grid]``; see :func:`training.features.scout_network.fit_network`."""
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
        value = ((numbers - self.mean) * self.scale).clamp(-CLIPPED, CLIPPED)
        odds: Tensor = self.last(F.relu(self.middle(F.relu(self.first(value)))))
        return odds

    def weights(self) -> dict[str, Tensor]:
        """With mean and scale of the numbers."""
        return {"mean": self.mean, "scale": self.scale, **self.layers("first", "middle", "last")}
