"""Training scouts on outcomes: what their networks share; see :mod:`training.features.scout`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from training.features.feature_kind import Readings
from training.features.scout import Floats, Scout
from zoo.errors import DataError

MAX_ROWS = 8000  # rows that one scout learns from
SAMPLES_SHOWN = 48_000  # samples shown in training, repetitions counted: a bound on the time
MAX_EPOCHS = 40
_BATCH = 64
_RATE, _DECAY = 5e-3, 1e-2


class ScoutNetwork(nn.Module):
    """What is trained: a network whose last layer is called ``last``."""

    last: nn.Linear

    def begin_at(self, right: NDArray[np.bool_]) -> None:
        """Begin at the share of right answers."""
        share = (right.sum(axis=0) + 1) / (len(right) + 2)
        with torch.no_grad():
            self.last.bias.copy_(torch.from_numpy(np.log(share / (1 - share))))

    def layers(self, *names: str) -> dict[str, Tensor]:
        """Weights ``[in, out]`` and biases of linear layers."""
        found: dict[str, Tensor] = {}
        for name in names:
            layer = getattr(self, name)
            found |= {name: layer.weight.T, f"{name}_bias": layer.bias}
        return found

    def weights(self) -> dict[str, Tensor]:
        """What a :class:`Scout` holds."""
        raise NotImplementedError


def fit_network(
    kind: type[Scout],
    make: Callable[[Readings, int, int], ScoutNetwork],
    as_input: Callable[[Readings], Tensor],
    readings: Readings,
    right: NDArray[np.bool_],
    models: Sequence[str],
    *,
    noun: str,
    seed: int,
) -> tuple[tuple[str, ...], int, dict[str, Floats]]:
    """Train on outcomes: multi-label binary cross-entropy, AdamW, one thread, a bounded time.

    Parameters
    ----------
    kind
        Whose :meth:`Scout.check` says what may be read.
    make
        The network, by what was read, the grid and the number of models.
    as_input
        What the network takes.
    readings
        What features read of n inputs; of more than 8000, that many are drawn.
    right
        Whether the answer is right ``[n, M]``.
    noun
        What an input is called.

    Raises
    ------
    DataError
        When the shapes do not fit together.
    """
    grid = kind.check(readings)
    if right.shape != (len(readings), len(models)) or not len(readings):
        raise DataError(
            f"expected correctness [{len(readings)}, {len(models)}] of at least one {noun}, "
            f"got {list(right.shape)}. Give rows of the same samples."
        )
    if len(readings) > MAX_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(readings), MAX_ROWS, replace=False))
        readings, right = readings[chosen], right[chosen]
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make(readings, grid, len(models))
        network.begin_at(right)
        _train(network, as_input(readings), torch.from_numpy(right.astype(np.float32)))
    weights = {
        name: np.array(value.detach().numpy(), np.float32, order="C")
        for name, value in network.weights().items()
    }
    return tuple(models), grid, weights


def _train(network: nn.Module, inputs: Tensor, right: Tensor) -> None:
    count = len(inputs)
    epochs = max(1, min(MAX_EPOCHS, SAMPLES_SHOWN // count))
    starts = [*range(0, max(1, count - _BATCH + 1), _BATCH), count]
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=epochs * (len(starts) - 1))
    for _ in range(epochs):
        order = torch.randperm(count)
        for first, end in pairwise(starts):
            batch = order[first : min(end, first + _BATCH)]
            loss = F.binary_cross_entropy_with_logits(network(inputs[batch]), right[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()


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
