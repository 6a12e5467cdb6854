"""Which files an ONNX graph wants to read, found in its bytes before ONNX Runtime sees them.

ONNX Runtime keeps external data inside the folder that it is given, but not in every version and place: 1.24
reads any file for a sparse initializer. The package ``onnx`` is too heavy for a device, and only a few fields
matter here, so the wire format of Protocol Buffers is walked directly.
"""

from __future__ import annotations

from collections.abc import Iterator

from zoo.errors import ModelError

MAX_FIELDS = 5_000_000
MAX_DEPTH = 100  # as deep as readers of Protocol Buffers go
_BYTES = 2  # wire type of strings and messages
_FIXED = {1: 8, 5: 4}  # wire type → size

# Message → field → message inside, for every way from a model to a tensor (onnx.proto).
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}


def external_locations(graph: bytes) -> set[str]:
    """The locations of all external data that the ONNX model in `graph` names.

    Raises
    ------
    ModelError
        When the bytes are not a message of Protocol Buffers.
    """
    found = set()
    left = [("model", 0, len(graph), 0)]
    fields = 0
    while left:
        kind, start, end, depth = left.pop()
        entry: dict[int, bytes] = {}
        for field, begin, stop in _fields(graph, start, end):
            fields += 1
            if kind == "entry":
                if field in entry:
                    raise _malformed("a key or a value twice")
                entry[field] = graph[begin:stop]
            elif field in _INSIDE[kind]:
                left.append((_INSIDE[kind][field], begin, stop, depth + 1))
        if entry.get(1) == b"location":
            found.add(entry.get(2, b"").decode("utf-8", "replace"))
        if depth > MAX_DEPTH or fields > MAX_FIELDS:
            raise _malformed("more than any model needs")
    return found


def _fields(content: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of every string or message between `at` and `end`; numbers are stepped over."""
    while at < end:
        tag, at = _number(content, at, end)
        field, wire = tag >> 3, tag & 7
        if wire == _BYTES:
            size, at = _number(content, at, end)
            if size > end - at:
                raise _malformed("a length beyond the end")
            yield field, at, at + size
            at += size
        elif wire == 0:
            _, at = _number(content, at, end)
        elif wire in _FIXED and _FIXED[wire] <= end - at:
            at += _FIXED[wire]
        else:
            raise _malformed("an unknown kind of field")


def _number(content: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _malformed("a number without an end")


def _malformed(what: str) -> ModelError:
    return ModelError(f"expected an ONNX graph, got {what}. The file is corrupt; fetch or add it again.")
