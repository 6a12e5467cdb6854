"""Features of signals: length, moments, crossings, bands; of bytes also their histogram and its entropy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from training.features.feature_kind import FeatureKind, Readings, ScoutLike, register_features
from training.features.signal.pool import STAGES
from training.features.signal.reading import grid_of, read_signals, windows_of
from zoo.inputs.kind import InputKind
from zoo.inputs.signal import Signal

if TYPE_CHECKING:
    from training.features.operators import OperatorList

_STAGE_OF = {name: stage for stage, names in STAGES.items() for name in names}
_WATCHED_BYTES = (
    *("log_length", "entropy", "zero_share", "line_end_share", "lower_case_share", "distinct_values"),
    *("band_1_energy", "log_std"),
)
_WATCHED_SAMPLES = (
    *("log_length", "log_std", "peakedness", "crossing_rate"),
    *(f"band_{i}_energy" for i in range(1, 6)),
)


@register_features("signal")
class SignalFeatures(FeatureKind):
    """The pool of signals, on some samples in windows over the length."""

    version: ClassVar[int] = 1
    has_scout: ClassVar[bool] = True

    def __init__(self, kind: InputKind) -> None:
        assert isinstance(kind, Signal)
        super().__init__(kind)
        self.type = kind.type
        self.windows = windows_of(kind.type)

    @property
    def names(self) -> tuple[str, ...]:
        """All features; those of histograms are of bytes alone."""
        return tuple(
            name
            for stage, names in STAGES.items()
            for name in names
            if stage != "histogram" or self.type == "uint8"
        )

    @property
    def watched(self) -> tuple[str, ...]:
        """Length, level, bands; of bytes what they are made of."""
        return _WATCHED_BYTES if self.type == "uint8" else _WATCHED_SAMPLES

    def stages(self, name: str) -> frozenset[str]:
        """The one stage that computes it; a feature that the pool does not know comes from a scout."""
        return frozenset({_STAGE_OF.get(name, "scout")})

    def operators(self, names: Sequence[str], grid: int, scout: ScoutLike | None) -> tuple[OperatorList, str]:
        """See :func:`training.features.signal.graph.signal_operators`."""
        from training.features.signal.graph import signal_operators

        return signal_operators(names, self.names, grid, self.type, scout)

    def grid_for(self, items: Sequence[NDArray[Any]]) -> int:
        """As many samples for all."""
        return grid_of(self.type)

    def reading(self, grid: int) -> tuple[tuple[int, ...], type[np.generic]]:
        """Samples."""
        return (grid,), np.dtype(self.type).type

    def read(self, batch: NDArray[Any], grid: int) -> Readings:
        """The samples of the windows."""
        return read_signals(batch, grid, self.windows)

    def fit_scout(
        self, readings: Readings, right: NDArray[np.bool_], models: Sequence[str], *, seed: int = 0
    ) -> ScoutLike:
        """See :func:`training.features.signal.scout_network.fit_signal_scout`."""
        from training.features.signal.scout_network import fit_signal_scout

        return fit_signal_scout(readings, right, models, seed=seed)

    def scout_from(self, content: bytes) -> ScoutLike:
        """See :meth:`training.features.signal.scout.SignalScout.from_onnx`."""
        from training.features.signal.scout import SignalScout

        return SignalScout.from_onnx(content)
