"""The front of a stored graph that takes signals: any length → the input of one network.

Of every signal the first and the last samples are kept, as many as the network looks at; what a short signal
lacks is padded. White space at the outer ends of text can be stripped before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from zoo.convert.preprocessing_graph import OPSET, PREFIX, GraphBuilder
from zoo.errors import ModelError
from zoo.inputs.signal import Signal
from zoo.models.card import ModelCard
from zoo.models.model import read_graph

FROM, TO = "from", "to"  # constants of the slice of an end
Form = Literal["flat", "channel first", "channel last"]  # [N, W], [N, 1, W], [N, W, 1]

WHITE_SPACE = (9, 10, 11, 12, 13, 32)  # of ASCII
MAX_WIDTH = 2**24
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


@dataclass(frozen=True)
class SignalFront:
    """What a network expects to have happened to a signal.

    Parameters
    ----------
    kind
        What is handed over.
    first, last
        How many samples of the beginning and of the end the network takes, one after the other.
    pad
        What stands after a beginning and before an end that are shorter; for bytes often 256, which is none.
    strip
        Of bytes: white space at the outer ends of the first and the last `strip` bytes is left out; 0: none.
    scale
        Samples are multiplied by this; by default 1 / 32768 for int16 into real numbers, else 1.

    Raises
    ------
    ModelError
        When they do not fit together.

    Examples
    --------
    >>> from zoo.convert.signals.signal_front import SignalFront
    >>> from zoo.inputs.signal import Signal
    >>> SignalFront(Signal(), first=512, last=512, pad=256, strip=4096).width
    1024
    """

    kind: Signal
    first: int
    last: int = 0
    pad: float = 0.0
    strip: int = 0
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.first < 0 or self.last < 0 or not 1 <= self.width <= MAX_WIDTH:
            raise ModelError(
                f"expected 1 to {MAX_WIDTH:,} first and last samples together, got {self.first} and "
                f"{self.last}. Say what the network takes."
            )
        taken = max(self.first, self.last)
        if self.strip and not (self.kind.is_bytes and taken <= self.strip <= MAX_WIDTH):
            raise ModelError(
                f"expected to strip white space of at least the {taken} bytes that are "
                f"taken of an end, and of bytes alone, got {self.strip} of {self.kind}."
            )

    @property
    def width(self) -> int:
        """Samples that the network takes."""
        return self.first + self.last

    def model(
        self, *, type: int = TensorProto.FLOAT, form: Form = "flat", opset: int = OPSET
    ) -> onnx.ModelProto:
        """``signal`` ``[N, L]`` → the input of a network, as a model of its own.

        Parameters
        ----------
        type
            Of the result, an ``onnx.TensorProto.DataType``.
        form
            Axes of the result.
        """
        build = GraphBuilder(PREFIX)
        # whole numbers with room for a padding that is no byte; real ones where samples are
        whole = self.kind.is_bytes or (self.kind.type == "int16" and type not in _FLOATS)
        kind = int(TensorProto.INT32 if whole else TensorProto.FLOAT)
        ends = [end for end, count in ((False, self.first), (True, self.last)) if count]
        parts = [self._end(build, kind, at_end=end) for end in ends]
        last = parts[0] if len(parts) == 1 else build.op("Concat", "both", *parts, axis=1)
        scale = self.scale
        if scale is None and self.kind.type == "int16" and type in _FLOATS:
            scale = 1 / 32768
        if scale not in (None, 1.0):
            if kind != TensorProto.FLOAT:
                last = build.op("Cast", "real", last, to=TensorProto.FLOAT)
                kind = TensorProto.FLOAT
            last = build.op("Mul", "scaled", last, build.constant("scale", scale, np.float32))
        shape: list[str | int] = ["N", self.width]
        if form != "flat":
            axis = 1 if form == "channel first" else 2
            last = build.op("Unsqueeze", "channel", last, build.constant("channel_axis", [axis], np.int64))
            shape.insert(axis, 1)
        if kind != type:
            last = build.op("Cast", "cast", last, to=type)
        taken = helper.np_dtype_to_tensor_dtype(np.dtype(self.kind.type))
        return build.model(
            helper.make_tensor_value_info("signal", taken, ["N", "L"]),
            helper.make_tensor_value_info(last, type, shape),
            opset=opset,
        )

    def _end(self, build: GraphBuilder, kind: int, *, at_end: bool) -> str:
        """The first or the last samples ``[N, first]``, padded."""
        side, count = ("last", self.last) if at_end else ("first", self.first)
        block = self.strip or count

        def named(name: str) -> str:
            return f"{side}_{name}"

        def whole(name: str, values: object) -> str:
            return build.constant(named(name), values, np.int64)  # type: ignore[arg-type]

        start, end = (-block, np.iinfo(np.int64).max) if at_end else (0, block)
        cut = whole(FROM, [start]), whole(TO, [end]), whole("axis", [1])
        part = build.op("Cast", named("wide"), build.op("Slice", named("block"), "signal", *cut), to=kind)
        length = build.op("Shape", named("length"), part, start=1, end=2)
        room = build.op("Sub", named("room"), whole("most", [block + (count if self.strip else 0)]), length)
        none = whole("none", [0])
        before = (whole("row", [0]), room) if at_end else (whole("row", [0]), none)
        after = (none,) if at_end else (room,)
        pads = build.op("Concat", named("pads"), *before, whole("row_end", [0]), *after, axis=0)
        inner = np.int32 if kind == TensorProto.INT32 else np.float32
        value = build.constant(named("pad"), self.pad, inner)
        padded = build.op("Pad", named("padded"), part, pads, value)
        return self._stripped(build, padded, count, at_end=at_end) if self.strip else padded

    def _stripped(self, build: GraphBuilder, padded: str, count: int, *, at_end: bool) -> str:
        """`count` samples from the first, or up to the last, that is no white space."""
        side = "last" if at_end else "first"
        spaces = np.zeros(257, np.int64)
        spaces[list(WHITE_SPACE)] = 1
        inked = build.constant(f"{side}_inked", 1 - spaces, np.int32)
        clipped = build.op(
            "Clip",
            f"{side}_known",
            padded,
            build.constant(f"{side}_byte_least", 0, np.int32),
            build.constant(f"{side}_byte_most", 256, np.int32),
        )
        ink = build.op("Gather", f"{side}_ink", inked, clipped, axis=0)
        place = build.op("ArgMax", f"{side}_place", ink, axis=1, keepdims=1, select_last_index=int(at_end))
        offsets = np.arange(count) - (count - 1 if at_end else 0)
        steps = build.constant(f"{side}_offsets", [offsets], np.int64)
        index = build.op("Add", f"{side}_index", place, steps)
        return build.op("GatherElements", f"{side}_kept", padded, index, axis=1)


def ends_seen(card: ModelCard, folder: Path) -> tuple[int, int] | None:
    """How many of the first and of the last samples a model of a zoo sees, here or on its server.

    None where nothing says so. Raises as :func:`zoo.models.model.read_graph`.
    """
    if card.remote is None:
        return ends_of(read_graph(card, folder))
    found = [one for one in card.remote.arrays or () if one.first or one.last]
    if not found:
        return None
    sent = found[0]
    return (sent.strip or sent.first) * bool(sent.first), (sent.strip or sent.last) * bool(sent.last)


def ends_of(content: bytes) -> tuple[int, int] | None:
    """How many of the first and of the last samples a stored model sees; None where its graph does not say.

    Parameters
    ----------
    content
        Of an ONNX file under the model contract.
    """
    graph = onnx.load_model_from_string(content).graph
    held = {one.name: one for one in graph.initializer if one.name.startswith(PREFIX)}
    found = [held.get(f"{PREFIX}{name}") for name in (f"first_{TO}", f"last_{FROM}")]
    if not any(found):
        return None
    first, last = (0 if one is None else abs(int(numpy_helper.to_array(one)[0])) for one in found)
    return first, last
