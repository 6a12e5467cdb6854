"""Foreign ONNX models of signals: a network made elsewhere → the same network under the model contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from zoo.convert.foreign.import_check import (
    OutputKind,
    as_logits,
    before,
    check_answers,
    choose_back,
    original_answers,
)
from zoo.convert.foreign.import_file import read_foreign
from zoo.convert.foreign.import_onnx import (
    FLOATS,
    WHOLE,
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
from zoo.convert.preprocessing_graph import attach_front
from zoo.convert.rewriting.import_graph import extract, free_batch, simplify
from zoo.convert.signals.signal_front import Form, SignalFront
from zoo.errors import ModelError


def wrap_signal(
    model: bytes | str | Path,
    front: SignalFront,
    *,
    name: str,
    classes: Sequence[str],
    input: str | None = None,
    output: str | None = None,
    output_kind: OutputKind = "logits",
) -> bytes:
    """Put what a network expects of a signal into it, so that it takes signals as they are, of any length.

    Parameters
    ----------
    model
        Path or content of an ONNX file whose input is ``[N, W]``, ``[N, 1, W]`` or ``[N, W, 1]`` of real or
        whole numbers, with W the width of `front`.
    front
        What the network expects to have happened to a signal.
    name
        Name of the graph.
    classes
        Class names in the order of the network's outputs.
    input, output, output_kind
        As for :func:`zoo.convert.foreign.import_onnx.wrap_foreign`.

    Returns
    -------
    bytes
        The ONNX file: ``signal`` ``[N, L]`` → ``logits`` float32 ``[N, C]``.

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
    >>> from zoo.convert.signals.import_signal import wrap_signal
    >>> from zoo.convert.signals.signal_front import SignalFront
    >>> from zoo.inputs.signal import Signal
    >>> front = SignalFront(Signal(), first=512, last=512, pad=256, strip=4096)
    >>> content = wrap_signal("net.onnx", front, name="net", classes=names)  # doctest: +SKIP
    """
    foreign = simplify(read_foreign(model, name=name))
    source = pick(inputs_of(foreign), input, "input", name)
    result = pick(list(foreign.graph.output), output, "output", name)
    kind, form = _check_input(source, front, name)
    original = extract(foreign, source.name, result.name, name=name)
    check_operators(original, name)
    check_alone(original, name)
    whole = modern(original, name)
    begin = front.model(type=kind, form=form, opset=opset_of(whole))
    signals = _signals(front)
    answers = original_answers(original, {source.name: before(begin, signals, name=name)}, name=name)
    back = choose_back(answers, original, len(classes), output_kind, name=name)
    part = extract(whole, source.name, result.name, name=name)
    append_back(part, back)
    free_batch(part)
    joined = attach_front(part, name=name, front=begin)
    content: bytes = joined.SerializeToString(deterministic=True)
    check_answers(content, front.kind.feeds(signals), as_logits(answers, back), name=name)
    return content


def _signals(front: SignalFront) -> np.ndarray:
    """Two signals of different level, a little longer than what the network takes."""
    rng = np.random.default_rng(0)
    signals = np.stack([front.kind.random((1, front.width + 9), rng) for _ in range(2)])
    signals[1] //= 2 if signals.dtype.kind in "ui" else 1
    return signals


def _check_input(source: onnx.ValueInfoProto, front: SignalFront, name: str) -> tuple[int, Form]:
    """Check type and shape of the input; the type of its numbers, and its axes."""
    kind, width = source.type.tensor_type.elem_type, front.width
    sizes = sizes_of(source)
    forms: dict[Form, list[int]] = {
        "flat": [width],
        "channel first": [1, width],
        "channel last": [width, 1],
    }
    found = [
        form
        for form, wanted in forms.items()
        if len(sizes) == 1 + len(wanted)
        and all(
            not isinstance(have, int) or have == want for have, want in zip(sizes[1:], wanted, strict=True)
        )
    ]
    if kind not in (*FLOATS, *WHOLE) or not found:
        raise ModelError(
            f"model {name!r}: expected an input [N, {width}], [N, 1, {width}] or [N, {width}, 1] of numbers, "
            f"got {describe(source)}. Say what it takes with --first and --last, or --rate and --seconds."
        )
    axes = source.type.tensor_type.shape.dim
    for axis, size in zip(list(axes)[1:], forms[found[0]], strict=True):
        axis.dim_value = size
    if axes[0].dim_value <= 0:
        axes[0].dim_param = "N"
    return int(kind), found[0]
