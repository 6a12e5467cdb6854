"""Training a scout of signals on outcomes; see :mod:`training.features.scout_training`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from training.features.feature_kind import Readings
from training.features.scout import Floats
from training.features.scout_training import MAX_ROWS, one_thread, train_scout
from training.features.signal.scout import CHANNELS, EMBEDDED, PATCH, SignalScout, check_samples
from zoo.errors import DataError


def fit_signal_scout(
    readings: Readings, right: NDArray[np.bool_], models: Sequence[str], *, seed: int = 0
) -> SignalScout:
    """Train a scout on outcomes: multi-label binary cross-entropy, AdamW, one thread, a bounded time.

    Parameters
    ----------
    readings
        Samples ``[n, grid]``; of more than 8000 rows, that many are drawn.
    right
        Whether the answer is right ``[n, M]``.
    models
        Names of the M models.

    Raises
    ------
    DataError
        When the shapes do not fit together.
    """
    grid = readings.shape[1] if readings.ndim == 2 else 0
    check_samples(readings, grid)
    if right.shape != (len(readings), len(models)) or not len(readings):
        raise DataError(
            f"expected correctness [{len(readings)}, {len(models)}] of at least one signal, "
            f"got {list(right.shape)}. Give rows of the same samples."
        )
    if len(readings) > MAX_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(readings), MAX_ROWS, replace=False))
        readings, right = readings[chosen], right[chosen]
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Network(grid, str(readings.dtype), right)
        train_scout(network, _as_input(readings), torch.from_numpy(right.astype(np.float32)))
    return SignalScout(tuple(models), grid, str(readings.dtype), network.weights())


class _Network(nn.Module):
    def __init__(self, grid: int, kind: str, right: NDArray[np.bool_]) -> None:
        super().__init__()
        self.patches = grid // PATCH
        self.embedding = nn.Embedding(256, EMBEDDED) if kind == "uint8" else None
        self.patch = nn.Linear(PATCH * (EMBEDDED if self.embedding else 1), CHANNELS[0])
        self.middle = nn.Linear(2 * CHANNELS[0], CHANNELS[1])
        self.last = nn.Linear(2 * CHANNELS[1], right.shape[1])
        share = (right.sum(axis=0) + 1) / (len(right) + 2)
        with torch.no_grad():  # begin at the share of right answers
            self.last.bias.copy_(torch.from_numpy(np.log(share / (1 - share))))

    def forward(self, samples: Tensor) -> Tensor:
        """Log-odds ``[N, M]`` of samples ``[N, grid]``: whole numbers for bytes, real ones from -1 to 1."""
        value = samples if self.embedding is None else self.embedding(samples)
        value = F.relu(self.patch(value.reshape(len(samples), self.patches, -1)))
        value = F.relu(self.middle(value.reshape(len(samples), self.patches // 2, -1)))
        odds: Tensor = self.last(torch.cat([value.mean(1), value.amax(1)], 1))
        return odds

    def weights(self) -> dict[str, Floats]:
        """What :class:`SignalScout` holds."""
        found = {} if self.embedding is None else {"embedding": self.embedding.weight}
        for name in ("patch", "middle", "last"):
            layer = getattr(self, name)
            found |= {name: layer.weight.T, f"{name}_bias": layer.bias}
        return {name: np.ascontiguousarray(value.detach().numpy()) for name, value in found.items()}


def _as_input(readings: Readings) -> Tensor:
    samples = torch.from_numpy(np.array(readings))
    if readings.dtype == np.uint8:
        return samples.long()
    return samples.float() / 32768 if readings.dtype == np.int16 else samples
