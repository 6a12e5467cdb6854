"""Limits of a run: how long a graph may take for one input, and how much memory."""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar, cast

import onnxruntime as ort

from zoo.errors import ZooError

END_GRACE_S = 0.25  # for a run to end that was told to
EXIT_GRACE_S = 5.0  # for runs to end that did not, when the process does
MAX_LOST_RUNS = 1  # runs that do not end, beside which others may begin
_SHORT_OF_MEMORY = ("Available memory of", "bad_alloc", "bad allocation", "Failed to allocate")
_REGISTERING = threading.Lock()

T = TypeVar("T")
_Reply: TypeAlias = tuple[Any, Exception | None]
_Replies: TypeAlias = "queue.SimpleQueue[_Reply]"


class RunLimits:
    """What a graph may take for one input. Safe to use from several threads.

    A run is told to end when its time is up, and ends between two operators. One that is inside a long
    operator goes on in its thread; when more than :data:`MAX_LOST_RUNS` of these have not ended in the whole
    process, further runs are refused until one has. The end of the process waits a little for them: one that
    is still at work then aborts it.

    Parameters
    ----------
    timeout_s
        Longest time of a run in seconds, for each input in it; None: no limit.
    memory_bytes
        Most memory that a graph may hold in its arena, for what it computes; None: no limit. Its weights, and
        what goes in and comes out, do not count.

    Raises
    ------
    ZooError
        For limits that nothing can keep.
    """

    def __init__(self, timeout_s: float | None = None, memory_bytes: int | None = None) -> None:
        if timeout_s is not None and not 0 < timeout_s <= threading.TIMEOUT_MAX:
            raise ZooError(f"expected a limit of time above 0 seconds, got {timeout_s:g}. Give more.")
        if memory_bytes is not None and memory_bytes < 1:
            raise ZooError(f"expected a limit of memory above 0 bytes, got {memory_bytes}. Give more.")
        self.timeout_s = timeout_s
        self.memory_bytes = memory_bytes
        self._idle: list[_Worker] = []
        weakref.finalize(self, _end, self._idle).atexit = False

    @classmethod
    def of(cls, timeout_s: float | None, memory_bytes: int | None) -> RunLimits | None:
        """The limits; None where there is neither."""
        return None if timeout_s is None and memory_bytes is None else cls(timeout_s, memory_bytes)

    def run(self, call: Callable[[], T], options: ort.RunOptions, inputs: int = 1) -> T:
        """What `call` returns or raises: a run with these `options`, for that many inputs at once.

        Raises
        ------
        TimeoutError
            When it takes too long, or too many runs before it have not ended.
        """
        if self.timeout_s is None:
            return call()
        for worker in [*_lost]:
            if not worker.is_alive():
                with contextlib.suppress(ValueError):  # another thread has removed it
                    _lost.remove(worker)
        if len(_lost) > MAX_LOST_RUNS:
            raise TimeoutError(f"none, as {len(_lost)} runs before it do not end")
        worker = self._worker()
        reply = worker.begin(call)
        try:
            value, error = self._reply(reply, options, min(self.timeout_s * inputs, threading.TIMEOUT_MAX))
        except BaseException:
            options.terminate = True
            _end([worker])
            _lost.append(worker)
            raise
        self._idle.append(worker)
        if error is not None:
            raise error
        return cast("T", value)

    def _reply(self, reply: _Replies, options: ort.RunOptions, timeout_s: float) -> _Reply:
        try:
            return reply.get(timeout=timeout_s)
        except queue.Empty:
            options.terminate = True
        late = f"none within {timeout_s:g} seconds"
        try:
            value, error = reply.get(timeout=END_GRACE_S)
        except queue.Empty:
            raise TimeoutError(f"{late}, and it does not end") from None
        return value, None if error is None else TimeoutError(late)

    def _worker(self) -> _Worker:
        with contextlib.suppress(IndexError):
            worker = self._idle.pop()
            if worker.is_alive():  # in the copy of a process there are no threads but its own
                return worker
        return _Worker()


@contextlib.contextmanager
def limited_memory(options: ort.SessionOptions, memory_bytes: int | None) -> Iterator[None]:
    """Have the session that is opened inside keep its memory in an arena of its own, of that size at most.

    ONNX Runtime gives a session the arena that was registered last.
    """
    if memory_bytes is None:
        yield
        return
    info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    arena = ort.OrtArenaCfg({"max_mem": memory_bytes, "arena_extend_strategy": 1})
    options.add_session_config_entry("session.use_env_allocators", "1")
    with _REGISTERING:
        ort.create_and_register_allocator(info, arena)
        yield


def is_short_of_memory(error: Exception) -> bool:
    """Whether ONNX Runtime failed for want of memory."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _SHORT_OF_MEMORY)


_lost: list[_Worker] = []  # whose runs do not end


@atexit.register
def _wait_for_lost_runs() -> None:
    end = time.monotonic() + EXIT_GRACE_S
    for worker in _lost:
        worker.join(max(0.0, end - time.monotonic()))


class _Worker(threading.Thread):
    """A thread that makes one call after the other, until it is told to end."""

    def __init__(self) -> None:
        super().__init__(name="zooselect-run", daemon=True)
        self.orders: queue.SimpleQueue[tuple[Callable[[], Any], _Replies] | None] = queue.SimpleQueue()
        self.start()

    def begin(self, call: Callable[[], Any]) -> _Replies:
        replies: _Replies = queue.SimpleQueue()
        self.orders.put((call, replies))
        return replies

    def run(self) -> None:
        while (order := self.orders.get()) is not None:
            call, replies = order
            reply: _Reply
            try:
                reply = call(), None
            except Exception as error:
                reply = None, error
            del order, call  # a session that was replaced is not kept by a thread that waits
            replies.put(reply)
            del reply, replies


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.orders.put(None)
