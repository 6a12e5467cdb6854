"""The publisher's private keys: one file a key, in folders that may lie on different machines.

Keys of the roles ``root`` and ``targets`` say what is published and are best kept offline. Those of
``snapshot``, ``timestamp`` and ``assignments`` are used by programs, on a server.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args

import msgspec

from zoo.errors import KeysError, MissingExtraError
from zoo.extras import install_command
from zoo.files import atomic_path, encode_record, open_file, read_record, sync_folder, write_atomic
from zoo.lock import FolderLock
from zoo.private_files import make_private_folder, require_private, require_private_folder
from zoo.types import Positive

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
    raise MissingExtraError(f"publishing needs keys: {install_command('publish')}") from _missing

RoleName = Literal["root", "targets", "snapshot", "timestamp", "assignments"]
ROLES: tuple[RoleName, ...] = get_args(RoleName)
OFFLINE: tuple[RoleName, ...] = ("root", "targets")
MAX_KEY_BYTES = 16384
UNFINISHED_FILE = ".unfinished.json"  # in a folder of keys, until all that were asked for are there
LOCK_FILE = ".lock"
LOCK_TIMEOUT_S = 30.0

Passphrase = str | Callable[[], str]  # a function is called once, when the passphrase is needed


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

    def __init__(self, *folders: str | Path, passphrase: Passphrase | None = None) -> None:
        if not folders:
            raise KeysError("expected a folder for keys, got none. Name one.")
        self.folders = tuple(Path(folder) for folder in folders)
        self._passphrase = passphrase
        self._signers: dict[RoleName, dict[str, CryptoSigner]] = {role: {} for role in ROLES}
        self._encrypted: set[str] = set()  # ids of keys whose files are

    @classmethod
    def open(cls, *folders: str | Path, passphrase: Passphrase | None = None) -> Keys:
        """All keys in `folders`; a folder that does not exist holds none.

        Raises
        ------
        KeysError
            When a key file cannot be read, is no ed25519 key, or the passphrase is not right; when others may
            read a key or put files into a folder of keys.
        """
        keys = cls(*folders, passphrase=passphrase)
        for folder in keys.folders:
            paths = [(role, path) for role in ROLES for path in sorted(folder.glob(f"{role}-*.pem"))]
            if paths:
                require_private_folder(folder, KeysError)
            for role, path in paths:
                signer = keys._read(path)
                keys._signers[role][signer.public_key.keyid] = signer
        return keys

    def create(self, role: RoleName, *, encrypted: bool | None = None) -> SSlibKey:
        """Make a key for a role, in a file that only its owner can read, and return its public half.

        Parameters
        ----------
        encrypted
            None: where a passphrase was given, or asked for already.

        Raises
        ------
        KeysError
            When the file cannot be written, or others may read it or put files into its folder.
        """
        if encrypted is None:
            encrypted = isinstance(self._passphrase, str)
        private = Ed25519PrivateKey.generate()
        signer = CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))
        secret = BestAvailableEncryption(self._secret()) if encrypted else NoEncryption()
        content = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret)
        path = self.folders[0] / f"{role}-{signer.public_key.keyid[:16]}.pem"
        try:
            make_private_folder(path.parent, KeysError)
            with atomic_path(path, private=True) as temporary:
                require_private(temporary, KeysError)  # before the secret is in it: some disks have no modes
                temporary.write_bytes(content)
        except OSError as error:
            raise KeysError(
                f"cannot write the key {path}: {error.strerror or error}. Choose another folder for keys."
            ) from error
        self._signers[role][signer.public_key.keyid] = signer
        if encrypted:
            self._encrypted.add(signer.public_key.keyid)
        return signer.public_key

    def are_encrypted(self, key_ids: Iterable[str] | None = None) -> bool:
        """Whether one of these keys, or any at all, is here in an encrypted file."""
        return bool(self._encrypted.intersection(self._encrypted if key_ids is None else key_ids))

    def ask(self) -> None:
        """Ask for the passphrase, if that is still to be done; raises :class:`KeysError` without one."""
        self._secret()

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
                require_private(path, KeysError, handle=stream.fileno())
                content = stream.read(MAX_KEY_BYTES)
        except OSError as error:
            raise KeysError(
                f"expected a private key in {path}, got: {error.strerror}. Run this as the owner of the keys."
            ) from error
        encrypted = b"ENCRYPTED" in content[:64]
        if encrypted and self._passphrase is None:
            raise KeysError(
                f"expected the passphrase of {path}, got none. Put it into the environment variable "
                "ZOOSELECT_PASSPHRASE; in Python, give passphrase=."
            )
        try:
            private = load_pem_private_key(content, self._secret() if encrypted else None)
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
        signer = CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))
        if encrypted:
            self._encrypted.add(signer.public_key.keyid)
        return signer

    def _secret(self) -> bytes:
        if self._passphrase is not None and not isinstance(self._passphrase, str):
            self._passphrase = self._passphrase()
        if not self._passphrase:
            raise KeysError("expected a passphrase, got an empty one. Give one, or none at all.")
        return self._passphrase.encode()


class _Unfinished(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an interrupted call of :func:`create_keys` was asked for."""

    schema_version: Positive
    keys: dict[RoleName, Positive]  # role → how many
    encrypted: bool


