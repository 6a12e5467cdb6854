"""The few parts of an ONNX file that small models need, written without the package onnx.

Tests of the device side run where only a device's packages are. The numbers are the field numbers of
``onnx.proto``; ``tests/zoo/models/test_small_models.py`` holds the bytes against those of the package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

FLOAT, UINT8, INT64, BOOL = 1, 2, 7, 9  # as ONNX numbers its types
_TYPES = {np.dtype(np.float32): FLOAT, np.dtype(np.int64): INT64}
_INT_ATTRIBUTE, _GRAPH_ATTRIBUTE = 2, 5


def _varint(value: int) -> bytes:
    value &= 2**64 - 1  # negative numbers take ten bytes
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: int | bytes) -> bytes:
    """A node; attributes are integers, or graphs."""
    out = b"".join([_field(1, name) for name in inputs] + [_field(2, name) for name in outputs])
    out += _field(4, operator)
    for name, value in sorted(attributes.items()):
        number, kind = (6, _GRAPH_ATTRIBUTE) if isinstance(value, bytes) else (3, _INT_ATTRIBUTE)
        out += _field(5, _field(1, name) + _field(number, value) + _field(20, kind))
    return out


def tensor(name: str, value: np.ndarray) -> bytes:
    """An initialiser of float32 or int64."""
    shape = b"".join(_field(1, size) for size in value.shape)
    return shape + _field(2, _TYPES[value.dtype]) + _field(8, name) + _field(9, value.tobytes())


def value_info(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    """An input or output; an axis is a size or a name."""
    dims = b"".join(_field(1, _field(1 if isinstance(axis, int) else 2, axis)) for axis in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, dims)))


def model(
    name: str,
    nodes: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    constants: Mapping[str, np.ndarray],
    *,
    opset: int = 18,
    ir_version: int = 10,
) -> bytes:
    """A whole file."""
    content = graph(name, nodes, inputs, outputs, constants)
    return _field(1, ir_version) + _field(7, content) + _field(8, _field(1, "") + _field(2, opset))


def graph(
    name: str,
    nodes: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    constants: Mapping[str, np.ndarray],
) -> bytes:
    """The graph of a file, or of an attribute."""
    content = b"".join(_field(1, one) for one in nodes) + _field(2, name)
    content += b"".join(_field(5, tensor(key, value)) for key, value in constants.items())
    return content + b"".join([*(_field(11, one) for one in inputs), *(_field(12, one) for one in outputs)])
