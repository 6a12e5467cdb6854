"""Input features as a torch module."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from training.features.features import feature_operators
from training.features.pool import NAMES
from training.features.scout import Scout


class InputFeatures(nn.Module):
    """Features of uint8 images as one module; the same operators as in :func:`.feature_graph`, run by torch.

    Parameters
    ----------
    names
        Which features, in which order; by default all of the pool.
    grid
        Pixels read per axis; a multiple of 16.
    scout
        Where features named ``scout_<model>`` come from.

    Raises
    ------
    DataError
        For an unknown feature name or an unsuitable grid.
    """

    def __init__(self, names: Sequence[str] = NAMES, *, grid: int = 32, scout: Scout | None = None) -> None:
        super().__init__()
        self.names = tuple(names)
        self.grid = grid
        self._operators, self._output = feature_operators(names, grid, scout)
        for name, value in self._operators.constants.items():
            self.register_buffer(name, torch.from_numpy(np.array(value)))

    def forward(self, image: Tensor) -> Tensor:
        """Features float32 ``[N, F]`` of images uint8 ``[N, H, W, 3]``."""
        return self._operators.run(dict(self.named_buffers()), image=image)[self._output]
