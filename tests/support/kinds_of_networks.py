"""Kinds of networks that ONNX Runtime runs: the small foreign network, changed as exporters and tools do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.foreign_models import foreign

IMAGE = ["N", 3, 8, 10]


def one_output(**how: bool) -> onnx.ModelProto:
    """The foreign network of opset 18 with the logits as its only output."""
    model = foreign(**how)  # type: ignore[arg-type]
    del model.graph.output[1:]
    return model


def add_weights(model: onnx.ModelProto, **values: object) -> None:
    """Store constants."""
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()
    )


def end_in(
    model: onnx.ModelProto,
    *nodes: onnx.NodeProto,
    kind: int = TensorProto.FLOAT,
    shape: list[str | int] | None = None,
) -> onnx.ModelProto:
    """The network with more nodes behind its output; the last one's output counts."""
    model.graph.node.extend(nodes)
    result = helper.make_tensor_value_info(nodes[-1].output[0], kind, shape)
    model.graph.output[0].CopyFrom(result)
    return model


def takes(kind: int, sizes: list[str | int] | None = None) -> onnx.ModelProto:
    """The network with another type of input, or other declared sizes."""
    model = one_output()
    model.graph.node.insert(0, helper.make_node("Cast", ["given"], ["x"], to=TensorProto.FLOAT))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("given", kind, sizes or IMAGE))
    return model


def whole(kind: int) -> onnx.ModelProto:
    """A network that takes whole pixels and brings them to 0..1 itself."""
    model = takes(kind)
    model.graph.node[0].output[0] = "floats"
    model.graph.node.insert(1, helper.make_node("Div", ["floats", "white"], ["x"]))
    add_weights(model, white=np.float32(255))
    return model


def without_batch_axis() -> onnx.ModelProto:
    """``[3, h, w]`` → ``[C]``."""
    model = end_in(one_output(), helper.make_node("Squeeze", ["y", "axis"], ["z"]))
    model.graph.node.insert(0, helper.make_node("Unsqueeze", ["plane", "axis"], ["x"]))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("plane", TensorProto.FLOAT, IMAGE[1:]))
    add_weights(model, axis=np.array([0]))
    return model


def unsorted() -> onnx.ModelProto:
    """Half precision inside, float32 outside; the casts come last, as converters append them."""
    model = one_output(half=True)
    model.graph.node[0].input[0] = "half"
    model.graph.node.append(helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    return end_in(model, helper.make_node("Cast", ["y"], ["z"], to=TensorProto.FLOAT))


def branches() -> onnx.ModelProto:
    """An `If` whose branches read the image and an initialiser from outside, with fixed shapes."""
    result = helper.make_tensor_value_info("then", TensorProto.FLOAT, [1, 3])
    other = helper.make_tensor_value_info("else", TensorProto.FLOAT, [1, 3])
    nodes = [
        helper.make_node("ReduceMean", ["x", "plane axes"], ["mean"], keepdims=1),
        helper.make_node("Flatten", ["mean"], ["brightness"]),
        helper.make_node("Mul", ["brightness", "gain"], ["more"]),
        helper.make_node("Add", ["y", "more"], ["then"]),
    ]
    then = helper.make_graph(nodes, "then", [], [result])
    otherwise = helper.make_graph([helper.make_node("Neg", ["y"], ["else"])], "else", [], [other])
    model = end_in(
        one_output(),
        helper.make_node("Less", ["zero", "one"], ["true"]),
        helper.make_node("If", ["true"], ["z"], then_branch=then, else_branch=otherwise),
    )
    axes = {"plane axes": np.array([1, 2, 3])}
    add_weights(model, gain=np.ones((1, 1), np.float32), zero=np.float32(0), one=np.float32(1), **axes)
    return model


def loop() -> onnx.ModelProto:
    """A `Loop` whose body reads initialisers and values of the graph around it."""
    state = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("before", "after")]
    flags = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go", "go on")]
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["before", "gain"], ["grown"]),
            helper.make_node("Add", ["grown", "y"], ["after"]),
            helper.make_node("Identity", ["go"], ["go on"]),
        ],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), flags[0], state[0]],
        [flags[1], state[1]],
    )
    model = end_in(one_output(), helper.make_node("Loop", ["times", "always", "y"], ["z"], body=body))
    add_weights(model, gain=np.array([[0.5, 1, 2]], np.float32), times=np.array(2), always=np.array(True))
    return model


