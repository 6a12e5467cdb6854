"""Scout: a tiny network that looks at what the features read and guesses which models are right.

It learns from outcomes, one output per model (is its answer right?), and costs a few microseconds. Its
log-odds are features like any other: tuning decides whether they earn their cost. Where later stages learn
from the same samples, they take log-odds out of fold, from scouts that did not see the sample's original
(stacking, Wolpert 1992; :func:`training.search.input_fit.out_of_fold`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Self

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from training.features.feature_kind import Readings
from training.features.operators import OperatorList
from zoo.errors import DataError
from zoo.models.session import open_session

PREFIX = "scout_"
MAX_ROWS = 8000  # rows that one scout learns from
SAMPLES_SHOWN = 48_000  # samples shown in training, repetitions counted: a bound on the time
MAX_EPOCHS = 40
_BATCH = 64
_RATE, _DECAY = 5e-3, 1e-2
_METADATA = "models"

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Scout(ABC):
    """A trained scout; each kind of input has a class of its own.

    Parameters
    ----------
    models
        The M models, in the order of the outputs.
    grid
        How finely inputs are read, as their features say.
    weights
        Of each layer, each with its ``*_bias``.
    """

    models: tuple[str, ...]
    grid: int
    weights: dict[str, Floats]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its features."""
        return tuple(f"{PREFIX}{name}" for name in self.models)

    @abstractmethod
    def append_to(self, operators: OperatorList, readings: str) -> str:
        """Append the network to operators that have what it reads as a value; log-odds ``[N, M]``."""

    @property
    @abstractmethod
    def reading(self) -> onnx.ValueInfoProto:
        """The input of the stored graph: what features read, as a profile keeps it."""

    @property
    def properties(self) -> Mapping[str, str]:
        """What is stored beside the weights."""
        return {}

    def from_reading(self, operators: OperatorList, name: str) -> str:
        """The value that :meth:`append_to` takes, from the input of the stored graph."""
        return name

    @classmethod
    def restored(
        cls, models: tuple[str, ...], grid: int, weights: dict[str, Floats], properties: Mapping[str, str]
    ) -> Self:
        """The scout out of what was stored."""
        return cls(models, grid, weights)

    @classmethod
    @abstractmethod
    def check(cls, readings: Readings, grid: int | None = None) -> int:
        """The grid of what was read; raises :class:`DataError` for what a scout, of `grid`, cannot read."""

    def constants(self, operators: OperatorList) -> dict[str, str]:
        """The weights as constants of a graph."""
        return {
            name: operators.constant(value, name=f"{PREFIX}{name}") for name, value in self.weights.items()
        }

    def to_onnx(self) -> bytes:
        """The graph of :attr:`reading` → ``log_odds`` float32 ``[N, M]``, to store."""
        g = OperatorList()
        output = self.append_to(g, self.from_reading(g, self.reading.name))
        model = g.to_onnx([self.reading], {"log_odds": (output, len(self.models))})
        helper.set_model_props(model, {_METADATA: "\n".join(self.models), **self.properties})
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    @classmethod
    def from_onnx(cls, content: bytes) -> Self:
        """Read what :meth:`to_onnx` wrote; raises :class:`DataError` for anything else."""
        try:
            model = onnx.load_from_string(content)
            properties = {item.key: item.value for item in model.metadata_props}
            weights = {
                item.name.removeprefix(PREFIX): np.array(numpy_helper.to_array(item))
                for item in model.graph.initializer
                if item.name.startswith(PREFIX)
            }
            grid = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
            return cls.restored(tuple(properties[_METADATA].split("\n")), grid, weights, properties)
        except Exception as error:  # protobuf raises classes of its own
            raise DataError(
                f"expected the ONNX graph of a scout, got: {str(error)[:200]!r}. Run 'zooselect fit' again."
            ) from error

    def log_odds(self, readings: Readings) -> Floats:
        """Log-odds float32 ``[n, M]`` that each model is right, of what was read of n inputs."""
        self.check(readings, self.grid)
        parts = [
            self._session.run(
                ["log_odds"], {self.reading.name: np.ascontiguousarray(readings[i : i + 1024])}
            )[0]
            for i in range(0, len(readings), 1024)
        ]
        return np.concatenate([np.empty((0, len(self.models)), np.float32), *parts])

    @cached_property
    def _session(self) -> ort.InferenceSession:
        return open_session(self.to_onnx(), name="scout")


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
