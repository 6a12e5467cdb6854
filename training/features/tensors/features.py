"""Features of named arrays: the numbers of small arrays as they are, statistics of large ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from training.features.feature_kind import FeatureKind, Readings, ScoutLike, register_features
from training.features.tensors.pool import LIMIT, MAX_READ, MAX_WATCHED, names_of, places
from zoo.inputs.kind import InputKind, Size
from zoo.inputs.tensors import Rows, Tensors

if TYPE_CHECKING:
    from training.features.operators import OperatorList


@register_features("tensors")
class TensorFeatures(FeatureKind):
    """Numbers and statistics; read are all numbers, or some of them evenly spaced."""

    version: ClassVar[int] = 1
    has_scout: ClassVar[bool] = True

    def __init__(self, kind: InputKind) -> None:
        assert isinstance(kind, Tensors)
        super().__init__(kind)
        self.arrays = kind.arrays
        self._stage_of = {name: one.name for one in kind.arrays for name in names_of(one)}

    @property
    def names(self) -> tuple[str, ...]:
        """Of each array ``NAME`` or ``NAME i``, or ``NAME mean`` and so on."""
        return tuple(self._stage_of)

    @property
    def watched(self) -> tuple[str, ...]:
        """Some of them, evenly spaced."""
        names = self.names
        return names[:: math.ceil(len(names) / MAX_WATCHED)]

    def stages(self, name: str) -> frozenset[str]:
        """The array that it is of; a feature that the pool does not know comes from a scout."""
        return frozenset({self._stage_of.get(name, "scout")})

    def operators(self, names: Sequence[str], grid: int, scout: ScoutLike | None) -> tuple[OperatorList, str]:
        """See :func:`training.features.tensors.graph.tensor_operators`."""
        from training.features.tensors.graph import tensor_operators

        return tensor_operators(names, self.arrays, grid, scout)

    def grid_for(self, items: Sequence[Rows]) -> int:
        """All numbers, up to 1024."""
        return min(MAX_READ, self.kind.default_size[1])

    def reading(self, grid: int) -> tuple[tuple[int, ...], type[np.generic]]:
        """Real numbers."""
        return (grid,), np.float32

    def read(self, batch: Rows, grid: int) -> Readings:
        """The numbers float32 ``[N, grid]``, within ±1e6."""
        flat = [batch[one.name].reshape(len(batch), -1).astype(np.float64) for one in self.arrays]
        found: Readings = np.concatenate(flat, axis=1)[:, places(self.arrays, grid)]
        return found.clip(-LIMIT, LIMIT).astype(np.float32)

    def fit_scout(
        self, readings: Readings, right: NDArray[np.bool_], models: Sequence[str], *, seed: int = 0
    ) -> ScoutLike:
        """See :func:`training.features.tensors.scout_network.fit_tensor_scout`."""
        from training.features.tensors.scout_network import fit_tensor_scout

        return fit_tensor_scout(readings, right, models, seed=seed)

    def scout_from(self, content: bytes) -> ScoutLike:
        """See :meth:`training.features.scout.Scout.from_onnx`."""
        from training.features.tensors.scout import TensorScout

        return TensorScout.from_onnx(content)

    def timed_size(self, grid: int) -> Size:
        """That of every input."""
        return self.kind.default_size

    def synthetic(self) -> list[Rows]:
        """One input and several, with small and large numbers."""
        rng = np.random.default_rng(0)
        items = [self.kind.random(self.kind.default_size, rng) for _ in range(9)]
        return [self.kind.stack(items[:1]), self.kind.stack(items)]
