"""Surgery on a foreign graph: keep one input and one output, and make it answer any number of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, inliner, numpy_helper

from zoo.convert.preprocessing_graph import IR_VERSION
from zoo.errors import ModelError

_ONE_BY_ONE = "one by one"
_PIXELS = "one image"
_SHAPE_ONLY = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The branches and loop bodies of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def reads(node: onnx.NodeProto) -> set[str]:
    """Names of the values that a node reads, in its branches and loop bodies too."""
    read = {value for value in node.input if value}
    for graph in subgraphs(node):
        read.update(value.name for value in graph.output)
        for inner in graph.node:
            read |= reads(inner)
    return read


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph, its branches and its loop bodies, and theirs."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from all_graphs(inner)


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph, of its branches and of its loop bodies."""
    for part in all_graphs(graph):
        yield from part.node


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Put functions of the file in place of their calls, and tensors in place of ONNX-ML's maps of them."""
    if model.functions:
        model = inliner.inline_local_functions(model)
    maps = {node.output[0]: node for node in model.graph.node if node.op_type == "ZipMap"}
    for value in model.graph.output:
        if value.name in maps:
            node = maps[value.name]
            node.op_type, node.domain = "Identity", ""
            del node.attribute[:]
            value.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    return model


def extract(
    model: onnx.ModelProto, source: str, result: str, *, name: str, further: Sequence[str] = ()
) -> onnx.ModelProto:
    """The part of `model` between an input and an output; recorded shapes and notes are left out.

    Parameters
    ----------
    further
        Other inputs that may be needed.

    Raises
    ------
    ModelError
        When the output depends on none of the inputs, or needs another one as well.
    """
    needed, kept, sources = {result}, [], {source, *further}
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(reads(node))
    if needed.isdisjoint(sources):
        raise ModelError(
            f"model {name!r}: expected output {result!r} to depend on input {source!r}, but it does not."
        )
    weights = {tensor.name for tensor in model.graph.initializer}
    others = [value.name for value in model.graph.input if value.name not in {*sources, *weights}]
    if not needed.isdisjoint(others):
        raise ModelError(
            f"model {name!r}: expected {source!r} to be the only input, but the network also needs "
            f"{', '.join(map(repr, others))}. Make the others constants when exporting it."
        )
    graph = helper.make_graph(
        kept[::-1],
        name,
        [value for value in model.graph.input if value.name in sources],
        [value for value in model.graph.output if value.name == result],
        [tensor for tensor in model.graph.initializer if tensor.name in needed],
        sparse_initializer=[item for item in model.graph.sparse_initializer if item.values.name in needed],
    )
    for node in all_nodes(graph):
        node.doc_string = ""
        del node.metadata_props[:]
        for inner in subgraphs(node):
            del inner.value_info[:]
            for value in (*inner.input, *inner.output):
                for axis in value.type.tensor_type.shape.dim:
                    axis.Clear()  # recorded for another batch size
    used = {node.domain for node in all_nodes(graph)} | {"", "ai.onnx"}
    opsets = [item for item in model.opset_import if item.domain in used]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def ending(model: onnx.ModelProto) -> str:
    """The operator that computes the output, whatever changes its type and shape only afterwards."""
    makers = {value: node for node in model.graph.node for value in node.output}
    node = makers.get(model.graph.output[0].name)
    while node is not None and node.op_type in _SHAPE_ONLY:
        node = makers.get(node.input[0])
    return "" if node is None else node.op_type


def depends_on_batch(model: onnx.ModelProto) -> bool:
    """Whether an operator computes something over the whole batch: scales while it runs, or statistics."""
    return any(
        node.op_type.startswith("DynamicQuantize")
        or (
            node.op_type == "BatchNormalization"
            and any(item.name == "training_mode" and item.i for item in node.attribute)
        )
        for node in all_nodes(model.graph)
    )


def add_prefix(graph: onnx.GraphProto, prefix: str) -> None:
    """Put `prefix` in front of all names of a graph, its branches and its loop bodies."""
    for node in graph.node:
        node.name = prefix + node.name if node.name else ""
        for names in (node.input, node.output):
            names[:] = [prefix + value if value else "" for value in names]
        for inner in subgraphs(node):
            add_prefix(inner, prefix)
    sparse = [tensor.values for tensor in graph.sparse_initializer]
    for named in (*graph.input, *graph.output, *graph.value_info, *graph.initializer, *sparse):
        named.name = prefix + named.name


