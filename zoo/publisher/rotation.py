"""Replacing keys of a publisher without a moment in which devices turn away."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoo.errors import KeysError, PublishError
from zoo.publisher.keys import Keys, RoleName
from zoo.publisher.signing import Expiry, Signing, locked


@dataclass(frozen=True)
class Rotation:
    """Which keys were replaced by which, by key id."""

    role: RoleName
    new: tuple[str, ...]
    retired: tuple[str, ...]


def rotate(
    root: str | Path, keys: Keys, role: RoleName, *, lost: bool = False, expiry: Expiry | None = None
) -> Rotation:
    """Replace all keys of a role by as many new ones, made in the first folder of `keys`.

    What the role has signed is signed by the old and the new keys first; then the keys are replaced where
    they are named: in a new root, for assignments in new targets. New files are encrypted where the old ones
    are; if those are gone, where there is a passphrase. A new root is signed by old and new root
    keys. So a device accepts what it sees before, between and after.

    Parameters
    ----------
    lost
        The old keys are gone. Devices turn away until the new root is written, a moment later. Not possible
        for the root, unless enough of its keys are left.

    Raises
    ------
    PublishError
        When nothing is published there.
    KeysError
        When a key that has to sign is missing; nothing has been changed then.
    """
    with locked(root):
        signing = Signing(root, keys, expiry=expiry, lost=(role,) if lost else ())
        if signing.is_first:
            raise PublishError(
                f"expected a publisher's folder, got nothing published in {root}. Publish there."
            )
        old = signing.key_ids(role)
        _check_keys(signing, role, lost)
        held = keys.signers(role, old, threshold=0)
        encrypted = (
            keys.are_encrypted(old) if held else None
        )  # what opens the old ones may have to open these
        public = [keys.create(role, encrypted=encrypted) for _ in old]
        new = keys.signers(role, [key.keyid for key in public])
        if role == "assignments":
            signing.delegate(public)
            signing.also_sign(role, held)
            signing.commit("targets", "assignments")
        else:
            signing.also_sign(role, held if role == "root" else new)
            if role != "root":
                signing.commit(role)
            for key in public:
                signing.root.signed.add_key(key, role)
            for key_id in old:
                signing.root.signed.revoke_key(key_id, role)
            signing.commit_root()
        return Rotation(role, tuple(key.keyid for key in public), tuple(old))


def _check_keys(signing: Signing, role: RoleName, lost: bool) -> None:
    """All that is needed, before a new key is made."""
    needed: dict[RoleName, tuple[RoleName, ...]] = {
        "root": ("root",),
        "targets": ("root", "targets", "snapshot", "timestamp"),
        "snapshot": ("root", "snapshot", "timestamp"),
        "timestamp": ("root", "timestamp"),
        "assignments": ("targets", "assignments", "snapshot", "timestamp"),
    }
    if lost and role == "root" and not signing.can_sign("root"):
        raise KeysError(
            f"expected {signing.threshold('root')} of the root keys to name new ones, got fewer. Without "
            "them devices cannot be told; give them the root of a new publisher, over a way that you trust."
        )
    for other in needed[role]:
        if other != role or not lost:
            signing.keys.signers(other, signing.key_ids(other), threshold=signing.threshold(other))
