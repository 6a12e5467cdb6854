"""Foreign ONNX: a float network made elsewhere → the same network under the model contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnx
from onnx import TensorProto, helper, version_converter

from zoo.architectures.preprocessing import Preprocessing
from zoo.convert.foreign.import_check import (
    FLOOR,
    Back,
    OutputKind,
    as_logits,
    before,
    check_answers,
    choose_back,
    original_answers,
    random_images,
)
from zoo.convert.foreign.import_file import read_foreign
from zoo.convert.preprocessing_graph import OPSET, GraphBuilder, Layout, attach_front, front_model
from zoo.convert.rewriting.import_graph import (
    add_prefix,
    all_nodes,
    depends_on_batch,
    extract,
    free_batch,
    scan_batch,
    simplify,
)
from zoo.convert.rewriting.shortcuts import rewritten
from zoo.errors import ModelError, ZooError
from zoo.quiet import quiet

Scale = Literal["0..1", "0..255"]

CORE_PREFIX = "net/"
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
WHOLE = (
    *(TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16),
    *(TensorProto.UINT32, TensorProto.INT32, TensorProto.UINT64, TensorProto.INT64),
)
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")  # of operators that every ONNX Runtime has
_LAYOUT_DOMAINS = ("com.microsoft.nchwc", "com.ms.internal.nhwc")  # written by optimisation for one device


def wrap_foreign(
    model: bytes | str | Path,
    preprocessing: Preprocessing,
    *,
    name: str,
    classes: Sequence[str],
    layout: Layout = "nchw",
    scale: Scale | None = None,
    input: str | None = None,
    output: str | None = None,
    output_kind: OutputKind = "logits",
) -> bytes:
    """Put the preprocessing into a foreign classifier, so that it takes images as they are.

    A fixed batch size is made free and older opsets are converted; both are checked by running the result.
    Where a batch would change the answers (its size is built into the graph, the output has no batch axis,
    8-bit scales or statistics are computed over the batch), the result answers each image of a batch alone.
    Shortcuts that take every second pixel become convolutions, which is faster.

    Parameters
    ----------
    model
        Path or content of an ONNX file. Weights outside the file are read from its own folder only, or from
        that of the file that it is a symbolic link to, and put into the result.
    preprocessing
        What the network expects to have happened to an image.
    name
        Name of the graph.
    classes
        Class names in the order of the network's outputs.
    layout
        Axes of the network's input: ``nchw`` or ``nhwc``.
    scale
        What a pixel means to the network before mean and std: ``0..1`` or ``0..255``. Mean and std of the
        preprocessing are on the 0..1 scale in both cases. By default 0..1; 0..255 for whole numbers, which
        are rounded.
    input, output
        Names of the image input and the class output, for networks that have several.
    output_kind
        ``probabilities`` when the network ends in a softmax: their logarithms become the logits; or in a
        sigmoid: their log-odds do. One output for two classes is that of the second class.

    Returns
    -------
    bytes
        The ONNX file: ``image`` uint8 ``[N, H, W, 3]`` → ``logits`` float32 ``[N, C]``.

    Raises
    ------
    ClassMismatchError
        When the number of classes is not the width of the output.
    ParityError
        When the result does not answer like the original.
    ModelError
        When the file is corrupt, or does not hold a network that can be wrapped; the message says why.
    """
    for value, allowed in ((layout, Layout), (scale, Scale), (output_kind, OutputKind)):
        if value is not None and value not in get_args(allowed):
            raise ModelError(
                f"model {name!r}: expected one of {', '.join(get_args(allowed))}, got {value!r}."
            )
    foreign = simplify(read_foreign(model, name=name))
    source = pick(inputs_of(foreign), input, "input", name)
    result = pick(list(foreign.graph.output), output, "output", name)
    kind = _check_input(source, preprocessing, layout, name)
    whole = kind not in FLOATS
    if whole and scale == "0..1":
        raise ModelError(
            f"model {name!r}: expected whole pixels from 0 to 255 for {describe(source)}, got the scale "
            "0..1. Leave --scale out (in Python: scale=None)."
        )
    original = extract(foreign, source.name, result.name, name=name)
    check_operators(original, name)
    converted = modern(original, name)
    front = front_model(
        preprocessing,
        layout=layout,
        pixel_scale=255.0 if whole or scale == "0..255" else 1.0,
        kind=kind,
        opset=opset_of(converted),
    )
    images = random_images(preprocessing.resolution)
    given = {source.name: before(front, images, name=name)}
    answers = original_answers(original, given, name=name)
    back = choose_back(answers, original, len(classes), output_kind, name=name)
    expected = as_logits(answers, back)

    def wrapped(*, scan: bool) -> bytes:
        part = extract(converted, source.name, result.name, name=name)
        append_back(part, back)
        if scan:
            scan_batch(part, len(classes))
        else:
            free_batch(part)
        whole_graph = rewritten(attach_front(part, name=name, front=front), images)
        content: bytes = whole_graph.SerializeToString(deterministic=True)
        check_answers(content, {"image": images}, expected, name=name)
        return content

    sizes = sizes_of(source)
    if len(sizes) == 4 and not depends_on_batch(original):
        try:
            return wrapped(scan=False)
        except ZooError as error:
            if isinstance(sizes[0], int) and sizes[0] > 1:
                raise ModelError(
                    f"model {name!r}: its fixed batch size of {sizes[0]} is built into the graph and cannot "
                    "be made free; export it again with a free (dynamic) batch axis, or with a batch of one. "
                    f"The attempt ended with: {error}"
                ) from error
    return wrapped(scan=True)


def modern(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model at an opset that has the operators of the front."""
    if opset_of(model) >= OPSET:
        return model
    before = opset_of(model)
    try:
        with quiet():
            return version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter raises whatever its C++ side throws
        raise ModelError(
            f"model {name!r}: expected opset {OPSET} or newer, got {before}, which cannot be converted: "
            f"{str(error).strip().splitlines()[0][:200]}. Export the network again with opset {OPSET}."
        ) from error


