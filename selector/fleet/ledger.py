"""The ledger: reports on disk, so that a restart loses none that was accepted.

A database of SQLite with the newest report of every device and the number of reports of every group. A report
is accepted once its transaction is synced. The file of lines that zooselect 0.1 wrote is taken over.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from selector.fleet.tally import MAX_DEVICES, Received, Tally, Verdict, judge
from selector.telemetry.report import MAX_REPORT_BYTES, Report
from zoo.errors import SchemaVersionError, ServiceError, StoreLockedError
from zoo.files import decode_record, open_file
from zoo.lock import FolderLock
from zoo.types import Name

SCHEMA_VERSION = 3  # 2: reports do not tell which token they came with
FILE = "reports.sqlite"
APPLICATION_ID = 0x5A4F4F53  # "ZOOS", in the head of the file
MAX_RECEIVED_BYTES = MAX_REPORT_BYTES + 512
BUSY_TIMEOUT_S = 30.0  # for a transaction of another process
MAX_WAITING_REPORTS = 4_000

OLD_FILE = "reports.jsonl"
OLD_SCHEMA_VERSION = 1
MAX_OLD_HEAD_BYTES = 16 * 2**20

_TABLES = f"""
CREATE TABLE reports (
    "group" TEXT NOT NULL, device TEXT NOT NULL, number INTEGER NOT NULL, received BLOB NOT NULL,
    UNIQUE ("group", device));
