"""The operators that compute features of signals, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from training.features.feature_kind import ScoutLike
from training.features.operators import OperatorList
from training.features.signal.pool import BANDS, BYTES, STAGES
from training.features.signal.reading import windows_of
from zoo.errors import DataError

_BLOCK = 2**BANDS
_FLOOR = 1e-3  # of levels and shares that a logarithm is taken of


def signal_operators(
    names: Sequence[str], pool: Sequence[str], grid: int, kind: str, scout: ScoutLike | None
) -> tuple[OperatorList, str]:
    """The operators of features, and the value float32 ``[N, F]`` that holds them.

    Parameters
    ----------
    names
        The F features, among those of `pool` and of the scout.
    grid
        Samples that are read.
    kind
        Type of a sample: ``uint8``, ``int16`` or ``float32``.
    """
    known = {*pool, *(scout.names if scout else ())}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        hint = "" if scout else "; features of a scout need it"
        raise DataError(f"expected features among {', '.join(pool)}{hint}; got {unknown or 'none'}.")
    if grid < 2 * _BLOCK or grid % (8 * _BLOCK):
        raise DataError(f"expected a grid that is a multiple of {8 * _BLOCK}, got {grid}.")
    if scout and scout.grid != grid:
        raise DataError(f"expected a scout for {grid} samples, got one for {scout.grid}. Fit again.")
    g = OperatorList()
    graph = _SignalGraph(g, grid, kind)
    parts: list[tuple[tuple[str, ...], str]] = []
    for stage, computed in STAGES.items():
        if stage != "length" and set(computed) & set(names):
            parts.append((computed, getattr(graph, f"_{stage}")))
    if scout and set(scout.names) & set(names):
        parts.append((scout.names, scout.append_to(g, graph.read)))
    if not parts:
        parts.append((STAGES["moments"], graph._moments))  # it carries the number of signals
    together = parts[0][1] if len(parts) == 1 else g.add("Concat", *(value for _, value in parts), axis=1)
    order = [name for part, _ in parts for name in part]
    output = g.add("MatMul", together, g.constant(_chosen(order, names)))
    if "log_length" in names:
        logs = g.add("Log", g.add("Cast", graph.length, to=TensorProto.FLOAT))
        of_length = g.add("Mul", logs, g.constant(_chosen(["log_length"], names)))
        output = g.add("Add", output, of_length)
    return g, output


def _chosen(order: Sequence[str], names: Sequence[str]) -> NDArray[np.float64]:
    return np.array([[float(one == name) for name in names] for one in order])


class _SignalGraph:
    """Values of the stages, each appended when it is first asked for."""

    def __init__(self, operators: OperatorList, grid: int, kind: str) -> None:
        self._list, self._grid, self._kind = operators, grid, kind
        self.length = operators.add("Shape", "signal", start=1, end=2)

    @cached_property
    def read(self) -> str:
        """Samples ``[N, grid]`` as they are; see :func:`training.features.signal.reading.places`."""
        g, windows = self._list, windows_of(self._kind)
        width = self._grid // windows
        room = g.add("Max", g.add("Sub", self.length, g.constant([width])), g.constant([0]))
        starts = g.add("Mul", g.constant(np.arange(windows)[:, np.newaxis]), room)
        starts = g.add("Div", starts, g.constant([windows - 1]))
        found = g.add("Mod", g.add("Add", starts, g.constant(np.arange(width)[np.newaxis])), self.length)
        return g.add("Gather", "signal", g.add("Reshape", found, g.constant([self._grid])), axis=1)

    @cached_property
    def _real(self) -> str:
        """Samples ``[N, grid]`` from -1 to 1, where sound is; bytes from 0 to 1."""
        g = self._list
        real = self.read if self._kind == "float32" else g.add("Cast", self.read, to=TensorProto.FLOAT)
        scale = {"uint8": 1 / 256, "int16": 1 / 32768}.get(self._kind)
        return real if scale is None else g.add("Mul", real, g.constant(scale))

    @cached_property
    def _mean(self) -> str:
        return self._list.add("ReduceMean", self._real, self._list.constant([1]), keepdims=1)

    @cached_property
    def _centred(self) -> str:
        return self._list.add("Sub", self._real, self._mean)

    @cached_property
    def _deviation(self) -> str:
        return self._spread(self._centred)

    @cached_property
    def _moments(self) -> str:
        g = self._list
        level = self._log(self._deviation)
        mean_size = g.add("ReduceMean", g.add("Abs", self._centred), g.constant([1]), keepdims=1)
        ends = [g.add(f"Reduce{end}", self._real, g.constant([1]), keepdims=1) for end in ("Max", "Min")]
        return g.add("Concat", self._mean, level, g.add("Sub", level, self._log(mean_size)), *ends, axis=1)

    @cached_property
    def _crossings(self) -> str:
        # soft signs, so that a sample near the mean does not make two runtimes differ
        g = self._list
        width = g.add("Add", g.add("Mul", self._deviation, g.constant(0.2)), g.constant(_FLOOR))
        signs = g.add("Clip", g.add("Div", self._centred, width), g.constant(-1.0), g.constant(1.0))
        ends = (g.constant([0]), g.constant([self._grid - 1])), (g.constant([1]), g.constant([self._grid]))
        left, right = (g.add("Slice", signs, *end, g.constant([1])) for end in ends)
        return g.add("ReduceMean", g.add("Abs", g.add("Sub", right, left)), g.constant([1]), keepdims=1)

    @cached_property
    def _blocked(self) -> str:
        g = self._list
        return g.add("Reshape", self._real, g.constant([0, self._grid // _BLOCK, _BLOCK]))

    @cached_property
    def _wavelets(self) -> str:
        return self._list.add("MatMul", self._blocked, self._list.constant(_haar()))

    @cached_property
    def _bands(self) -> str:
        g = self._list
        sizes = g.add("ReduceMean", g.add("Abs", self._wavelets), g.constant([1]), keepdims=0)
        return self._log(g.add("MatMul", sizes, g.constant(_band_means())))

    @cached_property
    def _blocks(self) -> str:
        g, blocks = self._list, self._grid // _BLOCK
        means = g.add("ReduceMean", self._blocked, g.constant([2]), keepdims=0)
        sizes = g.add("ReduceMean", g.add("Abs", self._wavelets), g.constant([2]), keepdims=0)
        spreads = [
            self._spread(g.add("Sub", value, g.add("ReduceMean", value, g.constant([1]), keepdims=1)))
            for value in (means, sizes)
        ]
        half = np.ones((blocks, 1)) / (blocks // 2)
        half[blocks // 2 :] *= -1
        ends = g.add("Abs", g.add("MatMul", means, g.constant(half)))
        return g.add("Concat", *map(self._log, spreads), ends, axis=1)

    @cached_property
    def _histogram(self) -> str:
        g = self._list
        rows = g.add("Concat", g.add("Shape", self.read, start=0, end=1), g.constant([256]), axis=0)
        empty = g.add("ConstantOfShape", rows, value=_one_value(0.0))
        counts = g.add("ConstantOfShape", g.add("Shape", self.read), value=_one_value(1 / self._grid))
        index = g.add("Cast", self.read, to=TensorProto.INT32)
        shares = g.add("ScatterElements", empty, index, counts, axis=1, reduction="add")
        classes = np.zeros((256, len(BYTES)))
        for column, values in enumerate(BYTES.values()):
            classes[list(values), column] = 1
        logs = g.add("Log", g.add("Add", shares, g.constant(_FLOOR / 256)))
        entropy = g.add("ReduceSum", g.add("Mul", shares, logs), g.constant([1]), keepdims=1)
        there = g.add(
            "Clip", g.add("Mul", shares, g.constant(float(self._grid))), g.constant(0.0), g.constant(1.0)
        )
        return g.add(
            "Concat",
            g.add("MatMul", shares, g.constant(classes)),
            g.add("Mul", entropy, g.constant(-1 / np.log(2))),
            g.add("ReduceMax", shares, g.constant([1]), keepdims=1),
            g.add("ReduceMean", there, g.constant([1]), keepdims=1),
            axis=1,
        )

    def _spread(self, centred: str) -> str:
        g = self._list
        square = g.add("ReduceMean", g.add("Mul", centred, centred), g.constant([1]), keepdims=1)
        return g.add("Sqrt", g.add("Add", square, g.constant(1e-8)))

    def _log(self, positive: str) -> str:
        g = self._list
        return g.add("Log", g.add("Add", positive, g.constant(_FLOOR)))


def _one_value(value: float) -> object:
    return helper.make_tensor("value", TensorProto.FLOAT, [1], [value])


def _haar() -> NDArray[np.float64]:
    """Wavelets of a block as columns ``[128, 127]``, the finest first."""
    columns = []
    for band in range(1, BANDS + 1):
        width = 2**band
        for start in range(0, _BLOCK, width):
            wave = np.zeros(_BLOCK)
            wave[start : start + width // 2], wave[start + width // 2 : start + width] = 1, -1
            columns.append(wave / width)
    return np.stack(columns, axis=1)


def _band_means() -> NDArray[np.float64]:
    """What makes means of bands ``[127, 7]`` of the sizes of wavelets."""
    counts = [_BLOCK >> band for band in range(1, BANDS + 1)]
    means = np.zeros((sum(counts), BANDS))
    first = 0
    for band, count in enumerate(counts):
        means[first : first + count, band] = 1 / count
        first += count
    return means
