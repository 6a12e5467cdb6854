"""A proxy on loopback that misbehaves on demand: it cuts, drips, delays, refuses and falls silent."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np

CHUNK_BYTES = 16384
CUT_SHARE = 0.2  # of the chunks that come while connections are cut
REFUSED_SHARE = 0.8  # of the connections that are made while some are refused
DRIP_BYTES, DRIP_INTERVAL_S = 256, 0.02
MAX_DELAY_S = 1.0
SILENCE_CHECK_S = 0.05

Fault = Literal["cut", "head", "drip", "delay", "refuse", "silence"]
FAULTS: tuple[Fault, ...] = ("cut", "head", "drip", "delay", "refuse", "silence")


class FaultyProxy:
    """Passes TCP connections on, as the fault in force lets it.

    Attributes
    ----------
    upstream
        Host and port of the server behind it, which may be replaced.
    fault
        What goes wrong now, for connections that are there already as well as for new ones; None: nothing.
    bytes_passed
        In both directions, so far.
    """

    def __init__(self, upstream: tuple[str, int], seed: int) -> None:
        self.upstream = upstream
        self.fault: Fault | None = None
        self.bytes_passed = 0
        self.port = 0
        self._draw = np.random.default_rng(seed)
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    async def run(self, ready: threading.Event, stop: asyncio.Event) -> None:
        """Serve until `stop` is set."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()
        self.fault = None
        for writer in self._open:
            writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.fault == "refuse" and self._draw.random() < REFUSED_SHARE:
                raise ConnectionAbortedError
            answers, requests = await asyncio.open_connection(*self.upstream)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, requests}
        self._open |= ends
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, requests))
                both.create_task(self._pass(answers, writer))
        except* OSError:
            pass
        finally:
            self._open -= ends
            requests.transport.abort()
            writer.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Pass on what one side sends until it ends, and then end the connection."""
        while chunk := await source.read(CHUNK_BYTES):
            while self.fault == "silence":
                await asyncio.sleep(SILENCE_CHECK_S)
            if self.fault == "cut" and self._draw.random() < CUT_SHARE:
                target.write(chunk[: len(chunk) // 2])
                await target.drain()
                raise ConnectionAbortedError
            if self.fault == "head" and chunk.startswith(b"HTTP/") and self._draw.random() < CUT_SHARE:
                head = chunk.find(b"\r\n\r\n") + 1 or len(chunk)
                target.write(chunk[: int(self._draw.integers(1, head + 1))])
                await target.drain()
                raise ConnectionAbortedError  # within the head of the answer
            if self.fault == "delay":
                await asyncio.sleep(self._draw.uniform(0, MAX_DELAY_S))
            while self.fault == "drip" and chunk:
                target.write(chunk[:DRIP_BYTES])
                self.bytes_passed += len(chunk[:DRIP_BYTES])
                chunk = chunk[DRIP_BYTES:]
                await asyncio.sleep(DRIP_INTERVAL_S)
            target.write(chunk)
            self.bytes_passed += len(chunk)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()


@contextmanager
def misbehaving(upstream: tuple[str, int], seed: int) -> Iterator[FaultyProxy]:
    """A proxy in front of a server, in a thread of its own."""
    proxy = FaultyProxy(upstream, seed)
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    def run() -> None:
        with contextlib.closing(loop):
            loop.run_until_complete(proxy.run(ready, stop))

    thread = threading.Thread(target=run, name="faulty proxy", daemon=True)
    thread.start()
    ready.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
