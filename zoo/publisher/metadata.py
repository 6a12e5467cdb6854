"""The signed metadata of a publisher's folder, read back: The Update Framework with one delegated role.

Every version has a file of its own, except the timestamp: replacing it is what publishes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from zoo.errors import CardError, KeysError, MissingExtraError, TrustError
from zoo.extras import install_command
from zoo.publisher.keys import Keys, RoleName
from zoo.releases.published import read_metadata

try:
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, Snapshot, Targets, Timestamp
    from tuf.api.metadata import MetaFile as MetaFile
    from tuf.api.metadata import TargetFile as TargetFile
    from tuf.api.serialization import DeserializationError
except ImportError as _missing:
    raise MissingExtraError(f"publishing needs python-tuf: {install_command('publish')}") from _missing

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)


class Signed:
    """What is served: root, timestamp, snapshot, targets and assignments, each signed as the root demands.

    Besides, it is noted which of them a key at hand has signed. A publisher goes on from these alone, so
    that whoever can write to the folder, but has no key, cannot have anything signed.

    Parameters
    ----------
    root
        The publisher's folder.
    keys
        Those at hand. Where nothing is published yet, one of every role is needed, and all that are at hand
        become the publisher's.
    root_threshold
        How many root keys have to sign, where there is no root yet.

    Raises
    ------
    KeysError
        When there is no root yet, and a key is missing.
    TrustError
        When a file is damaged, or not signed by the keys that the root names.
    """

    def __init__(self, root: str | Path, keys: Keys, *, root_threshold: int = 1) -> None:
        self.folder = Path(root) / "metadata"
        self.keys = keys
        self.ours: set[RoleName] = set()
        self.is_first = not (self.folder / "timestamp.json").exists()
        self.root_is_new = not (self.folder / "1.root.json").exists()
        self._check_complete()
        self.timestamp = Metadata(Timestamp())
        self.snapshot = Metadata(Snapshot())
        self.targets = Metadata(Targets())
        self.assignments = Metadata(Targets())
        self.root = self._new_root(root_threshold) if self.root_is_new else self._newest_root()
        if self.is_first:
            self.delegate(keys.public("assignments"))
        else:
            self._load()

    def metadata(self, role: RoleName) -> Metadata[Any]:
        """The newest metadata of a role."""
        found: Metadata[Any] = getattr(self, role)
        return found

    def key_ids(self, role: RoleName) -> list[str]:
        """Ids of the keys that count for a role."""
        return list(self._delegator(role).get_delegated_role(role).keyids)

    def threshold(self, role: RoleName) -> int:
        """How many of them have to sign."""
        return self._delegator(role).get_delegated_role(role).threshold

    def can_sign(self, role: RoleName) -> bool:
        """Whether enough keys are at hand to sign a role."""
        return sum(self.keys.has(role, [key_id]) for key_id in self.key_ids(role)) >= self.threshold(role)

    def delegate(self, keys: Collection[Any]) -> None:
        """Name the keys that sign assignments; one of them is enough."""
        if not keys:
            raise KeysError(_no_key("assignments", self.keys))
        role = DelegatedRole("assignments", [key.keyid for key in keys], 1, True, ["assignments/*"])
        self.targets.signed.delegations = Delegations({key.keyid: key for key in keys}, {"assignments": role})

    def _check_complete(self) -> None:
        """Refuse to start over where something was published, which devices would take for an old state."""
        numbers = (path.name.partition(".")[0] for path in self.folder.glob("*.json"))
        published = any(number.isdecimal() and int(number) > 1 for number in numbers)
        if (published and self.is_first) or (self.root_is_new and not self.is_first):
            lost = "timestamp.json" if published else "1.root.json"
            raise TrustError(
                f"expected {self.folder / lost} beside what was published before, got none. {_RESTORE_ADVICE}"
            )

    def _new_root(self, threshold: int) -> Metadata[Root]:
        root = Metadata(Root(consistent_snapshot=True))
        for role in ("root", "targets", "snapshot", "timestamp"):
            public = self.keys.public(role)
            if not public:
                raise KeysError(_no_key(role, self.keys))
            for key in public:
                root.signed.add_key(key, role)
        held = len(self.keys.public("root"))
        if not 1 <= threshold <= held:
            raise KeysError(
                f"expected between 1 and {held} root keys that have to sign, as many as there are, "
                f"got {threshold}."
            )
        root.signed.roles["root"].threshold = threshold
        return root

    def _newest_root(self) -> Metadata[Root]:
        """The newest root, reached from the first one, each signed as the one before demands."""
        root = self._read("1.root.json", Root)
        self._believe(root, root.signed, "root")
        while (self.folder / f"{root.signed.version + 1}.root.json").exists():
            newer = self._read(f"{root.signed.version + 1}.root.json", Root)
            self._believe(newer, root.signed, "root")
            self._believe(newer, newer.signed, "root")
            if newer.signed.version != root.signed.version + 1:
                raise TrustError(
                    f"expected root {root.signed.version + 1}, got {newer.signed.version}. {_RESTORE_ADVICE}"
                )
            root = newer
        return root

    def _load(self) -> None:
        self.timestamp = self._read("timestamp.json", Timestamp)
        self._believe(self.timestamp, self.root.signed, "timestamp")
        version = self.timestamp.signed.snapshot_meta.version
        self.snapshot = self._read(f"{version}.snapshot.json", Snapshot)
        self._believe(self.snapshot, self.root.signed, "snapshot")
        self.targets = self._read(f"{self._version('targets')}.targets.json", Targets)
        self._believe(self.targets, self.root.signed, "targets")
        self.assignments = self._read(f"{self._version('assignments')}.assignments.json", Targets)
        self._believe(self.assignments, self.targets.signed, "assignments")
        for role in ("timestamp", "snapshot", "targets", "assignments"):
            if self._is_ours(role):
                self.ours.add(role)

    def _version(self, role: RoleName) -> int:
        meta: Mapping[str, MetaFile] = self.snapshot.signed.meta
        if f"{role}.json" not in meta:
            raise TrustError(f"expected the version of {role} in the snapshot, got none. {_RESTORE_ADVICE}")
        return meta[f"{role}.json"].version

    def _read(self, name: str, kind: type[T]) -> Metadata[T]:
        path = self.folder / name
        try:
            metadata: Metadata[Any] = Metadata.from_bytes(read_metadata(path))
        except (CardError, DeserializationError, RecursionError) as error:
            raise TrustError(
                f"expected signed metadata in {path}, got: {error}. {_RESTORE_ADVICE}"
            ) from error
        if not isinstance(metadata.signed, kind):
            raise TrustError(
                f"expected {kind.type} metadata in {path}, got {metadata.signed.type}. {_RESTORE_ADVICE}"
            )
        return metadata

    def _believe(self, metadata: Metadata[Any], by: Root | Targets, role: RoleName) -> None:
        try:
            by.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except (RepositoryError, ValueError) as error:
            raise TrustError(
                f"expected {role} metadata in {self.folder} signed by its keys, got: {error}. "
                f"{_RESTORE_ADVICE}"
            ) from error

    def _is_ours(self, role: RoleName) -> bool:
        metadata = self.metadata(role)
        for key in self.keys.public(role):
            if key.keyid in self.key_ids(role) and key.keyid in metadata.signatures:
                with contextlib.suppress(Exception):  # the library has a class for each way to be wrong
                    key.verify_signature(metadata.signatures[key.keyid], metadata.signed_bytes)
                    return True
        return False

    def _delegator(self, role: RoleName) -> Root | Targets:
        return self.targets.signed if role == "assignments" else self.root.signed


def _no_key(role: str, keys: Keys) -> str:
    return (
        f"expected a key of {role!r} in {', '.join(map(str, keys.folders))}, got none. "
        "Make keys with 'zooselect publish keys FOLDER', or name the folder that holds them."
    )


_RESTORE_ADVICE = "Restore the folder from a copy that devices have accepted."
