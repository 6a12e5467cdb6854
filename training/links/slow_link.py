"""A slow link on loopback: what goes through it is delayed by half a round trip, and passes at a rate."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from typing import TypedDict

from training.links.proxy import Proxy, running

CHUNK_BYTES = 65536
ABSENCE_CHECK_S = 0.02


class Rates(TypedDict):
    """What a network is like."""

    rtt_ms: float
    uplink_mbps: float
    downlink_mbps: float


class SlowLink(Proxy):
    """Passes TCP connections on; each direction has one rate for all connections.

    At a rate of 0 nothing arrives, and nobody is told so, as where a radio has no cell. What was on its way
    arrives when there is a rate again.

    Parameters
    ----------
    upstream
        Host and port of the server behind it.
    rtt_ms
        Round trip; a connection that is kept pays it once for each request.
    uplink_mbps, downlink_mbps
        Megabits a second.
    port
        As for :class:`Proxy`.

    Attributes
    ----------
    sent_bytes
        To the server, so far.
    """

    def __init__(
        self,
        upstream: tuple[str, int],
        *,
        rtt_ms: float,
        uplink_mbps: float,
        downlink_mbps: float,
        port: int = 0,
    ) -> None:
        super().__init__(upstream, port=port)
        self.sent_bytes = 0
        self._free = {True: 0.0, False: 0.0}  # when each direction has passed on what came before
        self.become(rtt_ms=rtt_ms, uplink_mbps=uplink_mbps, downlink_mbps=downlink_mbps)

    def become(self, *, rtt_ms: float, uplink_mbps: float, downlink_mbps: float) -> None:
        """Be another network from now on, for connections that are there as well; from any thread."""
        self._half_s = rtt_ms / 2000
        self._bytes_per_s = {True: uplink_mbps * 125_000, False: downlink_mbps * 125_000}

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, up: bool) -> None:
        """What comes waits on its own: a chunk does not delay those behind it by more than its bytes."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            while (item := await under_way.get())[1]:
                await asyncio.sleep(item[0] - loop.time())
                while not self._bytes_per_s[up]:
                    await asyncio.sleep(ABSENCE_CHECK_S)
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
                rate = self._bytes_per_s[up]
                self._free[up] = max(self._free[up], loop.time()) + (len(chunk) / rate if rate else 0.0)
                under_way.put_nowait((self._free[up] + self._half_s, chunk))


def slow_link(
    upstream: tuple[str, int], *, rtt_ms: float, uplink_mbps: float, downlink_mbps: float, port: int = 0
) -> AbstractContextManager[SlowLink]:
    """A link to a server, in a thread of its own."""
    rates = Rates(rtt_ms=rtt_ms, uplink_mbps=uplink_mbps, downlink_mbps=downlink_mbps)
    return running(SlowLink(upstream, port=port, **rates))
