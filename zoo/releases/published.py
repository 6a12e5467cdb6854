"""Published metadata and the records that it names, read from bytes, within bounds.

The metadata is that of The Update Framework. Nothing here checks who has signed it: a device and a publisher
check that themselves, each in its way, and a catalogue does without.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from zoo.errors import CardError, TrustError
from zoo.files import decode_record, open_file, read_verified
from zoo.releases.release import SCHEMA_VERSION, Assignment, BundleRelease, Index, ModelRelease
from zoo.types import Positive, Sha256

Record = ModelRelease | BundleRelease | Assignment

KINDS: dict[str, Any] = {f"{one.kind}s": one for one in (ModelRelease, BundleRelease, Assignment)}
PUBLISHED_AT = "x-zooselect-published"  # in targets: seconds since 1970 of the publication
MAX_METADATA_BYTES = 16 * 2**20  # of one role
MAX_RECORD_BYTES = 4 * 2**20
MAX_RECORDS = 10_000  # of one role


class _Hashes(msgspec.Struct, frozen=True):
    sha256: Sha256


class Target(msgspec.Struct, frozen=True):
    """A file that is named by its digest."""

    length: Annotated[int, Meta(ge=0, le=MAX_RECORD_BYTES)]
    hashes: _Hashes


class _Version(msgspec.Struct, frozen=True):
    version: Positive


class Role(msgspec.Struct, frozen=True):
    """What the metadata of a role names; the rest of it matters to those who check signatures."""

    kind: str = msgspec.field(name="_type")
    meta: dict[str, _Version] = {}  # file of another role, without its number → version
    targets: Annotated[dict[str, Target], Meta(max_length=MAX_RECORDS)] = {}  # such as models/NAME.json
    published: float = msgspec.field(default=float("inf"), name=PUBLISHED_AT)
    expires: datetime | None = None

    def version(self, role: str) -> int:
        """The version of another role; raises :class:`CardError` where it is not named."""
        if f"{role}.json" not in self.meta:
            raise CardError(f"expected the version of {role}.json in the metadata, got none. {_ADVICE}")
        return self.meta[f"{role}.json"].version


class _Envelope(msgspec.Struct, frozen=True):
    signed: Role


def read_metadata(path: Path) -> bytes:
    """Content of a file of metadata; raises :class:`CardError` when it is missing or too large."""
    try:
        with open_file(path) as stream:
            content = stream.read(MAX_METADATA_BYTES + 1)
    except OSError as error:
        raise CardError(
            f"{path}: expected metadata of The Update Framework, got: {error.strerror}. {_ADVICE}"
        ) from error
    if len(content) > MAX_METADATA_BYTES:
        raise CardError(f"{path}: expected at most {MAX_METADATA_BYTES:,} bytes, got more. {_ADVICE}")
    return content


def read_role(path: Path) -> Role:
    """The metadata of a role, such as ``3.targets.json``, whoever has signed it.

    Raises
    ------
    CardError
        When it is missing, does not validate, or is that of another role.
    """
    try:
        role = msgspec.json.decode(read_metadata(path), type=_Envelope).signed
        name = path.name.split(".")[-2]
        if role.kind != ("targets" if name == "assignments" else name):
            raise msgspec.ValidationError(f"that of {role.kind!r}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CardError(
            f"{path}: expected metadata of The Update Framework, got: {error}. {_ADVICE}"
        ) from error
    return role


def target_path(record: Record) -> str:
    """What a record is called in the metadata."""
    return f"{record.kind}s/{record.name}.json"


def target_file(root: Path, path: str, sha256: str) -> Path:
    """Where the record of a target lies in a publisher's folder; raises :class:`TrustError` if it is none."""
    kind, name = _kind_of(path)
    return root / "targets" / kind / f"{sha256}.{name}.json"


def read_targets(root: Path, targets: Mapping[str, Target]) -> Index:
    """The records of some targets in a publisher's folder.

    Raises
    ------
    TrustError
        When a target is no record, or is not the one that its name says.
    CardError
        When a record does not validate.
    DigestError
        When a record is missing or was changed.
    """
    return index_of(
        (path, read_verified(target_file(root, path, one.hashes.sha256), one.hashes.sha256, one.length))
        for path, one in sorted(targets.items())
    )


def index_of(contents: Iterable[tuple[str, bytes]]) -> Index:
    """The records in the contents of some targets; raises like :func:`read_targets`."""
    found: dict[str, dict[str, Record]] = {kind: {} for kind in KINDS}
    for path, content in contents:
        kind, name = _kind_of(path)
        record: Record = decode_record(content, KINDS[kind], name=path, schema_version=SCHEMA_VERSION)
        if record.name != name:
            raise TrustError(
                f"{path}: expected the record of {name!r}, got that of {record.name!r}. {_ADVICE}"
            )
        found[kind][name] = record
    return Index(**found)  # type: ignore[arg-type]  # each kind holds its own


def _kind_of(path: str) -> tuple[str, str]:
    """Kind and name of the record that a target is."""
    kind, _, file = path.partition("/")
    name = file.removesuffix(".json")
    if kind not in KINDS or "/" in file or name == file:
        raise TrustError(f"expected targets such as models/NAME.json, got {path!r}. Publish with zooselect.")
    return kind, name


_ADVICE = "Publish again."
