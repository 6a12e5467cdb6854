"""The operators that compute features of named arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from training.features.feature_kind import ScoutLike
from training.features.operators import OperatorList
from training.features.tensors.pool import LIMIT, MAX_SMALL, names_of, places
from zoo.errors import DataError
from zoo.inputs.tensors import Array

_FLOOR = 1e-3  # of what a logarithm is taken of


def tensor_operators(
    names: Sequence[str], arrays: Sequence[Array], grid: int, scout: ScoutLike | None
) -> tuple[OperatorList, str]:
    """The operators of features, and the value float32 ``[N, F]`` that holds them.

    Parameters
    ----------
    names
        The F features, among those of `arrays` and of the scout.
    grid
        Numbers that a scout reads.

    Raises
    ------
    DataError
        For an unknown feature name, or a scout of another grid.
    """
    pool = [name for one in arrays for name in names_of(one)]
    unknown = [name for name in names if name not in {*pool, *(scout.names if scout else ())}]
    if unknown or not names:
        hint = "" if scout else "; features of a scout need it"
        raise DataError(f"expected features among {', '.join(pool)}{hint}; got {unknown or 'none'}.")
    if scout and scout.grid != grid:
        raise DataError(f"expected a scout for {grid} numbers, got one for {scout.grid}. Fit again.")
    g = OperatorList(prefix="of/")  # arrays may have names such as those of operators
    looked_at = scout is not None and bool(set(scout.names) & set(names))
    flat = {
        one.name: _flat(g, one) for one in arrays if looked_at or not set(names).isdisjoint(names_of(one))
    }
    parts = [
        (names_of(one), flat[one.name] if math.prod(one.shape) <= MAX_SMALL else _statistics(g, one, flat))
        for one in arrays
        if not set(names).isdisjoint(names_of(one))
    ]
    if looked_at:
        assert scout is not None
        whole = _joined(g, [flat[one.name] for one in arrays])
        read = g.add("Gather", whole, g.constant(places(arrays, grid)), axis=1)
        parts.append((scout.names, scout.append_to(g, read)))
    order = [name for part, _ in parts for name in part]
    index = np.array([order.index(name) for name in names])
    return g, g.add("Gather", _joined(g, [value for _, value in parts]), g.constant(index), axis=1)


def _flat(g: OperatorList, one: Array) -> str:
    """The numbers of an array float32 ``[N, n]``."""
    rows = g.add("Reshape", one.name, g.constant([-1, math.prod(one.shape)]))
    real = rows if one.type == "float32" else g.add("Cast", rows, to=TensorProto.FLOAT)
    return g.add("Clip", real, g.constant(-LIMIT), g.constant(LIMIT))


def _statistics(g: OperatorList, one: Array, flat: dict[str, str]) -> str:
    """Those of :data:`training.features.tensors.pool.STATISTICS`, float32 ``[N, 4 or 5]``."""
    value, axis = flat[one.name], g.constant([1])
    mean = g.add("ReduceMean", value, axis, keepdims=1)
    centred = g.add("Sub", value, mean)
    square = g.add("ReduceMean", g.add("Mul", centred, centred), axis, keepdims=1)
    level = g.add("Log", g.add("Add", g.add("Sqrt", square), g.constant(_FLOOR)))
    ends = [g.add(f"Reduce{end}", value, axis, keepdims=1) for end in ("Max", "Min")]
    found = [mean, level, *ends]
    if one.pad is not None:
        away = g.add("Abs", g.add("Sub", value, g.constant(float(one.pad))))
        there = g.add("Clip", away, g.constant(0.0), g.constant(1.0))
        share = g.add("ReduceMean", there, axis, keepdims=1)
        found.append(g.add("Sub", g.constant(1.0), share))
    return g.add("Concat", *found, axis=1)


def _joined(g: OperatorList, values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else g.add("Concat", *values, axis=1)
