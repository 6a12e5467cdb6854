"""Input features: cheap numbers computed from the image alone, before any model runs.

Only the pixels of a fixed grid are read; of these, only the components that the chosen features need are
computed (see :mod:`training.features.components`), and one matrix product makes the features of them. A
scout, a tiny network that read the same pixels in training, adds features of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from training.features.component_graph import ComponentGraph
from training.features.components import COMPONENTS, SIZES
from training.features.feature_kind import ScoutLike
from training.features.grid import pixel_places, read_pixels
from training.features.operators import OperatorList
from training.features.pool import EARLIER, FEATURES, NAMES, POOL_VERSION
from zoo.errors import DataError

__all__ = [
    "COMPONENTS",
    "EARLIER",
    "FEATURES",
    "NAMES",
    "POOL_VERSION",
    "feature_graph",
    "feature_operators",
    "read_pixels",
]


def feature_graph(names: Sequence[str], *, grid: int, scout: ScoutLike | None = None) -> onnx.ModelProto:
    """The graph ``image`` uint8 ``[N, H, W, 3]`` → ``features`` float32 ``[N, F]``.

    Raises
    ------
    DataError
        For an unknown feature name or an unsuitable grid.
    """
    operators, output = feature_operators(names, grid, scout)
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])
    model = operators.to_onnx([image], {"features": (output, len(names))})
    _read_where_needed(model.graph, grid)
    onnx.checker.check_model(model)
    return model


def feature_operators(names: Sequence[str], grid: int, scout: ScoutLike | None) -> tuple[OperatorList, str]:
    """The operators of features, and the value that holds them."""
    known = {*FEATURES, *(scout.names if scout else ())}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        hint = "" if scout else "; features of a scout need it"
        raise DataError(f"expected features among {', '.join(NAMES)}{hint}; got {unknown or 'none'}.")
    if grid < 16 or grid % 16:
        raise DataError(f"expected a grid that is a multiple of 16, got {grid}.")
    if scout and scout.grid != grid:
        raise DataError(f"expected a scout for a grid of {grid} pixels, got one for {scout.grid}. Fit again.")
    weights = [FEATURES.get(name, {name: 1.0}) for name in names]
    wanted = {component for row in weights for component in row}
    g = OperatorList()
    sizes = g.add("Shape", "image", start=1, end=3)
    pixels = _read(g, sizes, grid)
    of_pixels = wanted & set(COMPONENTS) - set(SIZES)
    if not wanted - set(SIZES):
        of_pixels = {"mean_luma"}  # something must carry the number of images; its weights are zero
    parts = ComponentGraph(g, pixels, of_pixels, grid).parts()
    if scout and wanted & set(scout.names):
        parts.append((scout.names, scout.append_to(g, pixels)))
    together = parts[0][1] if len(parts) == 1 else g.add("Concat", *(value for _, value in parts), axis=1)
    order = [name for part, _ in parts for name in part]
    output = g.add("MatMul", together, g.constant(_matrix(order, weights)))
    if wanted & set(SIZES):
        logs = g.add("Log", g.add("Cast", sizes, to=TensorProto.FLOAT))
        of_size = g.add("MatMul", logs, g.constant(_matrix(SIZES, weights)))
        output = g.add("Add", output, of_size)
    return g, output


def _read(g: OperatorList, sizes: str, grid: int) -> str:
    """Pixels as float32 ``[N, 1, grid, 3 * grid]``."""
    # counted from the end, so that the second pixel of a cell exists where there is but one: -size + place
    factor, offset = grid - pixel_places(grid), pixel_places(grid) + grid - 1 - grid * (np.arange(grid) % 2)
    scaled = g.add("Mul", g.constant(factor[:, np.newaxis]), sizes)
    both = g.add("Div", g.add("Add", scaled, g.constant(offset[:, np.newaxis])), g.constant([-grid]))
    rows, columns = (g.add("Slice", both, *(g.constant([i]) for i in (axis, axis + 1, 1))) for axis in (0, 1))
    pixels = g.add("Gather", g.add("Gather", "image", rows, axis=1), columns, axis=3)
    flat = g.add("Reshape", pixels, g.constant([0, 1, grid, 3 * grid]))
    return g.add("Cast", flat, to=TensorProto.FLOAT)


def _read_where_needed(graph: onnx.GraphProto, grid: int) -> None:
    """Have the graph read pixels only of images that are not of the size of the grid."""
    size, *_ = graph.node
    last = max(i for i, node in enumerate(graph.node) if node.op_type == "Gather")
    reading, (pixels,) = graph.node[1 : last + 1], graph.node[last].output
    used = {name for node in reading for name in node.input}
    branches = {}
    for key, nodes in (
        ("then_branch", [helper.make_node("Identity", ["image"], ["whole"])]),
        ("else_branch", reading),
    ):
        given = onnx.ValueInfoProto(name=nodes[-1].output[0])
        branches[key] = helper.make_graph(nodes, key, [], [given])
    # tensors of its own, so that the branch is whole wherever the graph is placed
    for tensor in graph.initializer:
        if tensor.name in used:
            own = branches["else_branch"].initializer.add()
            own.CopyFrom(tensor)
            own.name = f"reading_{tensor.name}"
    for node in branches["else_branch"].node:
        node.input[:] = [f"reading_{name}" if name.startswith("constant_") else name for name in node.input]
    graph.initializer.append(numpy_helper.from_array(np.array([grid, grid], np.int64), "grid"))
    check = [
        helper.make_node("Equal", [size.output[0], "grid"], ["alike"]),
        helper.make_node("ReduceMin", ["alike"], ["is_whole"], keepdims=0),
        helper.make_node("If", ["is_whole"], [pixels], **branches),
    ]
    every = [size, *check, *graph.node[last + 1 :]]
    left = {name for node in every for name in node.input}
    held = [tensor for tensor in graph.initializer if tensor.name in left]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(every)
    graph.initializer.extend(held)


def _matrix(components: Sequence[str], weights: Sequence[dict[str, float]]) -> NDArray[np.float64]:
    rows = {component: row for row, component in enumerate(components)}
    matrix = np.zeros((len(components), len(weights)))
    for column, of_feature in enumerate(weights):
        for component, weight in of_feature.items():
            if component in rows:
                matrix[rows[component], column] = weight
    return matrix
