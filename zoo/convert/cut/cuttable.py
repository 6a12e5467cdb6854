"""A graph made ready to be cut: the number of images is read off the input alone.

Exporters read it off an early tensor and use it at the end, in a reshape: a second tensor that crosses every
place in between. It is the same number everywhere, so that each part can take it from its own input.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from zoo.convert.head import without_embedding
from zoo.errors import ModelError
from zoo.models.session import open_session

IMAGE, LOGITS = "image", "logits"
BATCH = "cut/batch"  # int64 [1]: how many images there are
_SHAPE, _FIRST = "cut/shape", "cut/first"


def prepare(content: bytes, resolution: tuple[int, int], *, name: str) -> bytes:
    """The model without an embedding, with all sizes of batches read off the image; it answers as before.

    Raises
    ------
    ModelError
        When the file is no model or does not run.
    """
    try:
        model = onnx.load_model_from_string(without_embedding(content))
    except Exception as error:  # protobuf's own classes, which are not onnx's to promise
        raise ModelError(f"model {name!r}: expected the bytes of an ONNX model, got: {error}.") from error
    sizes = [node for node in model.graph.node if node.op_type == "Shape" and node.input[0] != IMAGE]
    if not sizes:
        return _bytes(model)
    measured = list(dict.fromkeys(node.input[0] for node in sizes))
    fixed = {
        value: one.shape[1:]
        for value, (one, two) in shown_twice(_bytes(model), measured, resolution, name=name).items()
        if is_fixed(one, two)
    }
    if not fixed:
        return _bytes(model)
    taken = {tensor.name for tensor in model.graph.initializer}
    if BATCH not in taken | {value for node in model.graph.node for value in node.output}:
        model.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), _FIRST))
        model.graph.node.insert(0, helper.make_node("Gather", [_SHAPE, _FIRST], [BATCH]))
        model.graph.node.insert(0, helper.make_node("Shape", [IMAGE], [_SHAPE]))
    for node in sizes:
        if node.input[0] in fixed:
            _take_from_batch(model.graph, node, fixed[node.input[0]])
    return _bytes(model)


def is_batch(node: onnx.NodeProto) -> bool:
    """Whether a node reads the number of images off the input of the graph, for :data:`BATCH`."""
    return node.op_type == "Shape" and node.output[0] == _SHAPE


def shown_twice(
    content: bytes, names: list[str], resolution: tuple[int, int], *, name: str
) -> dict[str, tuple[NDArray[np.generic], NDArray[np.generic]]]:
    """What tensors of a graph hold for one grey image, and for two of another size."""
    session = open_session(with_outputs(content, names), name=name)
    height, width = resolution
    found: list[list[NDArray[np.generic]]] = []
    for images in ((1, height, width, 3), (2, height + height // 3 + 1, 2 * width + 1, 3)):
        try:
            found.append(session.run(names, {IMAGE: np.full(images, 128, np.uint8)}))
        except Exception as error:  # ONNX Runtime raises a family of unrelated classes
            raise ModelError(
                f"model {name!r}: expected it to answer images {list(images)}, got: "
                f"{str(error).strip().splitlines()[0][:200]}."
            ) from error
    return dict(zip(names, zip(*found, strict=True), strict=True))


def is_fixed(one: NDArray[np.generic], two: NDArray[np.generic]) -> bool:
    """Whether only the first axis depends on the images, and is their number; from :func:`shown_twice`."""
    return one.ndim > 1 and (len(one), len(two)) == (1, 2) and one.shape[1:] == two.shape[1:]


def with_outputs(content: bytes, names: list[str]) -> bytes:
    """The model with tensors of it as further outputs, of whatever type and shape they are."""
    model = onnx.load_model_from_string(content)
    model.graph.output.extend(onnx.ValueInfoProto(name=value) for value in names)
    return _bytes(model)


def _take_from_batch(graph: onnx.GraphProto, node: onnx.NodeProto, rest: tuple[int, ...]) -> None:
    """Let a Shape node give the number of images and known sizes instead."""
    limits = {item.name: item.i for item in node.attribute}
    sizes: list[int | None] = [None, *rest]
    wanted = sizes[limits.get("start", 0) : limits.get("end", len(sizes))]
    parts = [BATCH] if wanted[:1] == [None] else []
    known = [size for size in wanted if size is not None]
    if known or not parts:
        parts.append(f"{node.output[0]}/sizes")
        graph.initializer.append(numpy_helper.from_array(np.array(known, np.int64), parts[-1]))
    made = helper.make_node("Concat", parts, list(node.output), name=node.name, axis=0)
    node.CopyFrom(made)


def _bytes(model: onnx.ModelProto) -> bytes:
    content: bytes = model.SerializeToString(deterministic=True)
    return content
