"""A proxy on loopback that misbehaves on demand: it cuts, drips, delays, refuses and falls silent."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from typing import Literal

import numpy as np

from training.links.proxy import Proxy, running

CHUNK_BYTES = 16384
CUT_SHARE = 0.2  # of the chunks that come while connections are cut
REFUSED_SHARE = 0.8  # of the connections that are made while some are refused
DRIP_BYTES, DRIP_INTERVAL_S = 256, 0.02
MAX_DELAY_S = 1.0
SILENCE_CHECK_S = 0.05

Fault = Literal["cut", "head", "drip", "delay", "refuse", "silence"]
FAULTS: tuple[Fault, ...] = ("cut", "head", "drip", "delay", "refuse", "silence")


class FaultyProxy(Proxy):
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
        super().__init__(upstream)
        self.fault: Fault | None = None
        self.bytes_passed = 0
        self._draw = np.random.default_rng(seed)

    def _refuses(self) -> bool:
        return self.fault == "refuse" and bool(self._draw.random() < REFUSED_SHARE)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, up: bool) -> None:
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


def misbehaving(upstream: tuple[str, int], seed: int) -> AbstractContextManager[FaultyProxy]:
    """A proxy in front of a server, in a thread of its own."""
    return running(FaultyProxy(upstream, seed))
