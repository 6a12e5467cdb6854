"""The catalogue of a publisher's folder: what it offers, read without checking who signed it.

For planning only, next to the publisher. A device learns what to install from signatures.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from zoo.errors import CardError
from zoo.files import MAX_JSON_BYTES, decode_record, read_verified
from zoo.releases.release import SCHEMA_VERSION, Assignment, Blob, BundleRelease, Index, ModelRelease
from zoo.types import Positive, Sha256

KINDS: dict[str, Any] = {"models": ModelRelease, "bundles": BundleRelease, "assignments": Assignment}

T = TypeVar("T")


class _Hashes(msgspec.Struct):
    sha256: Sha256


class _Target(msgspec.Struct):
    length: Annotated[int, Meta(ge=0, le=MAX_JSON_BYTES)]
    hashes: _Hashes


class _Targets(msgspec.Struct):
    targets: dict[str, _Target]


class _Version(msgspec.Struct):
    version: Positive


class _Versions(msgspec.Struct):
    meta: dict[str, _Version]


class _SignedTargets(msgspec.Struct):
    signed: _Targets


class _SignedVersions(msgspec.Struct):
    signed: _Versions


def index_from_folder(folder: str | Path) -> Index:
    """What the publisher in `folder` offers now; signatures are not checked.

    The files of The Update Framework are followed from ``timestamp.json``, which is replaced last, so that a
    publication that is under way is not seen by half.

    Raises
    ------
    CardError
        When there is no publisher, or a record does not validate or is not what its name says.
    DigestError
        When a record is not the one that is named.
    """
    root = Path(folder)
    metadata = root / "metadata"
    if not (metadata / "timestamp.json").is_file():
        raise CardError(
            f"expected the folder of a publisher, got no metadata/timestamp.json in {folder}. "
            "Publish there first, or check the path."
        )
    stamp = _decode(metadata / "timestamp.json", _SignedVersions)
    snapshot = _decode(metadata / f"{_version(stamp, 'snapshot.json')}.snapshot.json", _SignedVersions)
    found: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    for role in ("targets.json", "assignments.json"):
        if role in snapshot.signed.meta:
            listed = _decode(metadata / f"{_version(snapshot, role)}.{role}", _SignedTargets)
            for kind, name, record in _records(root, listed.signed.targets):
                found[kind][name] = record
    return Index(**found)


def read_blob(folder: str | Path, blob: Blob) -> bytes:
    """Content of a blob in a publisher's folder; raises :class:`DigestError` when it is not that."""
    return read_verified(Path(folder) / blob.path, blob.sha256, blob.size_bytes)


def _records(root: Path, targets: dict[str, _Target]) -> Iterator[tuple[str, str, Any]]:
    for path, target in sorted(targets.items()):
        parts = PurePosixPath(path).parts
        if len(parts) != 2 or parts[0] not in KINDS or not parts[1].endswith(".json"):
            raise CardError(
                f"{root}: expected targets such as models/NAME.json, got {path!r}. Publish with zooselect."
            )
        kind, name = parts[0], parts[1].removesuffix(".json")
        file = root / "targets" / kind / f"{target.hashes.sha256}.{parts[1]}"
        content = read_verified(file, target.hashes.sha256, target.length)
        record = decode_record(content, KINDS[kind], name=str(file), schema_version=SCHEMA_VERSION)
        stated = record.group if kind == "assignments" else record.name
        if stated != name:
            raise CardError(
                f"{file}: expected the record of {name!r}, got that of {stated!r}. Publish again."
            )
        yield kind, name, record


def _version(of: _SignedVersions, role: str) -> int:
    if role not in of.signed.meta:
        raise CardError(f"expected the version of {role} in the metadata, got none. Publish again.")
    return of.signed.meta[role].version


def _decode(path: Path, kind: type[T]) -> T:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise CardError(f"{path}: expected at most {MAX_JSON_BYTES:,} bytes, got more. Publish again.")
        return msgspec.json.decode(content, type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CardError(
            f"{path}: expected metadata of The Update Framework, got: {error}. Publish again."
        ) from error
