"""Input features as a torch module."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.features.feature_kind import ScoutLike
from training.features.kinds import features_of
from training.features.pool import NAMES
from zoo.inputs.kind import Batch, InputKind
from zoo.inputs.kinds import IMAGE


class InputFeatures(nn.Module):
    """Features of inputs as one module; the same operators as in their graph, run by torch.

    Parameters
    ----------
    names
        Which features, in which order; by default all of the pool.
    grid
        Pixels read per axis, a multiple of 16; of another kind of input what its features say.
    scout
        Where features named ``scout_<model>`` come from.
    kind
        The kind of input.

    Raises
    ------
    DataError
        For an unknown feature name or an unsuitable grid.
    """

    def __init__(
        self,
        names: Sequence[str] = NAMES,
        *,
        grid: int = 32,
        scout: ScoutLike | None = None,
        kind: InputKind = IMAGE,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.names = tuple(names)
        self.grid = grid
        self._operators, self._output = features_of(kind).operators(names, grid, scout)
        for name, value in self._operators.constants.items():
            self.register_buffer(name, torch.from_numpy(np.array(value)))

    def forward(self, image: Tensor) -> Tensor:
        """Features float32 ``[N, F]`` of images uint8 ``[N, H, W, 3]``."""
        return self._operators.run(dict(self.named_buffers()), image=image)[self._output]

    def of(self, batch: Batch) -> NDArray[np.float32]:
        """Features float32 ``[N, F]`` of a batch of any kind."""
        feeds = {name: torch.from_numpy(np.array(value)) for name, value in self.kind.feeds(batch).items()}
        with torch.inference_mode():
            values: NDArray[np.float32] = self._operators.run(dict(self.named_buffers()), **feeds)[
                self._output
            ].numpy()
        return values
