"""The network of a scout of images, and its training; see :mod:`training.features.scout_network`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from training.features.feature_kind import Readings
from training.features.image.scout import CHANNELS, PATCHES_PER_AXIS, ImageScout
from training.features.scout_network import ScoutNetwork, fit_network


def fit_scout(
    pixels: Readings, right: NDArray[np.bool_], models: Sequence[str], *, seed: int = 0
) -> ImageScout:
    """Train on pixels uint8 ``[n, grid, grid, 3]``; see :func:`.fit_network`."""
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
