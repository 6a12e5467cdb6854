"""The ledger: reports on disk, so that a restart loses none that was accepted.

One file of lines, each with its checksum: a head with the number of reports that the file does not hold any
more, then one report a line. A report is accepted once its line is synced. When the file has grown, a new one
with the newest report of every device takes its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from selector.fleet.tally import Received, Tally
from selector.telemetry.report import MAX_REPORT_BYTES
from zoo.errors import ServiceError
from zoo.files import atomic_path, decode_record, write_atomic

SCHEMA_VERSION = 1
FILE = "reports.jsonl"
MAX_LINE_BYTES = MAX_REPORT_BYTES + 256
MAX_HEAD_BYTES = 16 * 2**20
COMPACT_BYTES = 32 * 2**20


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    schema_version: int
    counts: dict[str, int]  # group → accepted reports that have no line of their own in the file


class Ledger:
    """The reports in a folder. One process writes; :func:`read_tally` reads from any.

    Parameters
    ----------
    compact_bytes
        Growth after which the file is written anew, without what was superseded.

    Raises
    ------
    ServiceError
        When another process writes there, or the file is not a ledger.
    """

    def __init__(
        self, folder: str | Path, *, compact_bytes: int = COMPACT_BYTES, most_devices: int | None = None
    ) -> None:
        self.path = Path(folder) / FILE
        self._compact_bytes = compact_bytes
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context((self.path.parent / "lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ServiceError(
                    f"expected {folder} for this service alone, got one that another service writes to. "
                    "Stop that one, or give this one another --data folder."
                ) from error
            self.tally, self.damaged, end = _load(self.path, most_devices)
            if end == 0:
                write_atomic(self.path, _head({}))
            self._stream = stack.enter_context(self.path.open("r+b", buffering=0))
            if end:  # what was torn was not accepted
                os.ftruncate(self._stream.fileno(), end)
            self._end = self._start = self._stream.seek(0, os.SEEK_END)
            self._torn = False
            self._closing = stack.pop_all()
        if self._end > compact_bytes:
            self._compact()

    def accept(self, batch: Sequence[Received]) -> list[bool]:
        """Keep reports; once this returns they are on disk. For each, whether it was new.

        Raises
        ------
        ServiceError
            When they cannot be written; none of them counts.
        """
        newest: dict[tuple[str, str], int] = {}
        fresh = []
        for received in batch:
            report = received.report
            key = (report.group, report.device)
            new = self.tally.is_new(report) and report.sequence > newest.get(key, 0)
            if new:
                newest[key] = report.sequence
            fresh.append(new)
        new_ones = [received for received, new in zip(batch, fresh, strict=True) if new]
        if new_ones:
            self._append(b"".join(_line(msgspec.json.encode(received)) for received in new_ones))
            for received in new_ones:
                self.tally.add(received)
            if self._end - self._start > self._compact_bytes:
                self._compact()
        return fresh

    def close(self) -> None:
        """Let another process write."""
        self._closing.close()

    def _append(self, lines: bytes) -> None:
        try:
            if self._torn:  # no half line may stand before the next one
                os.ftruncate(self._stream.fileno(), self._end)
                self._stream.seek(self._end)
            self._torn = True
            view = memoryview(lines)
            while view:
                view = view[self._stream.write(view) or 0 :]
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise ServiceError(
                f"cannot write {self.path}: {error.strerror or error}. Free some space; devices try again."
            ) from error
        self._torn = False
        self._end += len(lines)

    def _compact(self) -> None:
        newest = self.tally.newest()
        lines = [_line(msgspec.json.encode(received)) for received in newest]
        counts = self.tally.counts
        for received in newest:
            counts[received.report.group] -= 1
        written = None
        try:
            with atomic_path(self.path) as temporary:
                temporary.write_bytes(_head(counts) + b"".join(lines))
                written = self._closing.enter_context(temporary.open("r+b", buffering=0))
        except OSError:  # the old file goes on, or the new one that has taken its place
            self._start = self._end
        if written is not None and os.path.samestat(os.fstat(written.fileno()), self.path.stat()):
            self._stream.close()
            self._stream = written
            self._end = self._start = self._stream.seek(0, os.SEEK_END)


def read_tally(folder: str | Path) -> Tally:
    """What a ledger adds up to, while a service may be writing it; an empty tally where there is none."""
    return _load(Path(folder) / FILE, None)[0]


def _load(path: Path, most_devices: int | None) -> tuple[Tally, int, int]:
    """The tally, the number of damaged lines, and where the last whole line ends."""
    tally = Tally() if most_devices is None else Tally(most_devices=most_devices)
    if not path.exists():
        return tally, 0, 0
    damaged, end = 0, 0
    counts: dict[str, int] = {}
    with path.open("rb") as stream:
        first = _content(stream.readline(MAX_HEAD_BYTES))
        if first is None:
            raise ServiceError(
                f"{path}: expected the reports of a service, got something else. "
                "Move the file away to begin anew, or give another --data folder."
            )
        counts = dict(decode_record(first, _Head, name=str(path), schema_version=SCHEMA_VERSION).counts)
        end = stream.tell()
        while line := stream.readline(MAX_LINE_BYTES):
            received = _received(_content(line))
            if received is None:
                damaged += line.endswith(b"\n")
            else:
                group = received.report.group
                counts[group] = counts.get(group, 0) + tally.add(received)
            if line.endswith(b"\n"):
                end = stream.tell()
    tally.restore(counts)
    return tally, damaged, end


def _head(counts: dict[str, int]) -> bytes:
    return _line(msgspec.json.encode(_Head(schema_version=SCHEMA_VERSION, counts=counts)))


def _line(content: bytes) -> bytes:
    return b"%08x %b\n" % (zlib.crc32(content), content)


def _content(line: bytes) -> bytes | None:
    if len(line) < 10 or line[-1:] != b"\n" or line[8:9] != b" ":
        return None
    content = line[9:-1]
    return content if line[:8] == b"%08x" % zlib.crc32(content) else None


def _received(content: bytes | None) -> Received | None:
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=Received)
    except msgspec.DecodeError:
        return None
