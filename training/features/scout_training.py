"""Training a scout on outcomes; see :mod:`training.features.scout`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from training.features.scout import CHANNELS, PATCHES_PER_AXIS, Floats, Pixels, Scout, check_pixels
from zoo.errors import DataError

MAX_ROWS = 8000  # rows that one scout learns from
SAMPLES_SHOWN = 48_000  # samples shown in training, repetitions counted: a bound on the time
MAX_EPOCHS = 40
_BATCH = 64
_RATE, _DECAY = 5e-3, 1e-2


def fit_scout(pixels: Pixels, right: NDArray[np.bool_], models: Sequence[str], *, seed: int = 0) -> Scout:
    """Train a scout on outcomes: multi-label binary cross-entropy, AdamW, one thread, a bounded time.

    Parameters
    ----------
    pixels
        uint8 ``[n, grid, grid, 3]``; of more than 8000, that many are drawn.
    right
        Whether the answer is right ``[n, M]``.
    models
        Names of the M models.

    Raises
    ------
    DataError
        When the shapes do not fit together.
    """
    grid = pixels.shape[1] if pixels.ndim == 4 else 0
    check_pixels(pixels, grid)
    if right.shape != (len(pixels), len(models)) or not len(pixels):
        raise DataError(
            f"expected correctness [{len(pixels)}, {len(models)}] of at least one image, "
            f"got {list(right.shape)}. Give rows of the same samples."
        )
    if len(pixels) > MAX_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(pixels), MAX_ROWS, replace=False))
        pixels, right = pixels[chosen], right[chosen]
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Network(grid, right)
        train_scout(network, _as_input(pixels), torch.from_numpy(right.astype(np.float32)))
    return Scout(tuple(models), grid, network.weights())


class _Network(nn.Module):
    def __init__(self, grid: int, right: NDArray[np.bool_]) -> None:
        super().__init__()
        self.size = grid // PATCHES_PER_AXIS
        self.patch = nn.Conv2d(3, CHANNELS[0], self.size, self.size)
        self.middle = nn.Conv2d(*CHANNELS, 3, 2, 1)
        self.last = nn.Linear(CHANNELS[1], right.shape[1])
        share = (right.sum(axis=0) + 1) / (len(right) + 2)
        with torch.no_grad():  # begin at the share of right answers
            self.last.bias.copy_(torch.from_numpy(np.log(share / (1 - share))))

    def forward(self, images: Tensor) -> Tensor:
        """Log-odds ``[N, M]`` of images float32 ``[N, 3, grid, grid]`` from -0.5 to 0.5."""
        maps = F.relu(self.middle(F.relu(self.patch(images))))
        odds: Tensor = self.last(maps.mean((2, 3)))
        return odds

    def weights(self) -> dict[str, Floats]:
        """What :class:`Scout` holds."""
        patch = self.patch.weight.permute(0, 2, 3, 1).reshape(CHANNELS[0], 1, self.size, 3 * self.size)
        assert self.patch.bias is not None
        assert self.middle.bias is not None
        found = {
            "patch": patch / 255,
            "patch_bias": self.patch.bias - 0.5 * self.patch.weight.sum((1, 2, 3)),
            "middle": self.middle.weight,
            "middle_bias": self.middle.bias,
            "last": self.last.weight.T,
            "last_bias": self.last.bias,
        }
        return {name: value.detach().numpy().copy() for name, value in found.items()}


def train_scout(network: nn.Module, images: Tensor, right: Tensor) -> None:
    """Train a network on inputs and on which models are right ``[n, M]``, for a bounded time."""
    count = len(images)
    epochs = max(1, min(MAX_EPOCHS, SAMPLES_SHOWN // count))
    starts = [*range(0, max(1, count - _BATCH + 1), _BATCH), count]
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=epochs * (len(starts) - 1))
    for _ in range(epochs):
        order = torch.randperm(count)
        for first, end in pairwise(starts):
            batch = order[first : min(end, first + _BATCH)]
            loss = F.binary_cross_entropy_with_logits(network(images[batch]), right[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()


def _as_input(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 255 - 0.5


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch works in one thread."""
    # sums of several threads end in other last digits each time
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