def free_batch(model: onnx.ModelProto) -> None:
    """Make the first axis of the inputs free, and of constant reshapes that repeat its fixed size.

    Only reshapes of what was computed from the inputs are touched. Whether the guess was right shows when the
    result is run; see :mod:`zoo.convert.foreign.import_check`.
    """
    graph = model.graph
    _read_at_top_only(graph)
    batch = None
    for value in graph.input:
        axis = value.type.tensor_type.shape.dim[0]
        batch = axis.dim_value if axis.HasField("dim_value") else batch
        axis.dim_param = "N"
    if batch is None:
        return
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {
        node.output[0]: node.attribute[0].t
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    computed = {value.name for value in graph.input}
    for index, node in enumerate(graph.node):
        if computed.isdisjoint(reads(node)):
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


def _read_at_top_only(graph: onnx.GraphProto) -> None:
    """Let branches and loop bodies read a copy of an input, which can be joined with another graph then."""
    inside = {
        name
        for node in graph.node
        for part in subgraphs(node)
        for inner in part.node
        for name in reads(inner)
    }
    for value in graph.input:
        if value.name in inside:
            source, value.name = value.name, f"{value.name}/image"
            graph.node.insert(0, helper.make_node("Identity", [value.name], [source]))


def scan_batch(model: onnx.ModelProto, classes: int) -> None:
    """Make a network of one image, and of `classes` logits in any shape, answer each image of a batch alone.

    The network becomes the body of a Scan; its weights stay where they are. The last node makes the logits.
    """
    graph = model.graph
    source, result = graph.input[0], graph.output[0]
    graph.node[-1].output[0] = "all logits"
    kind = source.type.tensor_type.elem_type
    sizes = [axis.dim_value for axis in source.type.tensor_type.shape.dim][-3:]
    batched = len(source.type.tensor_type.shape.dim) == 4
    first = helper.make_node(
        "Unsqueeze" if batched else "Identity",
        [_PIXELS, "first axis"] if batched else [_PIXELS],
        [source.name],
    )
    last = helper.make_node("Reshape", ["all logits", "one row"], ["one answer"])
    body = helper.make_graph(
        [first, *graph.node, last],
        _ONE_BY_ONE,
        [helper.make_tensor_value_info(_PIXELS, kind, sizes)],
        [helper.make_tensor_value_info("one answer", TensorProto.FLOAT, [classes])],
    )
    del graph.node[:]
    scan = helper.make_node("Scan", ["images"], ["logits"], name=_ONE_BY_ONE, body=body, num_scan_inputs=1)
    graph.node.append(scan)
    graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "first axis"))
    graph.initializer.append(numpy_helper.from_array(np.array([classes], np.int64), "one row"))
    source.CopyFrom(helper.make_tensor_value_info("images", kind, ["N", *sizes]))
    result.CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes]))


def answers_alone(model: onnx.ModelProto) -> bool:
    """Whether a wrapped model answers each image of a batch alone; see :func:`scan_batch`."""
    return any(map(_is_scan, model.graph.node))


def _is_scan(node: onnx.NodeProto) -> bool:
    return bool(node.op_type == "Scan" and node.name == _ONE_BY_ONE)


def for_one_image(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without the Scan of :func:`scan_batch`, as it is for a batch of one; else as it is."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    nodes = list(single.graph.node)
    del single.graph.node[:]
    for node in nodes:
        if not _is_scan(node):
            single.graph.node.append(node)
            continue
        single.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "axis of one"))
        body = node.attribute[0].g if node.attribute[0].HasField("g") else node.attribute[1].g
        axis = "axis of one"
        single.graph.node.append(helper.make_node("Squeeze", [node.input[0], axis], [body.input[0].name]))
        single.graph.node.extend(body.node)
        single.graph.node.append(helper.make_node("Unsqueeze", [body.output[0].name, axis], [node.output[0]]))
    return single
