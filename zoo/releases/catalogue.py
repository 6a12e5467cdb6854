"""The catalogue of a publisher's folder: what it offers, read without checking who signed it.

For planning only, next to the publisher. A device learns what to install from signatures.
"""

from __future__ import annotations

from pathlib import Path

from zoo.errors import CardError
from zoo.files import read_verified
from zoo.releases.published import Target, read_role, read_targets
from zoo.releases.release import Blob, Index


def index_from_folder(folder: str | Path) -> Index:
    """What the publisher in `folder` offers now; signatures are not checked.

    The files of The Update Framework are followed from ``timestamp.json``, which is replaced last, so that a
    publication that is under way is not seen by half.

    Raises
    ------
    CardError
        When there is no publisher, or metadata or a record does not validate.
    TrustError
        When something that is named is no record, or not the one that its name says.
    DigestError
        When a record is not the one that is named.
    """
    metadata = Path(folder) / "metadata"
    if not (metadata / "timestamp.json").is_file():
        raise CardError(
            f"expected the folder of a publisher, got no metadata/timestamp.json in {folder}. "
            "Publish there first, or check the path."
        )
    version = read_role(metadata / "timestamp.json").version("snapshot")
    snapshot = read_role(metadata / f"{version}.snapshot.json")
    targets: dict[str, Target] = {}
    for role in ("targets", "assignments"):
        if f"{role}.json" in snapshot.meta:
            targets |= read_role(metadata / f"{snapshot.version(role)}.{role}.json").targets
    return read_targets(Path(folder), targets)


def read_blob(folder: str | Path, blob: Blob) -> bytes:
    """Content of a blob in a publisher's folder; raises :class:`DigestError` when it is not that."""
    return read_verified(Path(folder) / blob.path, blob.sha256, blob.size_bytes)
