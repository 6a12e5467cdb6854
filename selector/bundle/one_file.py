"""The record of a selector in one ONNX file: read from the file's metadata, without opening the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from numpy.typing import NDArray

from selector.bundle.bundle import OLDEST_VERSION, SCHEMA_VERSION, Bundle
from selector.policies.constraint import Constraint
from zoo.errors import BundleError, SchemaVersionError
from zoo.files import decode_record, open_file, record_schema
from zoo.inputs.kind import Batch, GraphInput, InputKind
from zoo.types import Name

ONE_FILE_VERSION = 1
RECORD = "zooselect.selector"  # the key of the record among the metadata of the file
MAX_FILE_BYTES = 2**31 - 1  # what one protobuf message can hold
MAX_RECORD_BYTES = 2**24
OUTPUTS = ("probabilities", "class_index", "label", "model", "path", "probability")
DRIFT_OUTPUTS = ("drift_features", "confidence")
_METADATA = 14  # field numbers of ONNX: ModelProto.metadata_props, StringStringEntryProto.key and .value
_KEY, _VALUE = 1, 2
_MAX_FIELDS = 100_000  # of the message of a model, each of its metadata being one


class OneFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a selector in one file answers for, and what it was made from.

    The bundle holds the one policy that the graph follows, its certificates, and the cards of its models.
    """

    schema_version: Annotated[int, Meta(ge=1)]
    constraint: Constraint  # that the graph was written for
    environment: str | None  # of the certificate; None: the mix of the calibration data
    models: Annotated[tuple[Name, ...], Meta(min_length=1)]  # in the graph
    threshold: float | None  # of the policy; None: nothing is certified, one model answers alone
    drift: bool  # whether the graph gives the features and the confidence that tell a change
    min_onnxruntime: Annotated[str, Meta(pattern=r"^[0-9]+\.[0-9]+$(?!\n)")]
    opset: Annotated[int, Meta(ge=1)]
    zooselect: str  # the version that wrote it
    bundle: Bundle

    def __post_init__(self) -> None:
        known = {card.name for card in self.bundle.models}
        if not set(self.models) <= known or len(set(self.models)) != len(self.models):
            raise ValueError(f"models: expected distinct models of the bundle, got {list(self.models)}")
        if (
            len(self.bundle.policies) != 1
            or not OLDEST_VERSION <= self.bundle.schema_version <= SCHEMA_VERSION
        ):
            raise ValueError("bundle: expected one with a single policy, of a known schema version")
        if self.threshold is not None and set(self.bundle.policies[0].models) != set(self.models):
            raise ValueError("models: expected those of the policy")
        if self.drift and self.bundle.drift is None:
            raise ValueError("drift: expected a drift reference in the bundle, got none")


def read_one_file(path: Path) -> tuple[OneFile, bytes]:
    """The record of a file, and all of its content.

    Raises
    ------
    BundleError
        When it is no selector in one file, or too large for one.
    CardError, SchemaVersionError
        When its record does not validate, or a newer zooselect wrote it.
    """
    try:
        with open_file(path) as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BundleError(
            f"{path}: expected a selector in one file, got: {error.strerror}. Check the path."
        ) from error
    if len(content) > MAX_FILE_BYTES:
        raise BundleError(f"{path}: expected at most {MAX_FILE_BYTES:,} bytes, got more. Check the path.")
    return decode_one_file(content, str(path)), content


def decode_one_file(content: bytes, name: str) -> OneFile:
    """The record in the content of a file; raises like :func:`read_one_file`.

    Parameters
    ----------
    name
        What errors call the file.
    """
    try:
        held = _entry(memoryview(content), RECORD)
    except (ValueError, IndexError) as error:
        raise BundleError(
            f"{name}: expected an ONNX file, got something else ({error}). Check the path."
        ) from error
    if held is None:
        raise BundleError(
            f"{name}: expected a selector in one file, got an ONNX file without the record of one. "
            "Make one with 'zooselect export --one-file', or give the folder of a bundle."
        )
    if len(held) > MAX_RECORD_BYTES:
        raise BundleError(
            f"{name}: expected a record of at most {MAX_RECORD_BYTES:,} bytes, got {len(held):,}. "
            "Make the file again."
        )
    return decode_record(held, OneFile, name=name, schema_version=ONE_FILE_VERSION)


def inputs_of(kind: InputKind) -> tuple[GraphInput, ...]:
    """The inputs of a file: those of the models, without the axis of the batch."""
    return tuple(GraphInput(one.name, one.type, one.axes[1:]) for one in kind.inputs)


def feeds_of(kind: InputKind, one: Batch) -> dict[str, NDArray[Any]]:
    """What a file is given for a batch of one input: its arrays, without the axis of the batch."""
    return {name: value[0, ...] for name, value in kind.feeds(one).items()}


def check_runtime(record: OneFile, version: str, name: str) -> None:
    """Raise :class:`SchemaVersionError` unless an ONNX Runtime of this version can open the file."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(".")[:2]]

    if numbers(version) < numbers(record.min_onnxruntime):
        raise SchemaVersionError(
            f"{name}: expected ONNX Runtime {record.min_onnxruntime} or newer, for operators of opset "
            f"{record.opset}, got {version}. Upgrade it with 'pip install -U onnxruntime'."
        )


def one_file_json_schema() -> dict[str, Any]:
    """JSON Schema of the record of a selector in one file."""
    return record_schema(OneFile)


def _entry(message: memoryview, key: str) -> bytes | None:
    """The value of one key among the metadata; what is passed over is not looked into."""
    for number, value in _fields(message):
        if number == _METADATA:
            entry = dict(_fields(value))
            if bytes(entry.get(_KEY, b"")) == key.encode():
                return bytes(entry.get(_VALUE, b""))
    return None


def _fields(message: memoryview) -> list[tuple[int, memoryview]]:
    """Field numbers and contents of a protobuf message, of those fields that have a length."""
    found: list[tuple[int, memoryview]] = []
    at = 0
    for _ in range(_MAX_FIELDS):
        if at == len(message):
            return found
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            size, at = _varint(message, at)
            found.append((tag >> 3, message[at : at + size]))
            at += size
        else:
            raise ValueError(f"a field of kind {kind}")
        if at > len(message):
            raise ValueError("a field that is longer than the file")
    raise ValueError(f"more than {_MAX_FIELDS:,} fields")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number that does not end")
