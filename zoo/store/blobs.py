"""Blobs on a device: verified files named by their digest, and downloads that are to become such files."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import DigestError, StoreFullError, ZooError
from zoo.files import read_verified, sha256_file, sync_folder
from zoo.releases.release import Blob

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Blobs:
    """A flat folder ``blobs/`` of verified, read-only files, with ``partial/`` and ``corrupt/`` beside it.

    Attributes
    ----------
    folder, blobs
        The folder around, and the one of the verified files. No file in there is ever changed in place.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = folder / "blobs"
        with writing(folder):
            for part in ("blobs", "partial", "corrupt"):
                (folder / part).mkdir(parents=True, exist_ok=True)

    def has(self, blob_sha256: str) -> bool:
        """Whether the verified blob is there."""
        return (self.blobs / blob_sha256).is_file()

    def missing(self, blobs: Mapping[str, int]) -> dict[str, int]:
        """Those of the `blobs` (digest → bytes) that are not there with their size."""
        return {digest: size for digest, size in blobs.items() if _size(self.blobs / digest) != size}

    def used_bytes(self) -> int:
        """Bytes of all blobs and of downloads under way."""
        return sum(_size(path) or 0 for path in self._files("blobs", "partial", "corrupt"))

    def partial(self, sha256: str) -> Path:
        """The file in which a blob is collected until :meth:`adopt`."""
        return self.folder / "partial" / sha256

    def partial_bytes(self, sha256: str) -> int:
        """How much of a blob has been collected."""
        return _size(self.partial(sha256)) or 0

    def adopt(self, sha256: str, size_bytes: int) -> None:
        """Verify a complete download and make it a blob; a bad one is removed.

        It survives a power cut only after :meth:`sync`.

        Raises
        ------
        DigestError
            When it is not there, or not the `size_bytes` bytes with that digest.
        StoreFullError
            When the disk is full.
        """
        partial = self.partial(sha256)
        try:
            stream = partial.open("rb")
        except OSError as error:
            raise DigestError(
                f"expected the download {partial}, got: {error.strerror}. Fetch it again."
            ) from error
        with stream, writing(self.folder):
            held = os.fstat(stream.fileno()).st_size
            digest = hashlib.file_digest(stream, "sha256").hexdigest() if held == size_bytes else ""
            if digest == sha256:
                os.fsync(stream.fileno())
                partial.chmod(0o444)
                partial.replace(self.blobs / sha256)
                return
            partial.unlink(missing_ok=True)
        found = f"SHA-256 {digest[:16]}…" if digest else f"{held:,} bytes"
        raise DigestError(
            f"expected the blob {sha256[:16]}… of {size_bytes:,} bytes, got {found}. "
            "It was changed on its way or at the publisher; fetch it again."
        )

    def sync(self) -> None:
        """Make sure that all adopted blobs survive a power cut."""
        sync_folder(self.blobs)

    def read(self, blob: Blob) -> bytes:
        """Content of a blob; raises :class:`DigestError` when it is missing or damaged."""
        try:
            return read_verified(self.blobs / blob.sha256, blob.sha256, blob.size_bytes)
        except DigestError as error:
            raise DigestError(f"{error} In a store: verify it, then fetch what is lost.") from error

    def remove_damaged(self) -> tuple[str, ...]:
        """Read all blobs again, move those away that are not what their names say; return their digests."""
        damaged = []
        for path in self._files("blobs"):
            try:
                sound = sha256_file(path) == path.name
            except OSError:  # a disk that cannot read it back
                sound = False
            if not sound:
                path.replace(self.folder / "corrupt" / path.name)
                damaged.append(path.name)
        return tuple(damaged)

    def remove(self, blobs: Collection[str]) -> int:
        """Remove these blobs, given by digest; return the bytes freed."""
        paths = [self.blobs / digest for digest in blobs]
        freed = sum(_size(path) or 0 for path in paths)
        for path in paths:
            path.unlink(missing_ok=True)
        return freed

    def remove_others(self, blobs: Collection[str], partial: Collection[str]) -> int:
        """Remove all files but these blobs and downloads, given by digest; return the bytes freed."""
        freed = 0
        keep = {"blobs": blobs, "partial": partial}
        for path in self._files("blobs", "partial", "corrupt"):
            if path.name not in keep.get(path.parent.name, ()):
                freed += _size(path) or 0
                path.unlink(missing_ok=True)
        return freed

    def _files(self, *parts: str) -> list[Path]:
        return [path for part in parts for path in sorted((self.folder / part).iterdir())]


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Inside, a full disk is a :class:`StoreFullError`, and any other trouble with files a ZooError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFullError(
                f"expected room in {folder}, got: {error.strerror}. What was there is intact; "
                "free some space or remove a model, then run the same command again."
            ) from error
        raise ZooError(
            f"cannot write in {folder}: {error.strerror or error}. What was there is intact; "
            "check the permissions, then run the same command again."
        ) from error


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
