"""Surgery on a foreign graph: keep one input and one output, and free a batch size that was fixed."""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from zoo.convert.preprocessing_graph import IR_VERSION
from zoo.errors import ModelError


def extract(model: onnx.ModelProto, source: str, result: str, *, name: str) -> onnx.ModelProto:
    """The part of `model` between one input and one output; recorded shapes and notes are left out.

    Raises
    ------
    ModelError
        When the output does not depend on the input, or needs another input as well.
    """
    needed, kept = {result}, []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(_reads(node))
    if source not in needed:
        raise ModelError(
            f"model {name!r}: expected output {result!r} to depend on input {source!r}, but it does not."
        )
    weights = {tensor.name for tensor in model.graph.initializer}
    others = [value.name for value in model.graph.input if value.name not in {source, *weights}]
    if not needed.isdisjoint(others):
        raise ModelError(
            f"model {name!r}: expected the image {source!r} to be the only input, but the network also needs "
            f"{', '.join(map(repr, others))}. Make the others constants when exporting it."
        )
    graph = helper.make_graph(
        kept[::-1],
        name,
        [value for value in model.graph.input if value.name == source],
        [value for value in model.graph.output if value.name == result],
        [tensor for tensor in model.graph.initializer if tensor.name in needed],
        sparse_initializer=[item for item in model.graph.sparse_initializer if item.values.name in needed],
    )
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    return helper.make_model(
        graph, opset_imports=model.opset_import, functions=model.functions, ir_version=IR_VERSION
    )


def free_batch(model: onnx.ModelProto) -> bool:
    """Make the first axis of the input free, and of constant reshapes that repeat its fixed size.

    Only reshapes of what was computed from the image are touched. Whether the guess was right shows when the
    result is run; see :mod:`zoo.convert.import_check`.

    Returns
    -------
    bool
        Whether the size was fixed.
    """
    graph = model.graph
    axis = graph.input[0].type.tensor_type.shape.dim[0]
    batch = axis.dim_value if axis.HasField("dim_value") else None
    axis.dim_param = "N"
    if batch is None:
        return False
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {
        node.output[0]: node.attribute[0].t
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    computed = {graph.input[0].name}
    for index, node in enumerate(graph.node):
        if computed.isdisjoint(_reads(node)):
            continue
        computed.update(node.output)
        if node.op_type != "Reshape" or node.input[0] not in computed or node.input[1] not in constants:
            continue
        shape = numpy_helper.to_array(constants[node.input[1]]).copy()
        if shape.size > 1 and shape[0] == batch and 0 not in shape[1:]:
            shape[0] = 0  # keep the size of the first axis; the attribute would make it an empty one
            kept = [attribute for attribute in node.attribute if attribute.name != "allowzero"]
            del node.attribute[:]
            node.attribute.extend(kept)
            free = f"{node.input[1]}/free{index}"
            graph.initializer.append(numpy_helper.from_array(shape, free))
            node.input[1] = free
    return True


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names of the values that a node reads, in its branches and loop bodies too."""
    read = {value for value in node.input if value}
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                read |= _reads(inner)
    return read
