"""Group commit: reports that arrive while the disk is busy are synced together, with the next ones."""

from __future__ import annotations

import asyncio
import time

from selector.fleet.ledger import Ledger
from selector.fleet.tally import Received
from selector.telemetry.report import Report
from zoo.errors import ServiceError

MOST_WAITING = 10_000


class Commit:
    """Accepts reports of many connections at a time; lives in one event loop."""

    def __init__(self, ledger: Ledger, *, most_waiting: int = MOST_WAITING) -> None:
        self._ledger = ledger
        self._most_waiting = most_waiting
        self._waiting: list[tuple[Received, asyncio.Future[bool]]] = []
        self._running: asyncio.Task[None] | None = None

    async def accept(self, report: Report) -> bool:
        """Return once the report is on disk: whether it was new.

        Raises
        ------
        ServiceError
            When too many wait, or the disk cannot be written.
        """
        if len(self._waiting) >= self._most_waiting:
            raise ServiceError(
                f"expected at most {self._most_waiting:,} reports at a time, got more. Try again later."
            )
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((Received(at=time.time(), report=report), done))
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
                fresh = await asyncio.to_thread(self._ledger.accept, [received for received, _ in batch])
            except Exception as error:
                refused = error if isinstance(error, ServiceError) else ServiceError(str(error))
                for _, done in batch:
                    if not done.done():
                        done.set_exception(refused)
            else:
                for (_, done), new in zip(batch, fresh, strict=True):
                    if not done.done():  # a connection that was closed waits no more
                        done.set_result(new)
        self._running = None
