"""Tokens: who may report for a group, and who may look. Only their digests are kept."""

from __future__ import annotations

import hmac
import secrets
import time
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from zoo.errors import CardError, ServiceError
from zoo.files import atomic_path, encode_record, read_record, sha256_bytes
from zoo.lock import FolderLock
from zoo.private_files import require_private
from zoo.types import Name, Positive, Sha256

SCHEMA_VERSION = 1
PREFIX = {"device": "zd_", "operator": "zo_"}
MAX_TOKEN_CHARACTERS = 128
LOCK_S = 30.0  # for another process that adds a token

Role = Literal["device", "operator"]


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One token, without the token itself."""

    sha256: Sha256
    role: Role
    group: Name | None = None  # whose devices may report with it; None for an operator
    made: Annotated[float, Meta(ge=0)]  # seconds since 1970

    def __post_init__(self) -> None:
        if (self.role == "device") != (self.group is not None):
            raise ValueError("expected a group for the token of devices, and none for that of an operator")


class TokenFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the file holds; delete an entry to withdraw a token."""

    schema_version: Positive
    tokens: tuple[Token, ...]


class Tokens:
    """The tokens in a file, read again when it changes.

    Raises
    ------
    ServiceError
        When others than its owner may read or write the file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._seen: tuple[int, int, int] | None = None
        self._tokens: tuple[Token, ...] = ()
        self._refresh()

    def valid(self) -> tuple[Token, ...]:
        """Those that the file holds now; raises like :meth:`find`."""
        self._refresh()
        return self._tokens

    def find(self, token: str) -> Token | None:
        """The entry of a token that was presented; the time that this takes does not depend on the token.

        Raises
        ------
        ServiceError, CardError
            When others may read or write the file, or it is damaged.
        """
        self._refresh()
        digest = sha256_bytes(token[:MAX_TOKEN_CHARACTERS].encode("utf-8", "replace"))
        found = None
        for entry in self._tokens:
            if hmac.compare_digest(entry.sha256, digest):
                found = entry
        return found

    def add(self, role: Role, group: str | None = None) -> str:
        """Make a token, add its digest to the file, and return the token, which is kept nowhere.

        Raises
        ------
        CardError
            When the name of the group is none, or the file is damaged.
        StoreLockedError
            When another process is still adding one.
        """
        token = PREFIX[role] + secrets.token_urlsafe(32)
        facts = {"sha256": sha256_bytes(token.encode()), "role": role, "group": group, "made": time.time()}
        try:
            made = msgspec.convert(facts, Token)
        except msgspec.ValidationError as error:
            raise CardError(
                f"expected a group for devices and none for operators, got {group!r}: {error}. "
                "Names of groups are lower case, digits, . _ -"
            ) from error
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FolderLock(self.path.with_name(f".{self.path.name}.lock")).hold(LOCK_S):
            self._seen = None
            self._refresh()
            kept = TokenFile(schema_version=SCHEMA_VERSION, tokens=(*self._tokens, made))
            with atomic_path(self.path, private=True) as temporary:
                temporary.write_bytes(encode_record(kept))
        return token

    def _refresh(self) -> None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._seen, self._tokens = None, ()
            return
        seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        if seen == self._seen:
            return
        require_private(self.path, ServiceError)
        self._tokens = read_record(self.path, TokenFile, schema_version=SCHEMA_VERSION).tokens
        self._seen = seen
