"""The network of a scout of signals, and its training; see :mod:`training.features.scout_network`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from training.features.feature_kind import Readings
from training.features.scout_network import ScoutNetwork, fit_network
from training.features.signal.scout import CHANNELS, EMBEDDED, PATCH, SignalScout


def fit_signal_scout(
    readings: Readings, right: NDArray[np.bool_], models: Sequence[str], *, seed: int = 0
) -> SignalScout:
    """Train a scout on samples ``[n, grid]``; see :func:`training.features.scout_network.fit_network`."""
    found = fit_network(SignalScout, _Network, _as_input, readings, right, models, noun="signal", seed=seed)
    return SignalScout(*found, str(readings.dtype))


class _Network(ScoutNetwork):
    def __init__(self, readings: Readings, grid: int, models: int) -> None:
        super().__init__()
        self.patches = grid // PATCH
        self.embedding = nn.Embedding(256, EMBEDDED) if readings.dtype == np.uint8 else None
        self.patch = nn.Linear(PATCH * (EMBEDDED if self.embedding else 1), CHANNELS[0])
        self.middle = nn.Linear(2 * CHANNELS[0], CHANNELS[1])
        self.last = nn.Linear(2 * CHANNELS[1], models)

    def forward(self, samples: Tensor) -> Tensor:
        """Log-odds ``[N, M]`` of samples ``[N, grid]``: whole numbers for bytes, real ones from -1 to 1."""
        value = samples if self.embedding is None else self.embedding(samples)
        value = F.relu(self.patch(value.reshape(len(samples), self.patches, -1)))
        value = F.relu(self.middle(value.reshape(len(samples), self.patches // 2, -1)))
        odds: Tensor = self.last(torch.cat([value.mean(1), value.amax(1)], 1))
        return odds

    def weights(self) -> dict[str, Tensor]:
        """Of bytes with their embedding."""
        found = {} if self.embedding is None else {"embedding": self.embedding.weight}
        return found | self.layers("patch", "middle", "last")


def _as_input(readings: Readings) -> Tensor:
    samples = torch.from_numpy(np.array(readings))
    if readings.dtype == np.uint8:
        return samples.long()
    return samples.float() / 32768 if readings.dtype == np.int16 else samples
