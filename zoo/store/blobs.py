"""Blobs on a device: verified files named by their digest, and downloads that are to become such files."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from zoo.errors import DigestError, StoreFullError, ZooError
from zoo.files import NO_LINKS, open_file, read_verified, sha256_file, sync_folder
from zoo.releases.release import Blob
from zoo.store.notes import remove_folder

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PARTS = ("blobs", "partial", "corrupt")
_FOLDER_MODE = 0o775  # whatever the umask: nobody but the owner and its group changes what is in there


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
        there = folder.is_dir()
        try:
            with writing(folder):
                folder.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
                for part in _PARTS:
                    (folder / part).mkdir(_FOLDER_MODE, exist_ok=True)
        except ZooError:
            if not there:
                raise  # else it can be read, and whoever wants to write is told
        for path in (folder, *(folder / part for part in (*_PARTS, "tuf"))):
            _check_owned(path)

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
        """How much of a blob has been collected; a link or anything that is no file counts as nothing."""
        try:
            found = self.partial(sha256).lstat()
        except OSError:
            return 0
        return found.st_size if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 else 0

    def collecting(self, sha256: str, *, resume: bool) -> BinaryIO:
        """Open the file in which a blob is collected, at its end or anew; nothing is written through a link.

        Raises like :func:`writing`.
        """
        partial = self.partial(sha256)
        how = os.O_WRONLY | NO_LINKS | getattr(os, "O_BINARY", 0)
        how |= os.O_APPEND if resume else os.O_CREAT | os.O_EXCL
        with writing(self.folder):
            try:
                handle = os.open(partial, how, 0o666)
            except FileExistsError:
                _remove(partial)
                handle = os.open(partial, how, 0o666)
        return os.fdopen(handle, "ab" if resume else "wb")

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
            stream = open_file(partial, links=False)
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
                try:
                    partial.replace(self.blobs / sha256)
                except IsADirectoryError:
                    remove_folder(self.blobs / sha256)
                    partial.replace(self.blobs / sha256)
                return
            _remove(partial)
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

    def damaged(self) -> tuple[str, ...]:
        """Read all blobs again; return the digests of those that are not what their names say."""
        return tuple(path.name for path in self._files("blobs") if not _sound(path))

    def take_out(self, digests: Collection[str]) -> None:
        """Move blobs away, as far as they are damaged; the next :meth:`remove_others` removes them."""
        for path in (self.blobs / digest for digest in digests):
            if not _sound(path):
                _remove(self.folder / "corrupt" / path.name)
                path.replace(self.folder / "corrupt" / path.name)

    def remove_downloads(self) -> None:
        """Remove all downloads under way, and what was taken out."""
        for path in self._files("partial", "corrupt"):
            _remove(path)

    def remove(self, blobs: Collection[str]) -> int:
        """Remove these blobs, given by digest; return the bytes freed."""
        paths = [self.blobs / digest for digest in blobs]
        freed = sum(_size(path) or 0 for path in paths)
        for path in paths:
            _remove(path)
        return freed

    def remove_others(self, blobs: Collection[str], partial: Collection[str]) -> int:
        """Remove all files but these blobs and downloads, given by digest; return the bytes freed."""
        freed = 0
        keep = {"blobs": blobs, "partial": partial}
        for path in self._files("blobs", "partial", "corrupt"):
            if path.name not in keep.get(path.parent.name, ()):
                freed += _size(path) or 0
                _remove(path)
        return freed

    def _files(self, *parts: str) -> list[Path]:
        folders = (self.folder / part for part in parts)
        return [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Inside, a full disk is a :class:`StoreFullError`, and any other trouble with files a ZooError."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise StoreFullError(
                f"expected room in {folder}, got: {error.strerror}. What was there is intact; "
                "free some space or remove a model, then run the same command again."
            ) from error
        raise ZooError(
            f"cannot write in {folder}: {error.strerror or error}. What was there is intact; "
            "check the permissions, then run the same command again."
        ) from error


def is_full(error: BaseException | None) -> bool:
    """Whether an error is, or was raised because of, a disk or a quota that is full."""
    while error is not None:
        if isinstance(error, StoreFullError) or (isinstance(error, OSError) and error.errno in _FULL):
            return True
        error = error.__cause__
    return False


def _check_owned(folder: Path) -> None:
    """Raise ZooError where everybody may change what is in a folder: blobs are verified when they come."""
    try:
        mode = folder.stat().st_mode
    except OSError:
        return
    if os.name == "posix" and mode & stat.S_IWOTH:
        raise ZooError(
            f"expected a store that only its owner can change, got {folder}, where every user may write. "
            f"Run chmod -R o-w on the store, or mount its disk with umask=022; what others may have put "
            "there is found by 'zooselect device verify'."
        )


def _sound(path: Path) -> bool:
    try:
        return sha256_file(path) == path.name
    except FileNotFoundError:  # it was evicted meanwhile
        return True
    except OSError:  # a disk that cannot read it back, or no file
        return False


def _remove(path: Path) -> None:
    """Remove whatever is there; of a link, the link."""
    if not remove_folder(path):
        path.unlink(missing_ok=True)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