CREATE TABLE groups (name TEXT PRIMARY KEY, accepted INTEGER NOT NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""
_LOAD = """SELECT CASE WHEN typeof(received) = 'blob' AND length(received) <= ? THEN received END
FROM reports ORDER BY number"""
_KEEP = """INSERT INTO reports VALUES (?, ?, ?, ?)
ON CONFLICT ("group", device) DO UPDATE SET number = excluded.number, received = excluded.received"""
_COUNT = """INSERT INTO groups VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET accepted = accepted + excluded.accepted"""
_FORGET = """DELETE FROM reports WHERE "group" = ?1 AND number <=
(SELECT number FROM reports WHERE "group" = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)"""

_Counts = dict[Name, Annotated[int, Meta(ge=0)]]


class Ledger:
    """The reports in a folder. One process writes; :func:`read_tally` reads from any.

    Parameters
    ----------
    most_devices
        Of a group. Beyond them the device that was unheard of for longest is forgotten.

    Raises
    ------
    ServiceError
        When another process writes there, or the file is not a ledger.
    SchemaVersionError
        When a newer zooselect wrote it.
    """

    def __init__(self, folder: str | Path, *, most_devices: int = MAX_DEVICES) -> None:
        self.path = Path(folder) / FILE
        self._most_devices = most_devices
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(FolderLock(self.path.parent / "lock").hold(0))
            except StoreLockedError as error:
                raise ServiceError(
                    f"expected {folder} for this service alone, got one that another service writes to. "
                    "Stop that one, or give this one another --data folder."
                ) from error
            with _errors_about(self.path):
                self._database = stack.enter_context(contextlib.closing(_connect(self.path, "rwc")))
                self._open()
            self._closing = stack.pop_all()

    def _open(self) -> None:
        self.tally, self._last = Tally(most_devices=self._most_devices), 0
        fresh = _is_fresh(self._database, self.path)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        if (found := self._database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(found)
        old = self.path.with_name(OLD_FILE)
        known, damaged = _read_old(old, self._most_devices) if old.exists() else (Tally(), 0)
        if fresh:
            with _transaction(self._database):
                for statement in _TABLES.split(";"):
                    self._database.execute(statement)
                self._keep(known.newest(), known.counts)
        else:  # reports of schema 2 lack what may be lacking
            self._database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self.tally, self.damaged = _load(self._database, self._most_devices)
        self.damaged += damaged
        (last,) = self._database.execute("SELECT coalesce(max(number), 0) FROM reports").fetchone()
        self._last = msgspec.convert(last, int)
        self.accept(known.newest())  # what an older zooselect wrote after it had been taken over
        if old.exists():
            old.replace(old.with_name(f"{OLD_FILE}.old"))

    def accept(self, batch: Sequence[Received]) -> list[Verdict]:
        """Keep reports that are new; once this returns they are on disk. For each, what it was.

        Raises
        ------
        ServiceError
            When they cannot be written; none of them counts.
        """
        newest: dict[tuple[str, str], Report] = {}
        verdicts = []
        for received in batch:
            report = received.report
            key = (report.group, report.device)
            verdict = judge(report, newest[key]) if key in newest else self.tally.verdict(report)
            if verdict == "new":
                newest[key] = report
            verdicts.append(verdict)
        new_ones = [received for received, one in zip(batch, verdicts, strict=True) if one == "new"]
        if new_ones:
            try:
                with _transaction(self._database):
                    self._keep(new_ones, Counter(received.report.group for received in new_ones))
            except sqlite3.Error as error:
                raise ServiceError(
                    f"cannot write {self.path}: {error}. Free some space; devices try again."
                ) from error
            self._last += len(new_ones)
            for received in new_ones:
                self.tally.add(received)
        return verdicts

    def close(self) -> None:
        """Let another process write; to be called by the thread that opened it."""
        self._closing.close()

    def _keep(self, reports: Sequence[Received], counts: Mapping[str, int]) -> None:
        for number, one in enumerate(reports, self._last + 1):
            row = (one.report.group, one.report.device, number, msgspec.json.encode(one))
            self._database.execute(_KEEP, row)
        self._database.executemany(_COUNT, counts.items())
        for name in {one.report.group for one in reports if self.tally.displaces(one.report)}:
            self._database.execute(_FORGET, (name, self._most_devices))


class Commit:
    """Accepts reports of many connections at a time; lives in one event loop.

    Reports that arrive while the disk is busy are synced together, with the next ones.
    """

    def __init__(self, ledger: Ledger, *, most_waiting: int = MAX_WAITING_REPORTS) -> None:
        self._ledger = ledger
        self._most_waiting = most_waiting
        self._waiting: list[tuple[Received, asyncio.Future[Verdict]]] = []
        self._running: asyncio.Task[None] | None = None

    async def accept(self, report: Report, token: str | None = None) -> Verdict:
        """Return once the report is on disk, or known not to be new.

        Parameters
        ----------
        token
            Digest of the token that it came with.

        Raises
        ------
        ServiceError
            When too many wait, or the disk cannot be written.
        """
        if len(self._waiting) >= self._most_waiting:
            raise ServiceError(
                f"expected at most {self._most_waiting:,} reports at a time, got more. Try again later."
            )
        done: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.append((Received(at=time.time(), report=report, token=token), done))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await done

    async def finish(self) -> None:
        """Wait for what was begun."""
        if self._running is not None:
            await self._running

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                verdicts = await asyncio.to_thread(self._ledger.accept, [received for received, _ in batch])
            except Exception as error:
                refused = error if isinstance(error, ServiceError) else ServiceError(str(error))
                for _, done in batch:
                    if not done.done():
                        done.set_exception(refused)
            else:
                for (_, done), verdict in zip(batch, verdicts, strict=True):
                    if not done.done():  # a connection that was closed waits no more
                        done.set_result(verdict)
        self._running = None


def read_tally(folder: str | Path) -> Tally:
    """What a ledger adds up to, while a service may be writing it; an empty tally where there is none.

    Raises
    ------
    ServiceError, SchemaVersionError
        As :class:`Ledger` does.
    """
    path = Path(folder) / FILE
    if path.exists():
        with _errors_about(path), contextlib.closing(_connect(path, "ro")) as database:
            if not _is_fresh(database, path):
                return _load(database, MAX_DEVICES)[0]
    old = path.with_name(OLD_FILE)
    return _read_old(old, MAX_DEVICES)[0] if old.exists() else Tally()


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,  # transactions begin and end where this file says so
        check_same_thread=False,  # one thread at a time, but not always the same one
    )


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    with database:  # which commits, or rolls back
        database.execute(f"BEGIN {kind}")
        yield


@contextlib.contextmanager
def _errors_about(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise ServiceError(
            f"cannot open {path}: {error}. Check the rights and the free space of its folder."
        ) from error
    except (sqlite3.Error, msgspec.ValidationError) as error:
        raise _foreign(path, str(error)) from error


def _foreign(path: Path, got: str) -> ServiceError:
    return ServiceError(
        f"{path}: expected the reports of a service, got something else: {got}. "
        "Move the file away to begin anew, or give another --data folder."
    )


def _is_fresh(database: sqlite3.Connection, path: Path) -> bool:
    """Whether nothing was written yet; an error when something else was."""
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if tables == 0 and application == 0:
        return True
    if application != APPLICATION_ID:
        raise _foreign(path, "another database")
    if version > SCHEMA_VERSION:
        raise SchemaVersionError(
            f"{path}: expected schema version {SCHEMA_VERSION} or older, got {version}. "
            "It was written by a newer zooselect: upgrade this one, from where you got it."
        )
    return False


def _load(database: sqlite3.Connection, most_devices: int) -> tuple[Tally, int]:
    """The tally, and the number of damaged reports that are not in it."""
    tally, damaged = Tally(most_devices=most_devices), 0
    with _transaction(database, "DEFERRED"):
        for (content,) in database.execute(_LOAD, (MAX_RECEIVED_BYTES,)):
            received = _received(content)
            if received is None:
                damaged += 1
            else:
                tally.add(received)
        counts = dict(database.execute("SELECT name, accepted FROM groups"))
    tally.restore(msgspec.convert(counts, _Counts))
    return tally, damaged


class _OldHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    schema_version: int
    counts: _Counts  # group → accepted reports that have no line of their own in the file


def _read_old(path: Path, most_devices: int) -> tuple[Tally, int]:
    """The tally of lines with checksums, a head and then one report a line, and the number of damaged ones.

    A last line that is torn was not accepted.
    """
    tally, damaged = Tally(most_devices=most_devices), 0
    with open_file(path) as stream:
        head = _old_content(stream.readline(MAX_OLD_HEAD_BYTES))
        if head is None:
            raise _foreign(path, "another file")
        counts = dict(decode_record(head, _OldHead, name=str(path), schema_version=OLD_SCHEMA_VERSION).counts)
        while line := stream.readline(MAX_RECEIVED_BYTES):
            received = _received(_old_content(line))
            if received is None:
                damaged += line.endswith(b"\n")
            else:
                group = received.report.group
                counts[group] = counts.get(group, 0) + tally.add(received)
    tally.restore(counts)
    return tally, damaged


def _old_content(line: bytes) -> bytes | None:
    if len(line) < 10 or line[-1:] != b"\n" or line[8:9] != b" ":
        return None
    content = line[9:-1]
    return content if line[:8] == b"%08x" % zlib.crc32(content) else None


def _received(content: bytes | None) -> Received | None:
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=Received)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
