"""A slow link on loopback: what goes through it is delayed by half a round trip, and passes at a rate."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager

from benchmarks.distribution.proxy import Proxy, running

CHUNK_BYTES = 65536


class SlowLink(Proxy):
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
        super().__init__(upstream)
        self.sent_bytes = 0
        self._half_s = rtt_ms / 2000
        self._bytes_per_s = {True: uplink_mbps * 125_000, False: downlink_mbps * 125_000}
        self._free = {True: 0.0, False: 0.0}  # when each direction has passed on what came before

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

        async with asyncio.TaskGroup() as both:
            both.create_task(arrive())
            chunk = b"first"
            while chunk:
                chunk = await source.read(CHUNK_BYTES)
                self.sent_bytes += len(chunk) if up else 0
                self._free[up] = max(self._free[up], loop.time()) + len(chunk) / self._bytes_per_s[up]
                under_way.put_nowait((self._free[up] + self._half_s, chunk))


def slow_link(
    upstream: tuple[str, int], *, rtt_ms: float, uplink_mbps: float, downlink_mbps: float
) -> AbstractContextManager[SlowLink]:
    """A link to a server, in a thread of its own."""
    rates = {"uplink_mbps": uplink_mbps, "downlink_mbps": downlink_mbps}
    return running(SlowLink(upstream, rtt_ms=rtt_ms, **rates))
