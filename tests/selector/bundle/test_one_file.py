"""Claims about reading the record of a selector in one file: bytes of strangers end in errors of ours."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selector.bundle.one_file import RECORD, decode_one_file
from tests.support.onnx_bytes import FLOAT, model, node, value_info
from zoo.errors import BundleError, CardError, SchemaVersionError, ZooError


def field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message with up to 127 bytes of content."""
    return bytes([number << 3 | 2, len(content)]) + content


def with_record(record: bytes) -> bytes:
    plain = model(
        "m", [node("Relu", ["x"], ["y"])], [value_info("x", FLOAT, [1])], [value_info("y", FLOAT, [1])], {}
    )
    return plain + field(14, field(1, RECORD.encode()) + field(2, record))


@settings(max_examples=40)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_our_words(content: bytes) -> None:
    with pytest.raises(ZooError):
        decode_one_file(content, "f.onnx")
    with pytest.raises(ZooError):
        decode_one_file(with_record(content[:60]), "f.onnx")


def test_a_newer_record_and_a_broken_one_are_told_apart() -> None:
    with pytest.raises(SchemaVersionError, match="expected schema version 1 or older, got 7"):
        decode_one_file(with_record(b'{"schema_version":7}'), "f.onnx")
    with pytest.raises(CardError, match="not a valid OneFile record"):
        decode_one_file(with_record(b'{"schema_version":1}'), "f.onnx")
    with pytest.raises(BundleError, match="without the record of one"):
        decode_one_file(b"", "f.onnx")
