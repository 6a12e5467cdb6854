"""Scout: a tiny convolutional network that looks at the pixels the features read and guesses who is right.

It learns from outcomes, one output per model (is its answer right?), and costs a few microseconds. Its
log-odds are features like any other: tuning decides whether they earn their cost. Where later stages learn
from the same samples, they take :func:`out_of_fold` log-odds, from scouts that did not see the sample's
original (stacking, Wolpert 1992).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.model_selection import GroupKFold
from torch import Tensor, nn
from torch.nn import functional as F

from training.features.operators import OperatorList
from zoo.errors import DataError
from zoo.models.model import open_session

PREFIX = "scout_"
CHANNELS = (24, 32)
PATCHES_PER_AXIS = 8  # patches per axis of the first layer
FOLDS = 3
MAX_ROWS = 8000  # rows that one scout learns from
SAMPLES_SHOWN = 48_000  # samples shown in training, repetitions counted: a bound on the time
MAX_EPOCHS = 40
_BATCH = 64
_RATE, _DECAY = 5e-3, 1e-2
_METADATA = "models"

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Scout:
    """A trained scout.

    Parameters
    ----------
    models
        The M models, in the order of the outputs.
    grid
        Pixels per axis.
    weights
        ``patch`` ``[24, 1, p, 3 p]``, ``middle`` ``[32, 24, 3, 3]``, ``last`` ``[32, M]``, each with its
        ``*_bias``; for pixels on the scale 0..255, channels side by side as columns.
    """

    models: tuple[str, ...]
    grid: int
    weights: dict[str, Floats]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its features."""
        return tuple(f"{PREFIX}{name}" for name in self.models)

    def append_to(self, operators: OperatorList, pixels: str) -> str:
        """Append the network; `pixels` is a value float32 ``[N, 1, grid, 3 * grid]``. Log-odds ``[N, M]``."""
        g, size = operators, self.grid // PATCHES_PER_AXIS
        w = {name: g.constant(value, name=f"{PREFIX}{name}") for name, value in self.weights.items()}
        value = g.add("Conv", pixels, w["patch"], w["patch_bias"], strides=[size, 3 * size])
        value = g.add(
            "Conv", g.add("Relu", value), w["middle"], w["middle_bias"], strides=[2, 2], pads=[1, 1, 1, 1]
        )
        mean = g.add("Flatten", g.add("GlobalAveragePool", g.add("Relu", value)))
        return g.add("Gemm", mean, w["last"], w["last_bias"])

    def to_onnx(self) -> bytes:
        """The graph ``pixels`` uint8 ``[N, grid, grid, 3]`` → ``log_odds`` float32 ``[N, M]``, to store."""
        g = OperatorList()
        flat = g.add("Reshape", "pixels", g.constant([0, 1, self.grid, 3 * self.grid]))
        output = self.append_to(g, g.add("Cast", flat, to=TensorProto.FLOAT))
        shape: list[str | int | None] = ["N", self.grid, self.grid, 3]
        model = g.to_onnx(
            [helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape)],
            {"log_odds": (output, len(self.models))},
        )
        helper.set_model_props(model, {_METADATA: "\n".join(self.models)})
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    @classmethod
    def from_onnx(cls, content: bytes) -> Scout:
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
            return cls(tuple(properties[_METADATA].split("\n")), grid, weights)
        except Exception as error:  # protobuf raises classes of its own
            raise DataError(
                f"expected the ONNX graph of a scout, got: {str(error)[:200]!r}. Run 'zooselect fit' again."
            ) from error

    def log_odds(self, pixels: Pixels) -> Floats:
        """Log-odds float32 ``[n, M]`` that each model is right, of pixels uint8 ``[n, grid, grid, 3]``."""
        _check_pixels(pixels, self.grid)
        parts = [
            self._session.run(["log_odds"], {"pixels": np.ascontiguousarray(pixels[i : i + 1024])})[0]
            for i in range(0, len(pixels), 1024)
        ]
        return np.concatenate([np.empty((0, len(self.models)), np.float32), *parts])

    @cached_property
    def _session(self) -> ort.InferenceSession:
        return open_session(self.to_onnx(), name="scout")


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
    _check_pixels(pixels, grid)
    if right.shape != (len(pixels), len(models)) or not len(pixels):
        raise DataError(
            f"expected correctness [{len(pixels)}, {len(models)}] of at least one image, "
            f"got {list(right.shape)}. Give rows of the same samples."
        )
    if len(pixels) > MAX_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(pixels), MAX_ROWS, replace=False))
        pixels, right = pixels[chosen], right[chosen]
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Network(grid, right)
        _train(network, _as_input(pixels), torch.from_numpy(right.astype(np.float32)))
    return Scout(tuple(models), grid, network.weights())


def out_of_fold(
    pixels: Pixels,
    right: NDArray[np.bool_],
    groups: NDArray[np.str_],
    models: Sequence[str],
    *,
    seed: int = 0,
) -> tuple[Floats, Scout]:
    """Log-odds ``[n, M]`` of samples, each from a scout that did not learn from its original; a scout of all.

    Parameters
    ----------
    pixels, right, models
        See :func:`fit_scout`.
    groups
        Originals ``[n]``; variants of one never fall into two folds.

    Raises
    ------
    DataError
        When there are fewer than three originals.
    """
    if len(set(groups.tolist())) < FOLDS:
        raise DataError(f"expected at least {FOLDS} originals to fit on. Give more labelled images.")
    odds = np.empty(right.shape, np.float32)
    for rest, held in GroupKFold(FOLDS).split(right, groups=groups):
        odds[held] = fit_scout(pixels[rest], right[rest], models, seed=seed).log_odds(pixels[held])
    return odds, fit_scout(pixels, right, models, seed=seed)


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


def _train(network: nn.Module, images: Tensor, right: Tensor) -> None:
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


def _check_pixels(pixels: Pixels, grid: int) -> None:
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (grid, grid, 3) or grid < 16 or grid % 16:
        raise DataError(
            f"expected pixels uint8 [n, {grid}, {grid}, 3] with a grid that is a multiple of 16, "
            f"got {pixels.dtype} {list(pixels.shape)}. Read them with load_pixels."
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    # sums of several threads end in other last digits each time
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