def unfinished(folder: str | Path) -> bool:
    """Whether making keys in `folder` was interrupted, so that some are still missing."""
    return (Path(folder) / UNFINISHED_FILE).exists()


def create_keys(
    folder: str | Path,
    *,
    roles: Collection[RoleName] = ROLES,
    root_keys: int = 1,
    passphrase: Passphrase | None = None,
) -> Keys:
    """A first set of keys: one a role, and `root_keys` for the root. What was interrupted is continued.

    Raises
    ------
    KeysError
        When there are keys of these roles in `folder` already, or keys were being made there for something
        else; when they cannot be written, or others may put files into the folder.
    StoreLockedError
        When another process is still making keys there.

    Examples
    --------
    >>> keys = create_keys("keys", roles=("snapshot", "timestamp"))
    >>> sorted(role for role, _ in keys)
    ['snapshot', 'timestamp']
    """
    place = Path(folder)
    asked: dict[RoleName, int] = {role: root_keys if role == "root" else 1 for role in ROLES if role in roles}
    wanted = _Unfinished(schema_version=1, keys=asked, encrypted=passphrase is not None)
    try:
        make_private_folder(place, KeysError)
        with FolderLock(place / LOCK_FILE).hold(LOCK_TIMEOUT_S):
            return _create_missing(place, wanted, passphrase)
    except OSError as error:
        raise KeysError(
            f"cannot write keys in {place}: {error.strerror or error}. Choose another folder for keys."
        ) from error


def _create_missing(folder: Path, wanted: _Unfinished, passphrase: Passphrase | None) -> Keys:
    begun = folder / UNFINISHED_FILE
    keys = Keys.open(folder, passphrase=passphrase)
    if begun.exists():
        before = read_record(begun, _Unfinished, schema_version=1)
        if before != wanted:
            raise KeysError(
                f"expected to go on with what was interrupted in {folder} ({_in_words(before)}), got "
                f"{_in_words(wanted)}. Ask for the same, or delete the folder if no key of it is in use."
            )
    else:
        there = [role for role in wanted.keys if keys.public(role)]
        if there:
            raise KeysError(
                f"expected no keys of {', '.join(there)} in {folder} yet, got some. Replace single ones with "
                "'zooselect publish rotate', make those of other roles alone with 'zooselect publish keys "
                "--roles', or name another folder."
            )
        if wanted.encrypted:
            keys.ask()
        write_atomic(begun, encode_record(wanted))
    for kind in (f".{UNFINISHED_FILE}.*.tmp", ".*.pem.*.tmp"):  # rests of what was being written
        for rest in folder.glob(kind):
            rest.unlink()
    for role, count in wanted.keys.items():
        for _ in range(count - len(keys.public(role))):
            keys.create(role)
    begun.unlink()
    sync_folder(folder)
    return keys


def _in_words(wanted: _Unfinished) -> str:
    counts = ", ".join(f"{count} of {role}" for role, count in wanted.keys.items())
    return f"{counts}, {'encrypted' if wanted.encrypted else 'not encrypted'}"
