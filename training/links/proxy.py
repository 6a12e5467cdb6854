"""A proxy on loopback that passes TCP connections on, each direction as a subclass says."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar


class Proxy(ABC):
    """Passes TCP connections on.

    Parameters
    ----------
    upstream
        Host and port of the server behind it.
    port
        On 127.0.0.1; where it is taken, and for 0, any that is free.

    Attributes
    ----------
    port
        The one that it has.
    """

    def __init__(self, upstream: tuple[str, int], *, port: int = 0) -> None:
        self.upstream, self.port = upstream, port
        self._open: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    async def run(self, ready: threading.Event, stop: asyncio.Event) -> None:
        """Serve until `stop` is set."""
        try:
            server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, backlog=512)
        except OSError:
            server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()
        for writer in self._open:
            writer.transport.abort()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await asyncio.sleep(0)  # transports close on the next turn of the loop

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        connection = asyncio.get_running_loop().create_task(self._connection(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._refuses():
                raise ConnectionAbortedError
            answers, requests = await asyncio.open_connection(*self.upstream)
        except OSError:
            self._close(writer)
            return
        self._open.add(requests)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, requests, up=True))
                both.create_task(self._pass(answers, writer, up=False))
        except* OSError:
            pass
        finally:
            self._close(requests)
            self._close(writer)

    def _close(self, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()
        self._open.discard(writer)

    @abstractmethod
    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, up: bool) -> None:
        """Pass on what one side sends until it ends, and then end the connection; `up`: to the server."""

    def _refuses(self) -> bool:
        """Whether a new connection is not taken."""
        return False


P = TypeVar("P", bound=Proxy)


@contextmanager
def running(proxy: P) -> Iterator[P]:
    """The proxy at work, in a thread of its own."""
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    def run() -> None:
        with contextlib.closing(loop):
            loop.run_until_complete(proxy.run(ready, stop))

    thread = threading.Thread(target=run, name="proxy", daemon=True)
    thread.start()
    ready.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
