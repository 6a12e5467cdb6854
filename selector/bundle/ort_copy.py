"""Copies in ONNX Runtime's own format: made on this device, for this device, and opened faster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import onnxruntime as ort
from msgspec import Meta

from zoo.errors import CardError, DigestError, ModelError, StoreLockedError, ZooError
from zoo.files import atomic_path, encode_record, read_record, read_verified, sha256_bytes, write_atomic
from zoo.lock import FolderLock
from zoo.models.machine import machine
from zoo.models.session import open_session
from zoo.providers import CPU
from zoo.types import Positive, Sha256

_VERSION = 1
_LOCK_FILE = ".lock"
_PATIENCE_S = 60.0


class OrtCopy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A copy that lies beside this record."""

    schema_version: Positive
    of_sha256: Sha256  # of the ONNX file
    file: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}-[0-9a-f]{16}\.ort$(?!\n)")]
    sha256: Sha256
    size_bytes: Positive


def open_copied(content: bytes, folder: Path, *, name: str, threads: int) -> ort.InferenceSession:
    """Open a graph by way of its copy in `folder`, which is made where it is missing or damaged.

    A copy fits one version of ONNX Runtime and one kind of processor; other ones have copies of their own.
    The digest tells damage, not ill will: whoever may write to the folder can exchange copy and record.

    Raises
    ------
    ModelError
        When ONNX Runtime does not load the graph, or cannot write its copy.
    StoreLockedError
        When another process has been making copies there for a minute.
    """
    digest = sha256_bytes(content)
    here = machine()
    key = sha256_bytes("\n".join((digest, ort.__version__, here.system, here.processor)).encode())[:16]
    copy = _read(folder, key, digest)
    if copy is None:
        with _alone(folder, name):
            copy = _read(folder, key, digest) or _make(content, folder, key, digest, name)
    return open_session(copy, name=name, threads=threads)


def _read(folder: Path, key: str, digest: str) -> bytes | None:
    """The copy, where it is there and whole."""
    try:
        record = read_record(folder / f"{key}.json", OrtCopy, schema_version=_VERSION)
        if record.of_sha256 != digest:
            return None
        return read_verified(folder / record.file, record.sha256, record.size_bytes)
    except (CardError, DigestError):
        return None


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Nobody else makes copies there: programs that begin together all find none at first."""
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FolderLock(folder / _LOCK_FILE).hold(_PATIENCE_S))
        except StoreLockedError:
            raise
        except (OSError, ZooError) as error:
            raise _unwritable(name, folder, error) from error
        yield


def _unwritable(name: str, folder: Path, error: Exception) -> ModelError:
    why = getattr(error, "strerror", None) or error
    return ModelError(
        f"{name}: expected to write a copy to {folder}, got: {why}. Name another folder, or load it without "
        "one."
    )


def _make(content: bytes, folder: Path, key: str, digest: str, name: str) -> bytes:
    """Write a copy, then its record; the copy."""
    options = ort.SessionOptions()
    options.log_severity_level = 4  # it would warn that a copy fits one processor
    options.add_session_config_entry("session.save_model_format", "ORT")
    nowhere = f"{os.devnull}/weights belong into the graph"
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", nowhere)
    raw = folder / f"{key}.raw"
    try:
        with atomic_path(raw, private=True) as temporary:
            options.optimized_model_filepath = str(temporary)
            ort.InferenceSession(content, options, providers=[CPU.name])
        made = raw.read_bytes()
        raw.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(name, folder, error) from error
    except Exception as error:  # ONNX Runtime raises a family of unrelated classes
        raise ModelError(
            f"{name}: expected a graph that ONNX Runtime {ort.__version__} can copy, got: "
            f"{str(error).strip()[:300]}. Load it without a copy."
        ) from error
    found = sha256_bytes(made)
    record: Any = OrtCopy(
        schema_version=_VERSION,
        of_sha256=digest,
        file=f"{key}-{found[:16]}.ort",
        sha256=found,
        size_bytes=len(made),
    )
    write_atomic(folder / record.file, made)
    write_atomic(folder / f"{key}.json", encode_record(record))
    for old in folder.glob(f"{key}-*.ort"):
        if old.name != record.file:
            old.unlink(missing_ok=True)
    return made
