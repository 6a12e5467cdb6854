"""Requests that wait are answered together: a queue with bounds, deadlines and a few runs at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import msgspec
from numpy.typing import NDArray

from selector.serving.served import Rows, Served
from zoo.errors import ServiceError


class BusyError(ServiceError):
    """More waits than may wait."""


class LateError(ServiceError):
    """No answer came before the deadline."""


class BatchLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How requests are put together, and how many may wait."""

    batch_images: int = 32  # that run together; a request with more runs alone
    wait_ms: float = 2.0  # that a request waits for others that are just arriving
    waiting_images: int = 512
    waiting_bytes: int = 2**28  # pixels of them


@dataclass(eq=False, slots=True)
class _Waiting:
    served: Served
    question: Hashable
    images: Sequence[NDArray[Any]]
    since: float
    done: asyncio.Future[Rows]
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = sum(image.nbytes for image in self.images)

    def goes_with(self, other: _Waiting) -> bool:
        return self.served is other.served and self.question == other.question


class Batcher:
    """Answers requests in the order of their arrival, those that ask the same together.

    A request runs at once where a run is free. While all runs are at work, requests gather, and the next run
    takes what fits. A run waits for others only while these are arriving. Belongs to one event loop.

    Parameters
    ----------
    runs
        Inferences at once, each in a thread of its own.
    """

    def __init__(self, limits: BatchLimits | None = None, *, runs: int = 1) -> None:
        self.limits = limits or BatchLimits()
        self._pool = ThreadPoolExecutor(runs, thread_name_prefix="answer")
        self._free = runs
        self._arriving = 0
        self._waiting: dict[_Waiting, None] = {}  # in the order of arrival
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.batches = 0

    @contextlib.contextmanager
    def arriving(self) -> Iterator[None]:
        """While a request is read: others may wait a little for it."""
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1
            if not self._arriving:
                self._start()

    async def ask(
        self, served: Served, question: Hashable, images: Sequence[NDArray[Any]], *, until: float
    ) -> Rows:
        """The rows of one request.

        Parameters
        ----------
        until
            Deadline on the clock of the event loop.

        Raises
        ------
        BusyError
            When too much waits already.
        LateError
            When the deadline passes.
        ZooError
            What answering raises.
        """
        loop = asyncio.get_running_loop()
        one = _Waiting(served, question, images, loop.time(), loop.create_future())
        count = len(images) + sum(len(other.images) for other in self._waiting)
        size = one.size + sum(other.size for other in self._waiting)
        if self._waiting and (count > self.limits.waiting_images or size > self.limits.waiting_bytes):
            raise BusyError(
                f"expected at most {self.limits.waiting_images} images and {self.limits.waiting_bytes:,} "
                "bytes to wait, got more. Try again later."
            )
        self._waiting[one] = None
        self._start()
        try:
            async with asyncio.timeout_at(until):
                return await one.done
        except TimeoutError:
            raise LateError(
                f"expected an answer within {until - one.since:.3g} s, got none. Ask for fewer images, give "
                "more time, or try again later."
            ) from None
        finally:
            self._waiting.pop(one, None)

    async def finish(self) -> None:
        """Let what runs end."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown(wait=False)

    def _ring(self) -> None:
        self._timer = None
        self._start()

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        while self._free and self._waiting:
            first = next(iter(self._waiting))
            batch, count = [first], len(first.images)
            for one in self._waiting:
                if one is not first and one.goes_with(first):
                    if count + len(one.images) > self.limits.batch_images:
                        break
                    batch.append(one)
                    count += len(one.images)
            ready_at = first.since + self.limits.wait_ms / 1e3
            if self._arriving and count < self.limits.batch_images and loop.time() < ready_at:
                self._timer = self._timer or loop.call_at(ready_at, self._ring)
                return
            for one in batch:
                del self._waiting[one]
            self._free -= 1
            self.batches += 1
            task = loop.create_task(self._run(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, batch: list[_Waiting]) -> None:
        try:
            try:
                images = [image for one in batch for image in one.images]
                rows = await self._answer(batch[0], images)
            except Exception as error:
                if len(batch) == 1:
                    _tell(batch[0].done, error)
                    return
                for one in batch:  # one of them may be to blame, and the others have a right to an answer
                    try:
                        _tell(one.done, await self._answer(one, one.images))
                    except Exception as own:
                        _tell(one.done, own)
                return
            first = 0
            for one in batch:
                last = first + len(one.images)
                _tell(one.done, {name: values[first:last] for name, values in rows.items()})
                first = last
        finally:
            self._free += 1
            self._start()

    async def _answer(self, one: _Waiting, images: Sequence[NDArray[Any]]) -> Rows:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, one.served.answer, images, one.question)


def _tell(done: asyncio.Future[Rows], found: Rows | Exception) -> None:
    if done.done():  # nobody waits any more
        return
    if isinstance(found, Exception):
        done.set_exception(found)
    else:
        done.set_result(found)
