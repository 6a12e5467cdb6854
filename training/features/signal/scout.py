"""A scout of signals: a tiny one-dimensional network; see :mod:`training.features.scout`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional as F

from training.features.feature_kind import Readings
from training.features.operators import OperatorList
from training.features.scout import Floats, Scout, ScoutNetwork, fit_network
from zoo.errors import DataError

PATCH = 8  # samples
EMBEDDED = 6  # numbers that a byte becomes
CHANNELS = (24, 32)
_TYPE = "type"
_SCALES = {"int16": 1 / 32768, "float32": 1.0}


@dataclass(frozen=True, eq=False)
class SignalScout(Scout):
    """Weights: ``embedding`` ``[256, 6]`` for bytes, ``patch`` ``[8 · 6 or 8, 24]``, ``middle``, ``last``."""

    kind: str = "uint8"  # type of a sample

    def append_to(self, operators: OperatorList, readings: str) -> str:
        """`readings` are samples ``[N, grid]``."""
        g, patches = operators, self.grid // PATCH
        w = self.constants(g)
        if self.kind == "uint8":
            value = g.add("Gather", w["embedding"], g.add("Cast", readings, to=TensorProto.INT32), axis=0)
        else:
            value = g.add("Cast", readings, to=TensorProto.FLOAT)
            value = g.add("Mul", value, g.constant(_SCALES[self.kind]))
        value = g.add("Reshape", value, g.constant([0, patches, len(self.weights["patch"])]))
        value = g.add("Relu", g.add("Add", g.add("MatMul", value, w["patch"]), w["patch_bias"]))
        value = g.add("Reshape", value, g.constant([0, patches // 2, 2 * CHANNELS[0]]))
        value = g.add("Relu", g.add("Add", g.add("MatMul", value, w["middle"]), w["middle_bias"]))
        found = [g.add(kind, value, g.constant([1]), keepdims=0) for kind in ("ReduceMean", "ReduceMax")]
        return g.add("Gemm", g.add("Concat", *found, axis=1), w["last"], w["last_bias"])

    @property
    def reading(self) -> onnx.ValueInfoProto:
        """``signal`` ``[N, grid]``."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.kind))
        return helper.make_tensor_value_info("signal", kind, ["N", self.grid])

    @property
    def properties(self) -> Mapping[str, str]:
        """The type of a sample."""
        return {_TYPE: self.kind}

    @classmethod
    def restored(
        cls, models: tuple[str, ...], grid: int, weights: dict[str, Floats], properties: Mapping[str, str]
    ) -> Self:
        """With the type of a sample."""
        return cls(models, grid, weights, properties[_TYPE])

    @classmethod
    def check(cls, readings: Readings, grid: int | None = None) -> int:
        """Samples ``[n, grid]``."""
        wanted = grid or (readings.shape[1] if readings.ndim == 2 else 0)
        if readings.shape[1:] != (wanted,) or wanted < 2 * PATCH or wanted % (2 * PATCH):
            raise DataError(
                f"expected samples [n, {wanted}] with a grid that is a multiple of {2 * PATCH}, "
                f"got {readings.dtype} {list(readings.shape)}. Read them with load_pixels."
            )
        return wanted


def fit_signal_scout(
    readings: Readings, right: NDArray[np.bool_], models: Sequence[str], *, seed: int = 0
) -> SignalScout:
    """Train a scout on samples ``[n, grid]``; see :func:`training.features.scout.fit_network`."""
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
