"""Foreign ONNX models of named arrays: what a network takes, and the same network under our contract."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from zoo.convert.foreign.import_check import (
    OutputKind,
    as_logits,
    check_answers,
    choose_back,
    original_answers,
)
from zoo.convert.foreign.import_file import read_foreign
from zoo.convert.foreign.import_onnx import (
    append_back,
    check_alone,
    check_operators,
    describe,
    inputs_of,
    modern,
    opset_of,
    pick,
    sizes_of,
)
from zoo.convert.preprocessing_graph import IR_VERSION, PREFIX, GraphBuilder, without_notes
from zoo.convert.rewriting.import_graph import extract, free_batch, simplify
from zoo.errors import ModelError
from zoo.inputs.tensors import Array, NumberType, Taken, Tensors, tensors_for

_OLDEST_OPSET = 13  # that has the operators in front of a network and behind it
_NUMBERS = (*get_args(NumberType), "float16", "uint16", "uint32")


def tensors_of(
    model: bytes | str | Path, *, name: str, length: int | None = None, pad: float = 0.0
) -> Tensors:
    """What a network takes, as a kind of input: for the first model of a zoo.

    Parameters
    ----------
    model
        Path or content of an ONNX file.
    length
        Where the axis after that of the batch is free: how long it may be at most. What is shorter is filled.
    pad
        With what.

    Raises
    ------
    ModelError
        When an axis is free and no length is given, or an input holds no numbers.
    """
    foreign = simplify(read_foreign(model, name=name))
    taken = []
    for value in inputs_of(foreign):
        axes = tuple(size if isinstance(size, int) else None for size in _axes(value, name))
        numbers = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
        taken.append(Taken(_called(value.name), numbers, axes, describe(value)))
    return tensors_for(
        f"model {name!r}",
        taken,
        length=length,
        pad=pad,
        otherwise="Export it so.",
        rename="Rename the input of the network.",
    )


def wrap_tensors(
    model: bytes | str | Path,
    kind: Tensors,
    *,
    name: str,
    classes: Sequence[str],
    output: str | None = None,
    output_kind: OutputKind = "logits",
) -> bytes:
    """Make a network take the arrays of a zoo: other types are converted, and a longer first axis is cut.

    Parameters
    ----------
    model
        Path or content of an ONNX file. Its inputs are arrays of `kind` by name; all of these, or some.
        Where each has one, the name may be another.
    kind
        What the models of the zoo take.
    name
        Name of the graph.
    classes
        Class names in the order of the network's outputs.
    output, output_kind
        As for :func:`zoo.convert.foreign.import_onnx.wrap_foreign`.

    Returns
    -------
    bytes
        The ONNX file: the arrays ``[N, …]`` → ``logits`` float32 ``[N, C]``.

    Raises
    ------
    ClassMismatchError
        When the number of classes is not the width of the output.
    ParityError
        When the result does not answer like the original.
    ModelError
        When the file is corrupt, or does not hold a network that can be wrapped; the message says why.

    Examples
    --------
    >>> from zoo.convert.foreign.import_tensors import tensors_of, wrap_tensors
    >>> kind = tensors_of("net.onnx", name="net", length=128)  # doctest: +SKIP
    >>> content = wrap_tensors("net.onnx", kind, name="net", classes=names)  # doctest: +SKIP
    """
    foreign = simplify(read_foreign(model, name=name))
    inputs = {value.name: value for value in inputs_of(foreign)}
    result = pick(list(foreign.graph.output), output, "output", name)
    taken = {key: _array_for(value, kind, len(inputs) == 1, name) for key, value in inputs.items()}
    source, *further = inputs
    original = extract(foreign, source, result.name, name=name, further=further)
    check_operators(original, name)
    check_alone(original, name)
    rng = np.random.default_rng(0)
    given = kind.feeds(kind.stack([kind.random(kind.default_size, rng) for _ in range(2)]))
    shown = {key: _shown(value, given[taken[key].name], taken[key]) for key, value in inputs.items()}
    answers = original_answers(original, shown, name=name)
    back = choose_back(answers, original, len(classes), output_kind, name=name)
    used = [inputs[value.name] for value in original.graph.input]
    part = original if opset_of(original) >= _OLDEST_OPSET else modern(original, name)
    append_back(part, back)
    free_batch(part)
    build = GraphBuilder(PREFIX)
    for value, target in zip(used, part.graph.input, strict=True):
        _append_front(build, value, taken[value.name], target.name)
    nodes = [*build.nodes, *part.graph.node]
    del part.graph.node[:], part.graph.input[:]
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(build.constants)
    part.graph.input.extend(
        helper.make_tensor_value_info(one.name, helper.np_dtype_to_tensor_dtype(np.dtype(one.type)), one.axes)
        for one in kind.inputs
    )
    part.ir_version = IR_VERSION
    without_notes(part)
    content: bytes = part.SerializeToString(deterministic=True)
    check_answers(content, given, as_logits(answers, back), name=name)
    return content


def _called(name: str) -> str:
    """The name of an array, after that of an input."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)


