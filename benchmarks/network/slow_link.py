"""A slow link on loopback: what goes through it is delayed by half a round trip, and passes at a rate."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

CHUNK_BYTES = 65536


class SlowLink:
    """Passes TCP connections on; each direction has one rate for all connections.

    Parameters
    ----------
    upstream
        Host and port of the server behind it.
    rtt_ms
        Round trip; a connection that is kept pays it once for each request.
    uplink_mbps, downlink_mbps
        Megabits a second.

    Attributes
    ----------
    sent_bytes
        To the server, so far.
    """

    def __init__(
        self, upstream: tuple[str, int], *, rtt_ms: float, uplink_mbps: float, downlink_mbps: float
    ) -> None:
        self.upstream, self.port, self.sent_bytes = upstream, 0, 0
        self._half_s = rtt_ms / 2000
        self._bytes_per_s = {True: uplink_mbps * 125_000, False: downlink_mbps * 125_000}
        self._free = {True: 0.0, False: 0.0}  # when each direction has passed on what came before

    async def run(self, ready: threading.Event, stop: asyncio.Event) -> None:
        """Serve until `stop` is set."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(*self.upstream)
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pass(reader, requests, up=True), self._pass(answers, writer, up=False))
        for end in (requests, writer):
            end.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, up: bool) -> None:
        """What comes waits on its own: a chunk does not delay those behind it by more than its bytes."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            while (item := await under_way.get())[1]:
                await asyncio.sleep(item[0] - loop.time())
                target.write(item[1])
                await target.drain()
            if target.can_write_eof():
                target.write_eof()

        arriving = asyncio.ensure_future(arrive())
        chunk = b"first"
        while chunk:
            chunk = await source.read(CHUNK_BYTES)
            self.sent_bytes += len(chunk) if up else 0
            self._free[up] = max(self._free[up], loop.time()) + len(chunk) / self._bytes_per_s[up]
            under_way.put_nowait((self._free[up] + self._half_s, chunk))
        await arriving


@contextmanager
def slow_link(
    upstream: tuple[str, int], *, rtt_ms: float, uplink_mbps: float, downlink_mbps: float
) -> Iterator[SlowLink]:
    """A link to a server, in a thread of its own."""
    link = SlowLink(upstream, rtt_ms=rtt_ms, uplink_mbps=uplink_mbps, downlink_mbps=downlink_mbps)
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    def run() -> None:
        with contextlib.closing(loop):
            loop.run_until_complete(link.run(ready, stop))

    thread = threading.Thread(target=run, name="slow link", daemon=True)
    thread.start()
    ready.wait()
    try:
        yield link
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
