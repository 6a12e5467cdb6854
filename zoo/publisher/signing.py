"""Signing what a publisher offers: new versions of its metadata, in an order in which nothing breaks."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from zoo.errors import PublishError, StoreLockedError, TrustError
from zoo.files import write_atomic
from zoo.lock import FolderLock
from zoo.publisher.keys import ROLES, Keys, RoleName
from zoo.publisher.metadata import MetaFile, Signed
from zoo.releases.published import PUBLISHED_AT

WARN_DAYS = 30  # before root or targets expire
LOCK_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Expiry:
    """Days that metadata is valid: long for what is signed offline, else as long as a device may be kept
    from news without noticing."""

    root: float = 365
    targets: float = 90
    assignments: float = 30
    snapshot: float = 7
    timestamp: float = 1

    def __post_init__(self) -> None:
        for role in ROLES:
            if not 0 < self.days(role) <= 36500:
                raise PublishError(
                    f"{role}: expected between 0 and 36,500 days until it expires, got {self.days(role):g}."
                )

    def days(self, role: RoleName) -> float:
        """Days that metadata of this role is valid."""
        return float(getattr(self, role))


class Signing(Signed):
    """Metadata that is changed in memory and committed as a whole; parameters as for :class:`Signed`.

    Parameters
    ----------
    expiry
        How long what is signed is valid.
    now
        Instead of the clock.
    lost
        Roles whose old keys are gone: what they signed is gone on from as far as the root knows them.
    """

    def __init__(
        self,
        root: str | Path,
        keys: Keys,
        *,
        expiry: Expiry | None = None,
        root_threshold: int = 1,
        now: datetime | None = None,
        lost: Collection[RoleName] = (),
    ) -> None:
        super().__init__(root, keys, root_threshold=root_threshold)
        self.expiry = expiry or Expiry()
        self.now = (now or datetime.now(UTC)).replace(microsecond=0)
        self._also: dict[RoleName, list[Any]] = {}
        self._lost = lost

    def commit(self, *roles: RoleName) -> tuple[RoleName, ...]:
        """Write new versions of ``targets``, ``assignments`` or ``snapshot``, and of what names them.

        The timestamp is replaced last; up to then the previous state is served. Returns what was signed.

        Raises
        ------
        KeysError
            When a key is missing; nothing has been written then.
        TrustError
            When the version before was signed, but not by a key at hand; nothing has been written then.
        """
        both: tuple[RoleName, ...] = ("targets", "assignments")
        changed = [role for role in both if self.is_first or role in roles]
        if changed or "snapshot" in roles:
            changed.append("snapshot")
        written: dict[str, bytes] = {}
        if self.root_is_new:
            written["1.root.json"] = self._sign("root")
        order: tuple[RoleName, ...] = (*changed, "timestamp")
        for role in order:
            signed = self.metadata(role).signed
            if not self.is_first:
                self._check_ours(role)
                signed.version += 1
            if role == "targets":
                signed.unrecognized_fields[PUBLISHED_AT] = int(self.now.timestamp())
            if role in ("targets", "assignments"):
                self.snapshot.signed.meta[f"{role}.json"] = MetaFile(signed.version)
            if role == "snapshot":
                self.timestamp.signed.snapshot_meta = MetaFile(signed.version)
            number = "" if role == "timestamp" else f"{signed.version}."
            written[f"{number}{role}.json"] = self._sign(role)
        for name, content in written.items():
            write_atomic(self.folder / name, content)
        self.is_first = self.root_is_new = False
        self.ours.update(order)
        return order

    def commit_root(self) -> None:
        """Write a new version of the root; raises :class:`KeysError` as :meth:`commit` does."""
        self.root.signed.version += 1
        write_atomic(self.folder / f"{self.root.signed.version}.root.json", self._sign("root"))

    def also_sign(self, role: RoleName, signers: Collection[Any]) -> None:
        """Let other keys sign a role as well, so that it is accepted before and after keys are replaced."""
        self._also[role] = list(signers)

    def days_left(self, role: RoleName) -> float:
        """Days until the current metadata of a role expires."""
        return float((self.metadata(role).signed.expires - self.now).total_seconds() / 86400)

    def is_due(self, role: RoleName) -> bool:
        """Whether metadata should be signed anew: half of its time has passed, or thirty days are left."""
        half = self.expiry.days(role) / 2
        return self.days_left(role) < (min(WARN_DAYS, half) if role in ("root", "targets") else half)

    def warnings(self) -> tuple[str, ...]:
        """What has expired or soon will, and what to do about it."""
        found = []
        for role in ("root", "targets", "assignments", "snapshot"):
            left = self.days_left(role)
            if left < (WARN_DAYS if role in ("root", "targets") else self.expiry.days(role) / 4):
                when = f"expires in {left:.1f} days" if left > 0 else f"expired {-left:.1f} days ago"
                found.append(
                    f"{role} metadata {when}; after that, devices take nothing new. "
                    f"Run 'zooselect publish refresh' with the {role} key at hand."
                )
        return tuple(found)

    def _check_ours(self, role: RoleName) -> None:
        if role in self.ours or role in self._lost:
            return
        self.keys.signers(role, self.key_ids(role))
        raise TrustError(
            f"expected {role} metadata in {self.folder} that these keys have signed, got some that only "
            "others have. Somebody may have changed the folder; restore it from a copy that devices "
            "have accepted."
        )

    def _sign(self, role: RoleName) -> bytes:
        metadata, also = self.metadata(role), self._also.get(role, [])
        needed = 0 if role in self._lost and also else self.threshold(role)
        signers = [*self.keys.signers(role, self.key_ids(role), threshold=needed), *also]
        metadata.signed.expires = self.now + timedelta(days=self.expiry.days(role))
        metadata.signatures.clear()
        for signer in signers:
            metadata.sign(signer, append=True)
        return bytes(metadata.to_bytes())


@dataclass(frozen=True)
class Resigned:
    """What was signed anew."""

    roles: tuple[RoleName, ...]
    warnings: tuple[str, ...]  # what expires before long and could not be signed with the keys at hand


def refresh(
    root: str | Path, keys: Keys, *, expiry: Expiry | None = None, now: datetime | None = None
) -> Resigned:
    """Sign the timestamp anew, and whatever else expires before long and has its key at hand.

    Raises
    ------
    PublishError
        When nothing is published there.
    KeysError
        When the key of the timestamp is missing.
    TrustError
        When what is there is damaged, or signed by others.
    """
    with locked(root):
        begun = (Path(root) / "metadata").is_dir()
        signing = Signing(root, keys, expiry=expiry, now=now) if begun else None
        if signing is None or signing.is_first:
            raise PublishError(
                f"expected a publisher's folder, got nothing published in {root}. Publish there."
            )
        others: tuple[RoleName, ...] = ("targets", "assignments", "snapshot")
        due = [role for role in others if signing.is_due(role) and signing.can_sign(role)]
        able = due if signing.can_sign("snapshot") else []
        root_too = signing.is_due("root") and signing.can_sign("root")
        if root_too:
            signing.commit_root()
        signed = signing.commit(*able)
        return Resigned(("root", *signed) if root_too else signed, signing.warnings())


@contextlib.contextmanager
def locked(root: str | Path) -> Iterator[None]:
    """Alone in a publisher's folder: whoever publishes or signs there waits for others, up to a minute.

    Raises
    ------
    PublishError
        When another process is still at work, or the folder cannot be written.
    """
    folder = Path(root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(folder / ".lock")
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock.hold(LOCK_TIMEOUT_S))
            held = stack.pop_all()
    except OSError as error:
        raise PublishError(
            f"expected a folder to publish in, got: {folder}: {error.strerror or error}. Choose another."
        ) from error
    except StoreLockedError as error:
        raise PublishError(str(error)) from error
    with held:
        yield
