"""Foreign ONNX: a float network made elsewhere → the same network under the model contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, version_converter

from zoo.architectures.preprocessing import Preprocessing
from zoo.convert.import_check import check_answers
from zoo.convert.import_file import read_foreign
from zoo.convert.import_graph import extract, free_batch
from zoo.convert.preprocessing_graph import OPSET, GraphBuilder, Layout, attach_front, front_model
from zoo.errors import ModelError
from zoo.quiet import quiet

Scale = Literal["0..1", "0..255"]
OutputKind = Literal["logits", "probabilities"]

_PREFIX = "net/"
_FLOATS = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}


def wrap_foreign(
    model: bytes | str | Path,
    preprocessing: Preprocessing,
    *,
    name: str,
    classes: Sequence[str],
    layout: Layout = "nchw",
    scale: Scale = "0..1",
    input: str | None = None,
    output: str | None = None,
    output_kind: OutputKind = "logits",
) -> bytes:
    """Put the preprocessing into a foreign classifier, so that it takes images as they are.

    A fixed batch size is made free and older opsets are converted; both are checked by running the result.

    Parameters
    ----------
    model
        Path or content of an ONNX file. Weights outside the file are read from its own folder only, and put
        into the result.
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
        preprocessing are on the 0..1 scale in both cases.
    input, output
        Names of the image input and the class output, for networks that have several.
    output_kind
        ``probabilities`` when the network ends in a softmax: their logarithms become the logits.

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
        if value not in get_args(allowed):
            raise ModelError(
                f"model {name!r}: expected one of {', '.join(get_args(allowed))}, got {value!r}."
            )
    foreign = read_foreign(model, name=name)
    initializers = {tensor.name for tensor in foreign.graph.initializer}
    inputs = [value for value in foreign.graph.input if value.name not in initializers]
    source = _pick(inputs, input, "input", name)
    result = _pick(list(foreign.graph.output), output, "output", name)
    half = _check_input(source, preprocessing, layout, name)
    ends = source.name, result.name
    original = extract(foreign, *ends, name=name)
    core = extract(_modern(original, name), *ends, name=name)
    front = front_model(
        preprocessing,
        layout=layout,
        pixel_scale=255.0 if scale == "0..255" else 1.0,
        half=half,
        opset=_opset(core),
    )
    freed = free_batch(core)
    core = compose.add_prefix(core, _PREFIX)
    _append_back(core, output_kind)
    content: bytes = attach_front(core, preprocessing, name=name, front=front).SerializeToString(
        deterministic=True
    )
    check_answers(
        content,
        original,
        front,
        ends=ends,
        resolution=preprocessing.resolution,
        classes=len(classes),
        probabilities=output_kind == "probabilities",
        freed=freed,
        name=name,
    )
    return content


def _modern(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model at an opset that has the operators of the front."""
    if _opset(model) >= OPSET:
        return model
    before = _opset(model)
    try:
        with quiet():
            return version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter raises whatever its C++ side throws
        raise ModelError(
            f"model {name!r}: expected opset {OPSET} or newer, got {before}, which cannot be converted: "
            f"{str(error).strip().splitlines()[0][:200]}. Export the network again with opset {OPSET}."
        ) from error


def _opset(model: onnx.ModelProto) -> int:
    return next((int(item.version) for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)


def _pick(values: list[onnx.ValueInfoProto], wanted: str | None, what: str, name: str) -> onnx.ValueInfoProto:
    named = [value for value in values if wanted is None or value.name == wanted]
    if len(named) == 1:
        return named[0]
    listed = "; ".join(_describe(value) for value in values) or "none"
    if wanted is None:
        raise ModelError(
            f"model {name!r}: expected one {what}, got {len(values)}: {listed}. "
            f"Name the right one with {what}=…."
        )
    raise ModelError(f"model {name!r}: expected an {what} called {wanted!r}; it has: {listed}.")


def _describe(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    kind = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else "no tensor"
    return f"{value.name!r} {kind} [{', '.join(str(size) for size in _sizes(value))}]"


def _sizes(value: onnx.ValueInfoProto) -> list[int | str]:
    axes = value.type.tensor_type.shape.dim
    return [axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?" for axis in axes]


def _check_input(
    source: onnx.ValueInfoProto, preprocessing: Preprocessing, layout: Layout, name: str
) -> bool:
    """Check type and shape of the image input, and fix its size; whether it is float16."""
    kind = source.type.tensor_type.elem_type
    height, width = preprocessing.resolution
    planes = preprocessing.planes
    wanted = [planes, height, width] if layout == "nchw" else [height, width, planes]
    if not source.type.tensor_type.HasField("shape"):
        source.type.CopyFrom(helper.make_tensor_type_proto(kind, ["N", *wanted]))
    got = _sizes(source)
    fits = len(got) == 4 and all(
        not isinstance(have, int) or have == want for have, want in zip(got[1:], wanted, strict=True)
    )
    if kind not in _FLOATS or not fits:
        raise ModelError(
            f"model {name!r}: expected a float image input [N, {', '.join(map(str, wanted))}], got "
            f"{_describe(source)}. {_advice(kind, got)}"
        )
    for axis, size in zip(source.type.tensor_type.shape.dim[1:], wanted, strict=False):
        axis.dim_value = size
    return bool(kind == TensorProto.FLOAT16)


def _advice(kind: int, sizes: list[int | str]) -> str:
    """What to do about an input that does not fit."""
    if kind not in _FLOATS:
        return "Networks that take such numbers cannot be added; export it with a float32 input."
    if len(sizes) != 4:
        return "It takes no images but another form of data; only networks that take images can be added."
    numbers = sizes[1:]
    if 1 in (numbers[0], numbers[2]) and 3 not in (numbers[0], numbers[2]):
        return "It looks at one channel: give --channels gray."
    return "Give its own --size HEIGHTxWIDTH and its --layout (nchw or nhwc)."


def _append_back(core: onnx.ModelProto, output_kind: OutputKind) -> None:
    """Turn the network's own output into ``logits``: float32, with the logarithm taken of probabilities."""
    end = core.graph.output[0]
    build = GraphBuilder("output/")
    last = end.name
    if end.type.tensor_type.elem_type != TensorProto.FLOAT:
        last = build.op("Cast", "float32", last, to=TensorProto.FLOAT)
    if output_kind == "probabilities":
        last = build.op("Max", "floored", last, build.constant("floor", 1e-7, np.float32))
        last = build.op("Log", "logarithm", last)
    build.op("Flatten", "logits", last)
    build.nodes[-1].output[0] = "logits"
    core.graph.node.extend(build.nodes)
    core.graph.initializer.extend(build.constants)
    core.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", None]))
