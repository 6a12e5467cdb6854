"""The operators that compute components of the pixels read, stage by stage."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from training.features.components import (
    BANDS,
    CB,
    CONTRASTS,
    CORNERS,
    CR,
    HISTOGRAM,
    LOG_FLOOR,
    LOGS,
    LUMA,
    OUTLINE,
    PLANES,
    SIDE,
    SOFT,
    STAGE_OF,
    STAGES,
    stages_of,
)
from training.features.operators import OperatorList

_LAYOUT = 16  # channels in a block of ONNX Runtime's own layout of images


class ComponentGraph:
    """Appends the operators for `components` to an operator list.

    Parameters
    ----------
    operators
        Where the operators go.
    pixels
        Value float32 ``[N, 1, grid, 3 * grid]``, on the scale 0..255: the pixels that are read, channels side
        by side as columns, so that nothing has to be transposed.
    components
        Names among :data:`COMPONENTS` without :data:`SIZES`.
    grid
        Pixels read per axis.
    """

    def __init__(self, operators: OperatorList, pixels: str, components: Collection[str], grid: int) -> None:
        self._list = operators
        self._pixels = pixels
        self._wanted = set(components)
        self._plain = {LOGS.get(name, name) for name in components}  # before logarithms
        self._grid = grid
        self._planes = self._needed_planes()

    def parts(self) -> list[tuple[tuple[str, ...], str]]:
        """Pairs of component names and the value ``[N, K]`` that holds them."""
        parts = [
            (names, value)
            for stage in STAGES
            if self._plain & set(STAGES[stage])
            for names, value in [getattr(self, f"_{stage}")]
        ]
        found = [(names, value) for names, value in parts if self._wanted & set(names)]
        if self._wanted & set(LOGS):
            inside = {LOGS[name] for name in self._wanted & set(LOGS)}
            positive = [(names, value) for names, value in parts if inside & set(names)]
            found.append(self._logs(positive))
        return found

    def _needed_planes(self) -> tuple[str, ...]:
        needed = {"luma"} if stages_of(self._plain) & {"bands", "entropy", "outline"} else set()
        if "corners" in stages_of(self._plain):
            needed |= set(PLANES[1:3])
        for name in self._plain:
            if STAGE_OF[name] not in ("bands", "corners", "entropy", "outline"):
                needed.add(SOFT[name][0] if name in SOFT else name.rsplit("_", 1)[1])
        return tuple(plane for plane in PLANES if plane in needed)

    def _named(self, prefix: str) -> tuple[str, ...]:
        return tuple(f"{prefix}_{plane}" for plane in self._planes)

    @cached_property
    def _fine(self) -> str:
        """Planes ``[N, P, grid / 2, grid / 2]``, one value a cell."""
        g = self._list
        luma, blue, red = (np.array(weights) / 255 for weights in (LUMA, CB, CR))
        kernels = {plane: haar[:, :, None] * luma for plane, haar in zip(PLANES[:4], _haar(), strict=True)}
        kernels |= {"blue": _haar()[0][:, :, None] * blue, "red": _haar()[0][:, :, None] * red}
        weights = np.stack([kernels[plane] for plane in self._planes])
        return g.add("Conv", self._pixels, g.constant(weights.reshape(-1, 1, 2, 6)), strides=[2, 6])

    @cached_property
    def _magnitude(self) -> str:
        return self._list.add("Abs", self._fine) if self._planes != ("luma",) else self._fine

    @cached_property
    def _blocks_4x4(self) -> str:
        # means of neighbours in a row, then a product for rows and blocks: faster than means twice, and than
        # pooling; a product alone would hold weights of all pixels
        g, cells, planes = self._list, self._grid // 2, len(self._planes)
        columns = g.add("Reshape", self._magnitude, g.constant([0, planes * cells * SIDE, cells // SIDE]))
        columns = g.add("ReduceMean", columns, g.constant([2]), keepdims=0)
        of_row = np.kron(np.eye(SIDE), np.full((cells // SIDE, 1), SIDE / cells))  # [cells, SIDE]
        flat = g.add("Reshape", columns, g.constant([0, planes, cells * SIDE]))
        return g.add("MatMul", flat, g.constant(np.kron(of_row, np.eye(SIDE))))

    @cached_property
    def _centre(self) -> str:
        return self._list.add("ReduceMean", self._fine, self._list.constant([2, 3]), keepdims=1)

    @cached_property
    def _mean(self) -> tuple[tuple[str, ...], str]:
        return self._named("mean"), self._list.add("Flatten", self._centre)

    @cached_property
    def _std(self) -> tuple[tuple[str, ...], str]:
        # from the centred plane: the difference of two means would be nothing but rounding on flat images
        return self._named("std"), self._deviation(self._list.add("Sub", self._fine, self._centre), [2, 3])

    @cached_property
    def _spread(self) -> tuple[tuple[str, ...], str]:
        g, blocks = self._list, self._blocks_4x4
        off = g.add("Sub", blocks, g.add("ReduceMean", blocks, g.constant([2]), keepdims=1))
        return self._named("blockstd"), self._deviation(off, [2])

    @cached_property
    def _shares(self) -> tuple[tuple[str, ...], str]:
        wanted = self._plain | (set(HISTOGRAM) if "entropy" in self._plain else set())
        names = tuple(name for name in SOFT if name in wanted)
        weights = np.zeros((_padded(len(names)), len(self._planes), 1, 1))
        offsets = np.zeros(len(weights))
        for row, name in enumerate(names):
            plane, threshold, half = SOFT[name]
            weights[row, self._planes.index(plane)] = 1 / (2 * half)
            offsets[row] = 0.5 - threshold / (2 * half)
        padding = ("",) * (len(weights) - len(names))
        return (*names, *padding), self._soft(self._magnitude, weights, offsets)

    @cached_property
    def _blocks(self) -> tuple[tuple[str, ...], str]:
        needed = self._plain | {name[4:] for name in self._plain & set(STAGES["differences"])}
        names = tuple(name for name in STAGES["blocks"] if name in needed)
        weights = np.zeros((len(self._planes), SIDE * SIDE, len(names)))
        for column, name in enumerate(names):
            product, plane = name.rsplit("_", 1)
            weights[self._planes.index(plane), :, column] = CONTRASTS[product].ravel()
        flat = self._list.add("Flatten", self._blocks_4x4)
        return names, self._list.add("MatMul", flat, self._list.constant(weights.reshape(-1, len(names))))

    @cached_property
    def _differences(self) -> tuple[tuple[str, ...], str]:
        names, value = self._blocks
        return tuple(f"abs_{name}" for name in names), self._list.add("Abs", value)

    @cached_property
    def _extremes(self) -> tuple[tuple[str, ...], str]:
        g = self._list
        wanted = [end for end in ("max", "min") if self._plain & set(self._named(end))]
        ends = [
            g.add(f"Reduce{end.title()}", self._blocks_4x4, g.constant([2]), keepdims=0) for end in wanted
        ]
        return tuple(name for end in wanted for name in self._named(end)), self._joined(ends)

    @cached_property
    def _entropy(self) -> tuple[tuple[str, ...], str]:
        g = self._list
        names, shares = self._shares
        bins = np.zeros((len(names), 8))  # shares above 7 thresholds → minus the shares of 8 bins
        for i, name in enumerate(HISTOGRAM):
            bins[names.index(name), i], bins[names.index(name), i + 1] = 1, -1
        negative = g.add("Gemm", shares, g.constant(bins), g.constant(-np.eye(1, 8)[0]))
        logs = g.add("Log", g.add("Sub", g.constant(1e-3), negative))
        return ("entropy",), g.add("ReduceSum", g.add("Mul", negative, logs), g.constant([1]), keepdims=1)

    @cached_property
    def _corners(self) -> tuple[tuple[str, ...], str]:
        g = self._list
        upright, level = (self._one_plane(self._magnitude, plane) for plane in PLANES[1:3])
        both = g.add("Min", upright, level)
        weights = np.zeros((_padded(len(CORNERS)), 1, 1, 1))
        offsets = np.zeros(len(weights))
        for row, (threshold, half) in enumerate(CORNERS.values()):
            weights[row], offsets[row] = 1 / (2 * half), 0.5 - threshold / (2 * half)
        padding = ("",) * (len(weights) - len(CORNERS))
        return (*CORNERS, *padding), self._soft(both, weights, offsets)

    @cached_property
    def _outline(self) -> tuple[tuple[str, ...], str]:
        # the bright part of the image as a soft mask, its area, and the length of its border per cell
        g = self._list
        luma = self._one_plane(self._fine, "luma")
        mean = g.add("ReduceMean", luma, g.constant([2, 3]), keepdims=1)
        mask = g.add("Add", g.add("Mul", g.add("Sub", luma, mean), g.constant(8.0)), g.constant(0.5))
        mask = self._clip(mask)
        steps = np.array([[[1.0, -1], [0, 0]], [[1, 0], [-1, 0]]]).reshape(2, 1, 2, 2)
        border = g.add("Abs", g.add("Conv", mask, g.constant(steps)))
        values = [
            g.add("ReduceMean", value, g.constant(axes), keepdims=0)
            for value, axes in ((mask, [2, 3]), (border, [2, 3]))
        ]
        values[1] = g.add("ReduceMean", values[1], g.constant([1]), keepdims=1)
        return OUTLINE, g.add("Concat", *values, axis=1)

    @cached_property
    def _bands(self) -> tuple[tuple[str, ...], str]:
        g = self._list
        kernels = g.constant(np.stack(_haar())[:, np.newaxis])
        coarse = any(name.startswith("band_coarse") for name in self._plain)
        value, means, names = self._one_plane(self._fine, "luma"), [], []
        for band in BANDS[1:] if coarse else BANDS[1:2]:
            value = g.add("Conv", value, kernels, strides=[2, 2])
            means.append(g.add("ReduceMean", g.add("Abs", value), g.constant([2, 3]), keepdims=0))
            names += [f"band_{band}_{plane}" for plane in PLANES[:4]]
            if band == BANDS[1] and coarse:
                value = g.add("Slice", value, *(g.constant([i]) for i in (0, 1, 1)))
        return tuple(names), g.add("Concat", *means, axis=1) if coarse else means[0]

    def _logs(self, positive: Sequence[tuple[tuple[str, ...], str]]) -> tuple[tuple[str, ...], str]:
        g = self._list
        of = {inside: name for name, inside in LOGS.items()}
        names = tuple(of.get(name, "") for part, _ in positive for name in part)
        value = self._joined([value for _, value in positive])
        if "" in names:  # contrasts between the positive numbers: nobody reads their logarithm, it must exist
            value = g.add("Abs", value)
        return names, g.add("Log", g.add("Add", value, g.constant(LOG_FLOOR)))

    def _joined(self, values: Sequence[str]) -> str:
        return values[0] if len(values) == 1 else self._list.add("Concat", *values, axis=1)

    def _one_plane(self, planes: str, plane: str) -> str:
        if len(self._planes) == 1:
            return planes
        g, index = self._list, self._planes.index(plane)
        return g.add("Slice", planes, *(g.constant([i]) for i in (index, index + 1, 1)))

    def _soft(self, planes: str, weights: NDArray[np.float64], offsets: NDArray[np.float64]) -> str:
        # soft, so that the share does not jump when a value crosses the threshold by rounding
        g = self._list
        lines = g.add("Conv", planes, g.constant(weights), g.constant(offsets))
        # this operator, unlike ReduceMean, reads the layout that ONNX Runtime's convolutions write
        return g.add("Flatten", g.add("GlobalAveragePool", self._clip(lines)))

    def _clip(self, value: str) -> str:
        return self._list.add("Clip", value, self._list.constant(0.0), self._list.constant(1.0))

    def _deviation(self, centred: str, axes: list[int]) -> str:
        g = self._list
        variance = g.add("ReduceMean", g.add("Mul", centred, centred), g.constant(axes), keepdims=0)
        return g.add("Sqrt", g.add("Add", variance, g.constant(1e-6)))


def _padded(channels: int) -> int:
    """Channels that ONNX Runtime's own layout of images holds without reordering them."""
    return -(-channels // _LAYOUT) * _LAYOUT


def _haar() -> list[NDArray[np.float64]]:
    kernels = [[[1, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]]
    return [np.array(kernel) / 4 for kernel in kernels]