def running_sum() -> onnx.ModelProto:
    """A `Scan` over the batch, whose body reads an initialiser: answers depend on images before."""
    row = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("sum", "now", "new", "out")
    ]
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["sum", "gain"], ["kept"]),
            helper.make_node("Add", ["kept", "now"], ["new"]),
            helper.make_node("Identity", ["new"], ["out"]),
        ],
        "body",
        row[:2],
        row[2:],
    )
    node = helper.make_node("Scan", ["start", "y"], ["last", "z"], body=body, num_scan_inputs=1)
    model = end_in(one_output(), node)
    add_weights(model, gain=np.array([1, 2, 3], np.float32), start=np.zeros(3, np.float32))
    return model


def function() -> onnx.ModelProto:
    """A function of the file, in a domain of its own."""
    model = end_in(one_output(), helper.make_node("Twice", ["y"], ["z"], domain="mine"))
    twice = helper.make_function(
        "mine", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], model.opset_import
    )
    model.functions.append(twice)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    return model


def classifier_map() -> onnx.ModelProto:
    """Probabilities in ONNX-ML's list of maps, as scikit-learn's converters end a classifier."""
    model = end_in(
        one_output(softmax=True),
        helper.make_node("ZipMap", ["p"], ["z"], domain="ai.onnx.ml", classlabels_strings=["a", "b", "c"]),
    )
    row = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    model.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(row))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return model


def dynamic_scales() -> onnx.ModelProto:
    """Dynamic quantisation: the scale of 8-bit features is computed from the whole batch."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["y"], ["codes", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["z"]),
    ]
    return end_in(one_output(), *nodes)


def training_mode(offset: float = 0.1) -> onnx.ModelProto:
    """Batch normalisation with the statistics of the batch, as an export in training mode leaves it.

    With an offset of 0, answers of ONNX Runtime were seen to change from run to run.
    """
    norm = helper.make_node(
        "BatchNormalization", ["c", "gamma", "beta", "means", "variances"], ["n", "m", "v"], training_mode=1
    )
    model = one_output()
    model.graph.node.insert(1, norm)
    model.graph.node[2].input[0] = "n"
    add_weights(model, gamma=np.full(6, 2, np.float32), beta=np.full(6, offset, np.float32))
    add_weights(model, means=np.zeros(6, np.float32), variances=np.ones(6, np.float32))
    return model


def quantised() -> onnx.ModelProto:
    """Static 8-bit steps (QDQ) behind the logits."""
    nodes = [
        helper.make_node("QuantizeLinear", ["y", "step", "middle"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "step", "middle"], ["z"]),
    ]
    model = end_in(one_output(), *nodes)
    add_weights(model, step=np.float32(0.05), middle=np.uint8(128))
    return model


def no_shape() -> onnx.ModelProto:
    """An output without a shape."""
    model = one_output()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def weights_as_inputs() -> onnx.ModelProto:
    """Initialisers are inputs too, as before IR version 4."""
    model = one_output()
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in model.graph.initializer
    )
    return model


def with_chosen_class() -> onnx.ModelProto:
    """Logits, and the chosen class as a second output."""
    model = one_output()
    model.graph.node.append(helper.make_node("ArgMax", ["y"], ["label"], axis=1))
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["N", 1]))
    return model


def microsoft() -> onnx.ModelProto:
    """An operator that comes with ONNX Runtime, from a domain that the file does not import."""
    return end_in(one_output(), helper.make_node("Gelu", ["y"], ["z"], domain="com.microsoft"))


def _sizes(*sizes: str | int) -> Callable[[], onnx.ModelProto]:
    return lambda: takes(TensorProto.FLOAT, list(sizes))


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "float64 input": lambda: takes(TensorProto.DOUBLE),
    "uint8 input": lambda: whole(TensorProto.UINT8),
    "int32 input": lambda: whole(TensorProto.INT32),
    "batch 0": _sizes(0, 3, 8, 10),
    "sizes -1": _sizes(-1, 3, -1, -1),
    "named sizes": _sizes("batch", "channels", "height", "width"),
    "no batch axis": without_batch_axis,
    "half precision, unsorted": unsorted,
    "half precision": lambda: one_output(half=True),
    "If": branches,
    "Loop": loop,
    "Scan": running_sum,
    "function": function,
    "dynamic quantisation": dynamic_scales,
    "QDQ": quantised,
    "training mode": training_mode,
    "no shape": no_shape,
    "weights as inputs": weights_as_inputs,
    "chosen class": with_chosen_class,
    "log-softmax": lambda: end_in(one_output(), helper.make_node("LogSoftmax", ["y"], ["z"], axis=1)),
    "com.microsoft": microsoft,
}
