"""How long the service waits for a client, and how much it keeps for one: a slow one must not harm others.

The server has no time limit of its own for a request that does not come whole, nor for an answer that nobody
reads. It keeps up to four times as much of such an answer.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_TIMEOUT_S = 20.0  # for a whole request, from the connection or its first byte on
WRITE_TIMEOUT_S = 30.0  # for a full buffer to be read
MAX_CONNECTIONS = 4096
EVICTION_CONNECTIONS = MAX_CONNECTIONS - 96  # from here on whoever has been quiet for longest has to go
MAX_AHEAD_BYTES = 16 * 1024  # that come with further requests, before the first one is answered

_COMING = (h11.IDLE, h11.SEND_BODY)


class PatientProtocol(H11Protocol):
    """One connection; closed when its request does not come, its answer is not read, or others need the room.

    Between requests it may be idle, as long as there is room.
    """

    quiet: dict[PatientProtocol, None] = {}  # noqa: RUF012  # of the process: whose request is awaited, longest first

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # no second part of a file beside one that is not read
        self._arriving: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        limit = self.limit_concurrency or MAX_CONNECTIONS  # fewer, where fewer files may be open
        if len(self.connections) > limit * EVICTION_CONNECTIONS // MAX_CONNECTIONS:
            for one in self.quiet:
                one.transport.abort()
                del self.quiet[one]
                break
        self.quiet[self] = None
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Take what came, and stop the clock when a request is whole."""
        super().data_received(data)
        if self.conn.their_state in _COMING:
            self._await_request()
        elif len(data) > MAX_AHEAD_BYTES and len(self.conn.trailing_data[0]) > MAX_AHEAD_BYTES:
            self.transport.abort()
        else:
            self._arriving = _stopped(self._arriving)
            self.quiet.pop(self, None)

    def on_response_complete(self) -> None:
        """The connection is idle again; called by the server."""
        super().on_response_complete()
        self.quiet[self] = None

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._stalled = self._stalled or self.loop.call_later(WRITE_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._stalled = _stopped(self._stalled)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._arriving, self._stalled = _stopped(self._arriving), _stopped(self._stalled)
        self.quiet.pop(self, None)
        super().connection_lost(exc)

    def _await_request(self) -> None:
        if self._arriving is None:
            self._arriving = self.loop.call_later(REQUEST_TIMEOUT_S, self.transport.abort)


def _stopped(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None
