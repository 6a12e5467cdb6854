"""Files on disk: atomic writes, digests, and JSON records that are checked before they are believed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from zoo.errors import CardError, DigestError, SchemaVersionError, ZooError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_JSON_BYTES = 64 * 2**20
NO_LINKS = getattr(os, "O_NOFOLLOW", 0)  # where the system knows it
_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

T = TypeVar("T")

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def open_file(path: str | os.PathLike[str], *, links: bool = True) -> BufferedReader:
    """Open a file for reading bytes; never waits, as for the other end of a pipe.

    Raises
    ------
    OSError
        When there is none, it may not be read, or it is a pipe, a socket, a device or a folder; also when it
        is a symbolic link, if not `links`.
    """
    try:
        handle = os.open(path, os.O_RDONLY | _NO_WAITING | (0 if links else NO_LINKS))
    except ValueError as error:  # a character that no path may have
        raise OSError(errno.EINVAL, str(error), path) from error
    try:
        check_regular(os.fstat(handle).st_mode, path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_npz(path: str | os.PathLike[str], *, most_bytes: int) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` file, never by pickle.

    Raises
    ------
    OSError, ValueError
        When there is no such file, it is none, or it takes more than `most_bytes` unpacked.
    """
    import zipfile

    import numpy as np

    try:
        with open_file(path) as stream:
            with zipfile.ZipFile(stream) as packed:
                if sum(item.file_size for item in packed.infolist()) > most_bytes:
                    raise ValueError(f"more than {most_bytes:,} bytes unpacked")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
    except (OSError, ValueError):
        raise
    except Exception as error:  # of what unpacks, and of numpy, which evaluates headers as Python
        raise ValueError(str(error)[:200] or type(error).__name__) from error


def check_regular(mode: int, path: str | os.PathLike[str]) -> None:
    """Raise :class:`OSError` unless `mode` is that of a regular file."""
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise OSError(errno.EINVAL, f"{kind}, not a file", os.fspath(path))


@contextlib.contextmanager
def atomic_path(path: Path, *, private: bool = False, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is moved over `path`, else removed.

    Readers see the old content or the new content, never a part of it; only the owner does if `private`.
    What `sync` is given up for may be lost in a power cut.

    Raises
    ------
    OSError
        When it cannot be written, or when `path` is a folder, a device or a pipe.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        check_regular(path.stat().st_mode, path)  # a device would be replaced by a file
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    # The system applies the umask: to ask for it is to change it, for all threads.
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINKS
    os.close(os.open(temporary, new, 0o600 if private else 0o666))
    try:
        yield temporary
        if sync:
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make sure that the files that were moved into a folder are there after a power cut."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a crash leaves either the old file or the new one.

    Raises
    ------
    ZooError
        When the disk is full or the folder cannot be written; the old file is intact.
    """
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise ZooError(
            f"cannot write {path}: {error.strerror or error}. Nothing was changed; "
            "free some space or choose another folder, then run the same command again."
        ) from error


def sha256_bytes(content: bytes) -> str:
    """SHA-256 of `content` as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file as 64 lower-case hexadecimal digits."""
    with open_file(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_verified(path: Path, sha256: str, size_bytes: int) -> bytes:
    """Read a file whose digest and size are known.

    Raises
    ------
    DigestError
        When the file is missing, or is not the `size_bytes` bytes with the digest `sha256`.
    """
    try:
        with open_file(path) as stream:
            held = os.fstat(stream.fileno()).st_size  # first, so that no record makes us read gigabytes
            content = stream.read(size_bytes) if held == size_bytes else b""
    except OSError as error:
        raise DigestError(
            f"{path}: expected a file of {size_bytes:,} bytes, got: {error.strerror}. "
            "Add the model again or restore the file from where it came."
        ) from error
    if held != size_bytes:
        raise DigestError(
            f"{path}: expected {size_bytes:,} bytes, got {held:,}. The file was truncated or replaced; "
            "add the model again or restore the file."
        )
    digest = sha256_bytes(content)
    if digest != sha256:
        raise DigestError(
            f"{path}: expected SHA-256 {sha256[:16]}…, got {digest[:16]}…. The file has changed since it was "
            "recorded; add the model again or restore the file."
        )
    return content


def decode_record(content: bytes, kind: type[T], *, name: str, schema_version: int, oldest: int = 1) -> T:
    """Decode a JSON record of type `kind`, with a version check before the fields are looked at.

    Raises
    ------
    SchemaVersionError
        When the record's ``schema_version`` is newer than `schema_version` or older than `oldest`.
    CardError
        When a field is missing, unknown or of the wrong type; the message holds the exact path.
    """
    try:
        version = msgspec.json.decode(content, type=_Versioned).schema_version
        if version > schema_version:
            raise SchemaVersionError(
                f"{name}: expected schema version {schema_version} or older, got {version}. "
                "It was written by a newer zooselect: upgrade this one, from where you got it."
            )
        if version < oldest:
            raise SchemaVersionError(
                f"{name}: expected schema version {oldest} or newer, got {version}. "
                "It was written by an older zooselect: make it again with this one."
            )
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CardError(
            f"{name}: not a valid {kind.__name__} record: {error}. Correct the field or write the file again."
        ) from error


def read_json(path: Path, *, what: str) -> bytes:
    """Content of a file of JSON, not decoded yet.

    Raises
    ------
    CardError
        When the file is missing or larger than 64 MiB.
    """
    try:
        with open_file(path) as stream:
            content = stream.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise CardError(f"{path}: expected {what}, got: {error.strerror}. Check the path.") from error
    if len(content) > MAX_JSON_BYTES:
        raise CardError(
            f"{path}: expected at most {MAX_JSON_BYTES:,} bytes of JSON, got more. Check the path."
        )
    return content


def read_record(path: Path, kind: type[T], *, schema_version: int, oldest: int = 1) -> T:
    """Read and decode the JSON record at `path`; raises like :func:`read_json` and :func:`decode_record`."""
    content = read_json(path, what=f"a {kind.__name__} record")
    return decode_record(content, kind, name=str(path), schema_version=schema_version, oldest=oldest)


def encode_record(record: Any) -> bytes:
    """Encode a record as indented JSON, ending in a newline; equal records give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def record_schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """JSON Schema of a record, described without the Python examples of its classes."""
    schema = msgspec.json.schema(kind)
    for one in (schema, *schema.get("$defs", {}).values()):
        if "description" in one:
            one["description"] = one["description"].partition("Examples\n")[0].strip()
    return schema


class _Versioned(msgspec.Struct):
    schema_version: int
