"""The publisher's private keys: one file a key, in folders that may lie on different machines.

Keys of the roles ``root`` and ``targets`` say what is published and are best kept offline. Those of
``snapshot``, ``timestamp`` and ``assignments`` are used by programs, on a server.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args

from zoo.errors import KeysError, MissingExtraError
from zoo.files import open_file

try:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )
    from securesystemslib.signer import CryptoSigner, SSlibKey
except ImportError as _missing:
    raise MissingExtraError("publishing needs keys: pip install 'zooselect[publish]'") from _missing

RoleName = Literal["root", "targets", "snapshot", "timestamp", "assignments"]
ROLES: tuple[RoleName, ...] = get_args(RoleName)
OFFLINE: tuple[RoleName, ...] = ("root", "targets")
MAX_KEY_BYTES = 16384


class Keys:
    """Private keys of the roles, read from folders.

    A file is called after its role and the first digits of its key id: ``root-1f3c…pem``. A retired key may
    stay; what is published says which keys count.

    Parameters
    ----------
    folders
        Where keys lie; new ones are put into the first.
    passphrase
        Of all encrypted files, and of new ones. None: new ones are not encrypted.
    """

    def __init__(self, *folders: str | Path, passphrase: str | None = None) -> None:
        if not folders:
            raise KeysError("expected a folder for keys, got none. Name one.")
        self.folders = tuple(Path(folder) for folder in folders)
        self._passphrase = passphrase.encode() if passphrase else None
        self._signers: dict[RoleName, dict[str, CryptoSigner]] = {role: {} for role in ROLES}

    @classmethod
    def open(cls, *folders: str | Path, passphrase: str | None = None) -> Keys:
        """All keys in `folders`; a folder that does not exist holds none.

        Raises
        ------
        KeysError
            When a key file cannot be read, is no ed25519 key, or the passphrase is not right.
        """
        keys = cls(*folders, passphrase=passphrase)
        for folder in keys.folders:
            for role in ROLES:
                for path in sorted(folder.glob(f"{role}-*.pem")):
                    signer = keys._read(path)
                    keys._signers[role][signer.public_key.keyid] = signer
        return keys

    def create(self, role: RoleName) -> SSlibKey:
        """Make a key for a role, in a file that only its owner can read, and return its public half.

        Raises
        ------
        KeysError
            When the file cannot be written.
        """
        private = Ed25519PrivateKey.generate()
        signer = CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))
        secret = BestAvailableEncryption(self._passphrase) if self._passphrase else NoEncryption()
        content = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret)
        path = self.folders[0] / f"{role}-{signer.public_key.keyid[:16]}.pem"
        try:
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True, mode=0o700)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise KeysError(
                f"cannot write the key {path}: {error.strerror or error}. Choose another folder for keys."
            ) from error
        self._signers[role][signer.public_key.keyid] = signer
        return signer.public_key

    def public(self, role: RoleName) -> list[SSlibKey]:
        """Public halves of the keys of a role."""
        return [signer.public_key for signer in self._signers[role].values()]

    def has(self, role: RoleName, key_ids: Iterable[str]) -> bool:
        """Whether one of these keys of the role is here."""
        return any(key_id in self._signers[role] for key_id in key_ids)

    def signers(self, role: RoleName, key_ids: Collection[str], *, threshold: int = 1) -> list[CryptoSigner]:
        """Signers of a role that count, by the ids of its keys.

        Raises
        ------
        KeysError
            When fewer than `threshold` of these keys are here.
        """
        found = [signer for key_id, signer in self._signers[role].items() if key_id in key_ids]
        if len(found) < threshold:
            wanted = ", ".join(sorted(key_id[:16] for key_id in key_ids))
            raise KeysError(
                f"expected {threshold} of the keys of {role!r} ({wanted}) in "
                f"{', '.join(map(str, self.folders))}, got {len(found)}. Name the folder that holds them; "
                "another key is not accepted by devices."
            )
        return found

    def __iter__(self) -> Iterator[tuple[RoleName, str]]:
        return ((role, key_id) for role in ROLES for key_id in self._signers[role])

    def _read(self, path: Path) -> CryptoSigner:
        try:
            with open_file(path) as stream:
                content = stream.read(MAX_KEY_BYTES)
        except OSError as error:
            raise KeysError(
                f"expected a private key in {path}, got: {error.strerror}. Run this as the owner of the keys."
            ) from error
        encrypted = b"ENCRYPTED" in content[:64]
        if encrypted and self._passphrase is None:
            raise KeysError(
                f"expected the passphrase of {path}, got none. Put it into the environment variable "
                "ZOOSELECT_PASSPHRASE."
            )
        try:
            private = load_pem_private_key(content, self._passphrase if encrypted else None)
        except (ValueError, TypeError) as error:
            reason = "another passphrase or a damaged file" if encrypted else "something else"
            raise KeysError(
                f"expected a private key in {path} that can be read, got {reason}. "
                "Check ZOOSELECT_PASSPHRASE, or restore the file from a copy."
            ) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise KeysError(
                f"expected an ed25519 key in {path}, got another kind. "
                "Make keys with 'zooselect publish keys'."
            )
        return CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))


def create_keys(
    folder: str | Path,
    *,
    roles: Collection[RoleName] = ROLES,
    root_keys: int = 1,
    passphrase: str | None = None,
) -> Keys:
    """A first set of keys: one a role, and `root_keys` for the root.

    Raises
    ------
    KeysError
        When there are keys in `folder` already.
    """
    keys = Keys.open(folder, passphrase=passphrase)
    if any(True for _ in keys):
        raise KeysError(
            f"expected no keys in {folder} yet, got some. Replace single ones with "
            "'zooselect publish rotate', or name another folder."
        )
    for role in ROLES:
        if role in roles:
            for _ in range(root_keys if role == "root" else 1):
                keys.create(role)
    return keys
