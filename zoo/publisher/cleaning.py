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

from zoo.errors import PublishError
from zoo.publisher.signing import locked
from zoo.publisher.staging import PREFIX
from zoo.releases.catalogue import index_from_folder
from zoo.releases.published import Target, read_role, target_file
from zoo.releases.release import blob_path

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
    CardError, TrustError
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
    latest = read_role(metadata / "timestamp.json").version("snapshot")
    snapshot = read_role(metadata / f"{latest}.snapshot.json")
    versions = {name: entry.version for name, entry in snapshot.meta.items()}
    keep = {metadata / "timestamp.json"}
    for role, current in {**versions, "snapshot.json": latest}.items():
        superseded = float("inf")
        for version in range(current, 0, -1):
            path = metadata / f"{version}.{role}"
            if superseded < since or not path.is_file():
                break
            keep.add(path)
            signed = read_role(path)
            keep.update(_files(root, signed.targets))
            superseded = signed.published if role == "targets.json" else path.stat().st_mtime
    return keep


def _files(root: Path, targets: dict[str, Target]) -> set[Path]:
    found = set()
    for path, target in targets.items():
        record = target_file(root, path, target.hashes.sha256)
        found.add(record)
        if not path.startswith("assignments/"):
            found.update(root / blob_path(digest) for digest in _blobs(record))
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