def _axes(value: onnx.ValueInfoProto, name: str) -> list[int | str]:
    """Sizes of an input without the axis of the batch."""
    tensor = value.type.tensor_type
    numbers = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else "nothing"
    if not tensor.HasField("shape") or not sizes_of(value) or numbers not in _NUMBERS:
        raise ModelError(
            f"model {name!r}: expected inputs [N, …] of numbers ({', '.join(_NUMBERS)}), got "
            f"{describe(value)}. Export the network with such inputs."
        )
    return sizes_of(value)[1:]


def _array_for(value: onnx.ValueInfoProto, kind: Tensors, alone: bool, name: str) -> Array:
    """The array of the zoo that an input of a network takes."""
    arrays = {one.name: one for one in kind.arrays}
    found = arrays.get(_called(value.name)) or (kind.arrays[0] if alone and len(arrays) == 1 else None)
    axes = _axes(value, name)
    if found is not None and len(axes) == len(found.shape):
        sizes = [have for have in zip(axes, found.shape, strict=True) if isinstance(have[0], int)]
        cut = found.pad is not None and isinstance(axes[0], int) and axes[0] < found.shape[0]
        if all(have == want for have, want in sizes[cut:]):
            return found
    raise ModelError(
        f"model {name!r}: expected inputs among those of the zoo, {'; '.join(map(str, kind.arrays))}, got "
        f"{describe(value)}. Export the network with inputs of these names and sizes, or add it to another "
        "zoo: --zoo FOLDER."
    )


def _length(value: onnx.ValueInfoProto, array: Array) -> int | None:
    """How much of the first axis a network takes, where that is not all."""
    size = sizes_of(value)[1] if array.shape else None
    return size if isinstance(size, int) and size < array.shape[0] else None


def _shown(value: onnx.ValueInfoProto, given: NDArray[Any], array: Array) -> NDArray[Any]:
    """What a network takes of an array ``[N, …]``."""
    length = _length(value, array)
    part = given if length is None else given[:, :length]
    return part.astype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))


def _append_front(build: GraphBuilder, value: onnx.ValueInfoProto, array: Array, target: str) -> None:
    """The same as operators, up to the input `target` of the network."""
    last, length = array.name, _length(value, array)
    if length is not None:
        ends = (
            build.constant(f"{array.name}/{what}", [number], np.int64)
            for what, number in (("start", 0), ("end", length), ("axis", 1))
        )
        last = build.op("Slice", f"{array.name}/cut", last, *ends)
    wanted = value.type.tensor_type.elem_type
    if wanted == helper.np_dtype_to_tensor_dtype(np.dtype(array.type)):
        build.nodes.append(helper.make_node("Identity", [last], [target]))
    else:
        build.nodes.append(helper.make_node("Cast", [last], [target], to=wanted))
