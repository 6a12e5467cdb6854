"""The updater: the process in which a device keeps its store in line, so that answers never wait for that.

It reads orders, one JSON line each, and writes one line for each. It ends when its input does, as it does
when the device's process dies in whatever way. A download that it was at is gone on with the next time.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Annotated

import msgspec
from msgspec import Meta

import zoo.errors
from selector.answering.recent import Recalled
from selector.device.reconciler import Reconciler, Round
from zoo.child import leave
from zoo.client.change import Change, Freshness
from zoo.errors import FetchError, UpdaterError, ZooError
from zoo.process import Process

MAX_ORDER_BYTES = 64 * 2**20
MAX_REPLY_BYTES = 2**20
MAX_TASKS = 256
DOWNLOAD_GRACE_S = 0.5  # for the end of a download; then the process ends as it stands
EXIT_TIMEOUT_S = 1.0  # what the device waits for that
NICENESS = 10
ANSWERS_PER_CHUNK = 128  # answers that are encoded at a time, in a fraction of a millisecond
_MAX_PROBLEM_CHARACTERS = 4000  # characters of a problem
_ADVICE = "Answers go on with what is installed; the process is started again with the next round."


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Do one round, for these answers."""

    lately: Annotated[tuple[Recalled, ...], Meta(max_length=MAX_TASKS)]


class Problem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A :class:`ZooError` on its way."""

    kind: Annotated[str, Meta(max_length=100)]
    text: str

    @classmethod
    def of(cls, error: ZooError) -> Problem:
        """What is sent of an error."""
        return cls(type(error).__name__, str(error)[:_MAX_PROBLEM_CHARACTERS])

    def error(self) -> ZooError:
        """The error again; one that is more than its text becomes a plain :class:`ZooError`."""
        kind = getattr(zoo.errors, self.kind, None)
        plain = isinstance(kind, type) and issubclass(kind, ZooError) and kind is not FetchError
        return kind(self.text) if kind is not None and plain else ZooError(self.text)


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a round brought."""

    change: Change | None
    freshness: Freshness
    problem: Problem | None
    unknown: tuple[str, ...] = ()


class Updater:
    """The device's side of the process, which is started with the first round."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._process: Process | None = None
        self._starting = threading.Lock()
        self._stopped = False
        self._checked: float | None = None

    @property
    def pid(self) -> int | None:
        """Number of the process; None where there is none."""
        process = self._process
        return None if process is None else process.pid

    def round(self, lately: Sequence[Recalled]) -> Round:
        """Have one round done and wait for it; what goes wrong is in the result."""
        try:
            reply = self._ask(lately)
        except UpdaterError as error:
            return Round(None, Freshness(True, str(error), self._checked), error)
        self._checked = reply.freshness.checked
        problem = None if reply.problem is None else reply.problem.error()
        return Round(reply.change, reply.freshness, problem, reply.unknown)

    def stop(self) -> None:
        """End the process, also in the middle of a round; it is not started again."""
        with self._starting:
            self._stopped = True
            self._end()

    def _ask(self, lately: Sequence[Recalled]) -> Reply:
        parts = [_encoded(item) for item in lately[:MAX_TASKS]]
        with self._starting:
            if self._stopped:
                raise _failed("it was stopped")
            if self._process is None:
                self._process = self._start()
            process = self._process
        line = b""
        with contextlib.suppress(ValueError):  # it was ended here; the empty answer says so
            with contextlib.suppress(OSError):  # it has ended, and may have said something before
                process.tell(b'{"lately":[' + b",".join(parts) + b"]}\n")
            with contextlib.suppress(OSError):
                line = process.read_line(MAX_REPLY_BYTES)
        try:
            if line.endswith(b"\n"):
                return msgspec.json.decode(line, type=Reply)
            reason = "more than a reply" if line else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            reason = f"no reply: {error}"
        with self._starting:
            stopped = self._stopped
            ended = self._end()
        raise _failed("it was stopped" if stopped else reason or ended)

    def _start(self) -> Process:
        try:
            process = Process("selector.device.background:work", own_group=True)
        except OSError as error:
            raise _failed(f"it cannot be started: {error.strerror}") from error
        with contextlib.suppress(OSError):
            process.tell(json.dumps(str(self.folder)).encode() + b"\n")
        return process

    def _end(self) -> str:
        """End the process and say how it ended; the lock is held."""
        process, self._process = self._process, None
        if process is None:
            return "it had ended"
        ended = process.end(patience_s=EXIT_TIMEOUT_S)
        words = ended.words.splitlines()
        return f"it ended ({ended.how})" + (f", with the words {words[-1]!r}" if words else "")


def work(orders: IO[bytes], replies: IO[bytes]) -> None:
    """The process itself: its folder, then rounds until its input ends."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(NICENESS)
    serve(Path(json.loads(orders.readline())), orders, replies)


def serve(
    folder: Path, orders: IO[bytes], replies: IO[bytes], *, leave: Callable[[], object] = leave
) -> None:
    """Answer each line of `orders` with one of `replies`.

    Parameters
    ----------
    leave
        What to do when a round is still going on some time after the end of `orders`; by default, to end the
        process and those that it started.
    """
    waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    cancel = threading.Event()

    def read() -> None:
        while (line := orders.readline(MAX_ORDER_BYTES)).endswith(b"\n"):
            waiting.put(line)
        cancel.set()
        waiting.put(None)
        time.sleep(DOWNLOAD_GRACE_S)
        leave()

    threading.Thread(target=read, name="zooselect orders", daemon=True).start()
    reconciler: Reconciler | None = None
    while (line := waiting.get()) is not None and not cancel.is_set():
        try:
            lately = msgspec.json.decode(line, type=Order).lately
            reconciler = reconciler or Reconciler.open(folder)
            reconciler.touch(lately)
            found = reconciler.look(lately, cancel=cancel)
        except Exception as error:  # whatever it is, the next round may do better
            problem = error if isinstance(error, ZooError) else _failed(f"{type(error).__name__}: {error}")
            found = Round(None, Freshness(True, str(problem), None), problem)
        told = None if found.problem is None else Problem.of(found.problem)
        reply = Reply(found.change, found.freshness, told, found.unknown)
        with contextlib.suppress(OSError):  # nobody is there any more, as the end of the input will tell
            replies.write(msgspec.json.encode(reply) + b"\n")
            replies.flush()
    if reconciler is not None:
        reconciler.close()


def _encoded(item: Recalled) -> bytes:
    """The answers as JSON; piece by piece, so that answers in other threads get their turns."""
    pieces = []
    for i in range(0, len(item.noted), ANSWERS_PER_CHUNK):
        pieces.append(msgspec.json.encode(item.noted[i : i + ANSWERS_PER_CHUNK], enc_hook=float)[1:-1])
        time.sleep(0.001)
    head = msgspec.json.encode(msgspec.structs.replace(item, noted=[]))
    return head[:-2] + b",".join(pieces) + b"]}"


def _failed(what: str) -> UpdaterError:
    return UpdaterError(f"expected a reply of the device's background process, got: {what}. {_ADVICE}")
