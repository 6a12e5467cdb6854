"""Cleaning up behind a publisher: files that no device can want any more.

A device that has just read the metadata fetches what it names for a while. So everything that was named
within a grace period stays, by the signed times of publication; of what no metadata names, everything that
was written within it.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from zoo.errors import CardError, PublishError
from zoo.publisher.metadata import PUBLISHED_AT
from zoo.publisher.signing import locked
from zoo.publisher.staging import PREFIX
from zoo.releases.catalogue import index_from_folder
from zoo.types import Sha256

GRACE_DAYS = 7.0


@dataclass(frozen=True)
class Cleaned:
    """What was removed."""

    files: int
    bytes: int


def clean(
    root: str | Path, *, grace_days: float = GRACE_DAYS, now: float | None = None, dry_run: bool = False
) -> Cleaned:
    """Remove blobs, records and metadata that nothing has named for `grace_days` days. Needs no keys.

    Roots stay for ever: a device that slept for years finds its way along them.

    Raises
    ------
    PublishError
        When nothing is published there, or the grace period is negative.
    CardError
        When the metadata cannot be read; nothing is removed then.
    """
    folder = Path(root)
    if grace_days < 0 or not (folder / "metadata" / "timestamp.json").is_file():
        raise PublishError(
            f"expected a publisher's folder and a grace period of 0 days or more, "
            f"got {root} and {grace_days:g}."
        )
    with locked(root):
        since = (time.time() if now is None else now) - grace_days * 86400
        keep = _named(folder, since)
        old = [path for path in _candidates(folder) if path not in keep and path.stat().st_mtime < since]
        size = sum(path.stat().st_size for path in old)
        if not dry_run:
            for path in old:
                path.unlink(missing_ok=True)
            for left in folder.glob(f"{PREFIX}*"):  # of publications that were killed
                if left.stat().st_mtime < min(since, time.time() - 86400):  # not one that is under way
                    shutil.rmtree(left, ignore_errors=True)
        return Cleaned(len(old), size)


def _named(root: Path, since: float) -> set[Path]:
    """Every file that the metadata names, or named at any time since then."""
    index_from_folder(root)  # what is served now has to be sound before anything goes
    metadata = root / "metadata"
    stamp = _read(metadata / "timestamp.json")
    latest = stamp.meta["snapshot.json"].version
    versions = {
        name: entry.version for name, entry in _read(metadata / f"{latest}.snapshot.json").meta.items()
    }
    keep = {metadata / "timestamp.json"}
    for role, current in {**versions, "snapshot.json": latest}.items():
        superseded = float("inf")
        for version in range(current, 0, -1):
            path = metadata / f"{version}.{role}"
            if superseded < since or not path.is_file():
                break
            keep.add(path)
            signed = _read(path)
            keep.update(_files(root, signed.targets))
            superseded = signed.published if role == "targets.json" else path.stat().st_mtime
    return keep


def _files(root: Path, targets: dict[str, _Target]) -> set[Path]:
    found = set()
    for path, target in targets.items():
        kind, _, name = path.partition("/")
        record = root / "targets" / kind / f"{target.hashes.sha256}.{name}"
        found.add(record)
        if kind in ("models", "bundles"):
            found.update(root / "blobs" / digest[:2] / digest for digest in _blobs(record))
    return found


def _blobs(record: Path) -> set[str]:
    """Digests of all blobs that a record of any version names, whatever else is in it."""
    if not record.is_file():
        return set()
    found: set[str] = set()
    left: list[Any] = [msgspec.json.decode(record.read_bytes())]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if value.keys() == {"sha256", "size_bytes"}:
                found.add(str(value["sha256"]))
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
    return found


def _candidates(root: Path) -> list[Path]:
    files = [*root.glob("blobs/*/*"), *root.glob("targets/*/*"), *root.glob("metadata/*.json")]
    files += [*root.glob("**/.*.tmp")]  # half-written when a publication was killed
    return [path for path in dict.fromkeys(files) if path.is_file() and not path.name.endswith(".root.json")]


class _Hashes(msgspec.Struct):
    sha256: Sha256


class _Target(msgspec.Struct):
    hashes: _Hashes


class _Version(msgspec.Struct):
    version: int


class _Part(msgspec.Struct):
    meta: dict[str, _Version] = {}
    targets: dict[str, _Target] = {}
    published: float = msgspec.field(default=float("inf"), name=PUBLISHED_AT)


class _File(msgspec.Struct):
    signed: _Part


def _read(path: Path) -> _Part:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File).signed
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise CardError(
            f"{path}: expected metadata of The Update Framework, got: {error}. Publish again, then clean up."
        ) from error
