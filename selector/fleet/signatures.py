"""What the service signs, with the three keys that may lie on a server."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from selector.fleet.schedule import timestamp_left_s
from zoo.errors import KeysError, MissingExtraError
from zoo.extras import install_command
from zoo.releases.release import Assignment

if TYPE_CHECKING:
    from zoo.publisher.keys import Passphrase, RoleName

ONLINE: tuple[RoleName, ...] = ("snapshot", "timestamp", "assignments")
OFFLINE: tuple[RoleName, ...] = ("root", "targets")

log = logging.getLogger("zooselect.serve")


class Signatures:
    """Signs assignments, and the timestamp before it expires.

    Parameters
    ----------
    root
        Folder of the publisher.
    folder
        Of the keys of snapshot, timestamp and assignments.

    Raises
    ------
    KeysError
        When one of these keys is not there.
    PublishError, TrustError
        When nothing is published, or other keys have signed it.
    MissingExtraError
        When ``tuf`` or ``cryptography`` is not installed.
    """

    def __init__(self, root: str | Path, folder: str | Path, *, passphrase: Passphrase | None = None) -> None:
        try:
            from zoo.publisher.keys import Keys
            from zoo.publisher.signing import Expiry, Signing
        except ImportError as error:
            raise MissingExtraError(f"signing needs python-tuf: {install_command('publish')}") from error
        self._root = Path(root)
        self._keys = Keys.open(folder, passphrase=passphrase)
        signing = Signing(root, self._keys)
        lacking = [role for role in ONLINE if not signing.can_sign(role)]
        if lacking:
            raise KeysError(
                f"expected the keys of {', '.join(ONLINE)} in {folder}, got none that counts of "
                f"{', '.join(lacking)}. Copy them there, or serve without --keys."
            )
        self.offline_here = tuple(role for role in OFFLINE if self._keys.public(role))
        self._refresh_below_s = Expiry().timestamp * 86400 / 2

    def assignments(self, assignments: Sequence[Assignment], withdrawn: Sequence[str] = ()) -> None:
        """Publish assignments, and take away those of some groups."""
        from zoo.publisher.assignments import sign_assignments

        sign_assignments(self._root, self._keys, assignments, remove=withdrawn)

    def timestamp(self) -> bool:
        """Sign the timestamp anew when half of its time has passed; whether it was."""
        from zoo.publisher.signing import refresh

        if timestamp_left_s(self._root) > self._refresh_below_s:
            return False
        for warning in refresh(self._root, self._keys).warnings:
            log.warning("%s", warning)
        return True