def opset_of(model: onnx.ModelProto) -> int:
    return next((int(item.version) for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)


def check_operators(model: onnx.ModelProto, name: str) -> None:
    """Check that every ONNX Runtime has the operators of a model."""
    others = {node.domain: node.op_type for node in all_nodes(model.graph) if node.domain not in _DOMAINS}
    for domain, operator in others.items():
        if domain in _LAYOUT_DOMAINS:
            raise ModelError(
                f"model {name!r}: expected a graph that runs on any processor, got operators of the domain "
                f"{domain!r} ({operator}), a memory layout for one kind of it. Take the model from before "
                "it was optimised, or optimise it without changing the layout (level 'basic' or 'extended', "
                "not 'all')."
            )
        raise ModelError(
            f"model {name!r}: expected operators that every ONNX Runtime has, got {operator!r} of the domain "
            f"{domain!r}, which comes with another program. Export the network with standard operators."
        )


def check_alone(model: onnx.ModelProto, name: str) -> None:
    """Check that nothing is computed over a whole batch, where inputs are not answered one by one."""
    if depends_on_batch(model):
        raise ModelError(
            f"model {name!r}: expected a network that answers a batch like its inputs one by one, got one "
            "that computes scales or statistics over the whole batch. Quantise it with fixed scales."
        )


def inputs_of(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """What a graph is given; old files also list their weights as inputs."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def pick(values: list[onnx.ValueInfoProto], wanted: str | None, what: str, name: str) -> onnx.ValueInfoProto:
    named = [value for value in values if wanted is None or value.name == wanted]
    if len(named) == 1:
        return named[0]
    reals = [value for value in named if value.type.tensor_type.elem_type in FLOATS]
    if what == "output" and len(reals) == 1:  # the others are chosen classes, not numbers for each class
        return reals[0]
    listed = "; ".join(describe(value) for value in values) or "none"
    if wanted is None:
        raise ModelError(
            f"model {name!r}: expected one {what}, got {len(values)}: {listed}. "
            f"Name the right one with --{what} (in Python: {what}=…)."
        )
    raise ModelError(f"model {name!r}: expected an {what} called {wanted!r}; it has: {listed}.")


def describe(value: onnx.ValueInfoProto) -> str:
    kind = value.type.WhichOneof("value") or "nothing"
    if kind != "tensor_type":
        return f"{value.name!r} ({kind.removesuffix('_type')})"
    tensor = value.type.tensor_type
    sizes = f"[{', '.join(map(str, sizes_of(value)))}]" if tensor.HasField("shape") else "of unknown shape"
    numbers = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else "tensor"
    return f"{value.name!r} {numbers} {sizes}"


def sizes_of(value: onnx.ValueInfoProto) -> list[int | str]:
    axes = value.type.tensor_type.shape.dim
    return [axis.dim_value if axis.dim_value > 0 else axis.dim_param or "?" for axis in axes]


def _check_input(source: onnx.ValueInfoProto, preprocessing: Preprocessing, layout: Layout, name: str) -> int:
    """Check type and shape of the image input, and fix the size of an image; the type of its numbers."""
    kind = source.type.tensor_type.elem_type
    height, width = preprocessing.resolution
    planes = preprocessing.planes
    wanted = [planes, height, width] if layout == "nchw" else [height, width, planes]
    if source.type.HasField("tensor_type") and not source.type.tensor_type.HasField("shape"):
        source.type.CopyFrom(helper.make_tensor_type_proto(kind, ["N", *wanted]))
    got = sizes_of(source)
    fits = len(got) in (3, 4) and all(
        not isinstance(have, int) or have == want for have, want in zip(got[-3:], wanted, strict=True)
    )
    if kind not in (*FLOATS, *WHOLE) or not fits:
        raise ModelError(
            f"model {name!r}: expected an image input [N, {', '.join(map(str, wanted))}], got "
            f"{describe(source)}. {_advice(kind, got)}"
        )
    axes = source.type.tensor_type.shape.dim
    for axis, size in zip(axes[-3:], wanted, strict=True):
        axis.dim_value = size
    if len(axes) == 4 and axes[0].dim_value <= 0:
        axes[0].dim_param = "N"
    return int(kind)


def _advice(kind: int, sizes: list[int | str]) -> str:
    """What to do about an input that does not fit."""
    if len(sizes) == 2 or len(sizes) == 1:
        many = f"{sizes[-1]:,} numbers" if isinstance(sizes[-1], int) else "numbers"
        return f"It takes a vector of {many}, not an image; only networks that take images can be added."
    if len(sizes) not in (3, 4):
        return "It takes no images but another form of data; only networks that take images can be added."
    if kind not in (*FLOATS, *WHOLE):
        return "Networks that take such values cannot be added; export it with a float32 input."
    numbers = sizes[-3:]
    if 1 in (numbers[0], numbers[2]) and 3 not in (numbers[0], numbers[2]):
        return "It looks at one channel: give --channels gray (in Python: channels='gray')."
    return "Give its own --size HEIGHTxWIDTH and its --layout (nchw or nhwc)."


def append_back(core: onnx.ModelProto, back: Back) -> None:
    """Prefix the network's own names, and turn its output into ``logits`` float32, as :func:`as_logits`."""
    add_prefix(core.graph, CORE_PREFIX)
    end = core.graph.output[0]
    build = GraphBuilder("output/")
    last = end.name
    if end.type.tensor_type.elem_type != TensorProto.FLOAT:
        last = build.op("Cast", "float32", last, to=TensorProto.FLOAT)
    if back.outputs == "softmax":
        last = build.op("Max", "floored", last, build.constant("floor", FLOOR, np.float32))
        last = build.op("Log", "logarithm", last)
    elif back.outputs == "sigmoid":
        limits = build.constant("floor", FLOOR, np.float32), build.constant("one", 1, np.float32)
        last = build.op("Max", "floored", last, limits[0])
        rest = build.op("Max", "rest", build.op("Sub", "other", limits[1], last), limits[0])
        logarithms = build.op("Log", "logarithm", last), build.op("Log", "logarithm_of_rest", rest)
        last = build.op("Sub", "log_odds", *logarithms)
    last = build.op("Flatten", "logits", last)
    if back.one_for_two:
        last = build.op("Pad", "two_logits", last, build.constant("one_before", [0, 1, 0, 0], np.int64))
    build.nodes[-1].output[0] = "logits"
    core.graph.node.extend(build.nodes)
    core.graph.initializer.extend(build.constants)
    core.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", None]))
