"""Features of images as the interface of all kinds has them; see :mod:`training.features.features`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from training.features.components import stages_of
from training.features.feature_kind import FeatureKind, Readings, ScoutLike, register_features
from training.features.grid import read_pixels
from training.features.pool import EARLIER, FEATURES, NAMES, POOL_VERSION
from zoo.inputs.kind import Size

if TYPE_CHECKING:
    import onnx

    from training.features.operators import OperatorList

LARGE_SIDE = 96  # from this median side on, features read a finer grid
SCOUT_STAGE = "scout"

# Light, contrast, colour, and detail of every kind, at little cost beyond that of reading the pixels.
WATCHED = (
    "log_brightness",
    "luma_std",
    "saturation",
    "hue_blue",
    "hue_red",
    "fine_diagonal_energy",
    "fine_vertical_energy",
    "fine_horizontal_energy",
    "noise_floor",
    "edge_peakedness",
)


@register_features("image")
class ImageFeatures(FeatureKind):
    """The pool of images, on a grid of pixels."""

    version: ClassVar[int] = POOL_VERSION
    earlier: ClassVar[Mapping[int, tuple[str, ...]]] = EARLIER
    has_scout: ClassVar[bool] = True

    @property
    def names(self) -> tuple[str, ...]:
        """All features of the pool."""
        return NAMES

    @property
    def watched(self) -> tuple[str, ...]:
        """Features that tell whether images have changed."""
        return WATCHED

    def stages(self, name: str) -> frozenset[str]:
        """A feature that the pool does not know comes from a scout."""
        return stages_of(FEATURES[name]) if name in FEATURES else frozenset({SCOUT_STAGE})

    def operators(self, names: Sequence[str], grid: int, scout: ScoutLike | None) -> tuple[OperatorList, str]:
        """See :func:`training.features.features.feature_operators`."""
        from training.features.features import feature_operators

        return feature_operators(names, grid, scout)

    def graph(self, names: Sequence[str], *, grid: int, scout: ScoutLike | None = None) -> onnx.ModelProto:
        """See :func:`training.features.features.feature_graph`."""
        from training.features.features import feature_graph

        return feature_graph(names, grid=grid, scout=scout)

    def grid_for(self, items: Sequence[NDArray[np.uint8]]) -> int:
        """32 pixels an axis; 64 where images are larger."""
        return 64 if np.median([min(image.shape[:2]) for image in items]) >= LARGE_SIDE else 32

    def reading(self, grid: int) -> tuple[tuple[int, ...], type[np.generic]]:
        """Pixels."""
        return (grid, grid, 3), np.uint8

    def read(self, batch: NDArray[np.uint8], grid: int) -> Readings:
        """See :func:`training.features.grid.read_pixels`."""
        return read_pixels(batch, grid)

    def fit_scout(
        self, readings: Readings, right: NDArray[np.bool_], models: Sequence[str], *, seed: int = 0
    ) -> ScoutLike:
        """See :func:`training.features.image.scout_network.fit_scout`."""
        from training.features.image.scout_network import fit_scout

        return fit_scout(readings, right, models, seed=seed)

    def scout_from(self, content: bytes) -> ScoutLike:
        """See :meth:`training.features.image.scout.ImageScout.from_onnx`."""
        from training.features.image.scout import ImageScout

        return ImageScout.from_onnx(content)

    def timed_size(self, grid: int) -> Size:
        """32×32 for grids up to 32, 224×224 for finer ones."""
        return (32, 32) if grid <= 32 else (224, 224)

    def synthetic(self) -> list[NDArray[np.uint8]]:
        """Images without order, flat ones, thin ones, and smooth ones with noise."""
        rng = np.random.default_rng(0)
        images: list[NDArray[np.uint8]] = [
            rng.integers(0, 256, (64, 32, 32, 3), dtype=np.uint8),
            np.zeros((1, 1, 1, 3), dtype=np.uint8),
            np.full((2, 5, 300, 3), 255, dtype=np.uint8),
        ]
        for height, width in ((224, 224), (97, 61)):
            slope = np.linspace(0, 255, height)[:, None, None] * np.linspace(0, 1, width)[None, :, None]
            light = rng.uniform(0.2, 1.0, (8, 1, 1, 3))
            smooth = slope[None] * light + rng.normal(0, 6, (8, height, width, 3))
            images.append(smooth.clip(0, 255).astype(np.uint8))
        return images
