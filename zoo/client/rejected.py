"""Which published models failed their test on this device, so that they are not fetched again and again.

Bounded, and no harm when lost. A model gets another chance when anything about its release changes, when
ONNX Runtime does, and after a day: memory may have been short, or the device busy.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from zoo.client.selftest import Trials, self_test
from zoo.errors import ModelError, SelfTestError, ZooError
from zoo.files import encode_record, sha256_bytes
from zoo.releases.release import Index, ModelRelease
from zoo.store.installed import Installed
from zoo.store.notes import read_note, write_note
from zoo.store.store import Store
from zoo.types import Name, Positive, Sha256

SCHEMA_VERSION = 1
REJECTED_FILE = "rejected.json"
MAX_REJECTED = 64  # of them; the latest are remembered
MAX_REASON_CHARACTERS = 1000
REJECTION_LIFETIME_S = 86400.0


class Rejection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One release that failed."""

    release: Sha256  # of the whole record
    name: Name
    why: Annotated[str, Meta(max_length=MAX_REASON_CHARACTERS)]
    onnxruntime: Annotated[str, Meta(max_length=100)]  # version that it failed with
    at: float  # seconds since 1970


class _RejectedRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    schema_version: Annotated[Positive, Meta(le=SCHEMA_VERSION)]
    rejections: Annotated[tuple[Rejection, ...], Meta(max_length=MAX_REJECTED)] = ()


class Rejected:
    """The releases that failed, in a file of a device's store; what does not validate counts as empty.

    Whoever writes holds the store's lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unwritten: tuple[Rejection, ...] = ()  # since writing failed

    def why(self, release: ModelRelease) -> str | None:
        """Why a release need not be tried now; None where it may be."""
        found = [
            item for item in self._read() if item.name == release.name and item.release == _digest(release)
        ]
        counts = [item for item in found if item.onnxruntime == _runtime() and _lately(item)]
        return counts[-1].why if counts else None

    def among(self, index: Index, installed: Installed) -> dict[str, str]:
        """Of what is published and not installed: model → why it need not be tried now, in words."""
        tested = {item.release.card.sha256 for item in installed.models}
        found = {}
        for name, release in index.models.items():
            why = None if release.card.sha256 in tested else self.why(release)
            if why is not None:
                found[name] = (
                    f"model {name!r} version {release.version} failed its test here before: {why} "
                    "Publish another version; this one is tried again after a day."
                )
        return found

    def test(self, release: ModelRelease, store: Store, trials: Trials) -> ZooError | None:
        """Why a model must not be used on this device, which is remembered; None where it may be."""
        try:
            self_test(store, release, trials=trials)
        except (ModelError, SelfTestError) as error:
            why = str(error)
            with store.lock(), suppress(OSError):  # else it is known until the device is started again
                if not store.missing(release.blobs):
                    store.keep(lambda: self.add(release, why))
            return error
        return None

    def add(self, release: ModelRelease, why: str) -> None:
        """Remember that a release failed; raises OSError where it cannot be written."""
        new = Rejection(
            release=_digest(release),
            name=release.name,
            why=why[:MAX_REASON_CHARACTERS],
            onnxruntime=_runtime(),
            at=time.time(),
        )
        # an older one of the same model is of a version that nobody publishes any more
        others = [item for item in self._read() if item.name != release.name and _lately(item)]
        record = _RejectedRecord(
            schema_version=SCHEMA_VERSION, rejections=(*others[-(MAX_REJECTED - 1) :], new)
        )
        self._unwritten = record.rejections
        write_note(self.path, record)
        self._unwritten = ()

    def _read(self) -> tuple[Rejection, ...]:
        found = read_note(self.path, _RejectedRecord)
        there = () if found is None else found.rejections
        known = {item.name for item in self._unwritten}
        return *(item for item in there if item.name not in known), *self._unwritten


def _digest(release: ModelRelease) -> str:
    return sha256_bytes(encode_record(release))


def _lately(item: Rejection) -> bool:
    passed = time.time() - item.at  # negative when the clock was set back: then it is tried again
    return math.isfinite(passed) and 0 <= passed < REJECTION_LIFETIME_S


def _runtime() -> str:
    import onnxruntime as ort

    return str(ort.__version__)
