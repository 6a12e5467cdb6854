"""Records as targets: files named by their digest, and their entries in the signed metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from zoo.errors import TrustError
from zoo.files import write_atomic
from zoo.publisher.metadata import Signed, TargetFile
from zoo.releases.published import Record, Target, read_targets, target_file, target_path
from zoo.releases.release import Index

REMOVED = "x-zooselect-removed"  # in targets and assignments: target path → last version of what is gone


def read_index(root: str | Path, signed: Signed) -> Index:
    """The records that the metadata names, verified by what it says.

    Raises
    ------
    TrustError
        When the metadata names something that is no record, or not the one that its name says.
    CardError
        When a record does not validate.
    DigestError
        When a record is missing or was changed.
    """
    listed = {**signed.targets.signed.targets, **signed.assignments.signed.targets}
    stated = {path: target.to_dict() for path, target in listed.items()}
    try:
        targets = msgspec.convert(stated, dict[str, Target])
    except msgspec.ValidationError as error:
        raise TrustError(f"expected records of a publisher, got: {error}. Publish with zooselect.") from error
    return read_targets(Path(root), targets)


def next_version(record: Record, before: Record | None, signed: Signed) -> Record:
    """The record with the version that it gets: that of `before` where nothing else differs, else one more.

    Versions count on where something was removed in between, so that no device sees one twice.
    """
    if before is not None:
        same = msgspec.structs.replace(record, version=before.version)
        return before if same == before else msgspec.structs.replace(record, version=before.version + 1)
    gone = _removed(signed, target_path(record)).get(target_path(record), 0)
    return msgspec.structs.replace(record, version=gone + 1)


def put(root: str | Path, signed: Signed, record: Record) -> None:
    """Write a record and enter it into the metadata, which is committed later."""
    path = target_path(record)
    content = msgspec.json.encode(record)  # compact: every device reads it
    target = TargetFile.from_data(path, content, ["sha256"])
    write_atomic(target_file(Path(root), path, target.hashes["sha256"]), content)
    _targets(signed, path)[path] = target
    _removed(signed, path).pop(path, None)


def drop(signed: Signed, record: Record) -> None:
    """Take a record out of the metadata, and remember its version."""
    path = target_path(record)
    del _targets(signed, path)[path]
    _removed(signed, path)[path] = record.version


def _role(signed: Signed, path: str) -> Any:
    return (signed.assignments if path.startswith("assignments/") else signed.targets).signed


def _targets(signed: Signed, path: str) -> dict[str, TargetFile]:
    found: dict[str, TargetFile] = _role(signed, path).targets
    return found


def _removed(signed: Signed, path: str) -> dict[str, int]:
    found: dict[str, int] = _role(signed, path).unrecognized_fields.setdefault(REMOVED, {})
    return found
