"""The wire: the one way on which a device asks anything of a publisher or of a service.

It owns what holds for each request: the proxy, no redirection to another host, a deadline for the headers,
a least rate for the body, nothing encoded. Whatever goes wrong is a :class:`Broken`, which whoever asked says
in an error of ours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from zoo.errors import MissingExtraError, ZooError
from zoo.extras import install_command

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

CHUNK_BYTES = 256 * 1024
MAX_REDIRECTS = 3
MAX_DISMISSED_BYTES = 65536  # of a body that nobody wants, so that its connection can be used again
TIMEOUT_S = 10.0
LEAST_BYTES_PER_S = 1000.0
LATER_ADVICE = "What is installed goes on answering; try again later."
REPUBLISH_ADVICE = "Nothing of it was kept. Tell the publisher, or check that this is the right address."
SIGN_IN_ADVICE = "Perhaps the network wants you to sign in first, or this is not the publisher's address."
CERTIFICATE_ADVICE = "Check the address, the clock of this device and its certificates."


class Broken(Exception):
    """A request that failed.

    Attributes
    ----------
    reason, advice
        What arrived, and what to do if no other try helps.
    again
        Whether another try can help.
    ended
        Whether the connection ended before an answer, as one that was kept does at times.
    """

    def __init__(
        self, reason: str, *, advice: str = LATER_ADVICE, again: bool = True, ended: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason, self.advice, self.again, self.ended = reason, advice, again, ended


@dataclass
class Patience:
    """How long some requests may take together, and how slow each of them may be."""

    deadline_s: float | None = None  # for all of them; None: no limit
    cancel: Event | None = None  # ends them when it is set
    least_bytes_per_s: float = LEAST_BYTES_PER_S  # of each body
    why: str = ""  # they have ended; empty: they have not
    begun: float = field(default_factory=time.monotonic)
    _stopped: Event = field(default_factory=Event)

    def stop(self, why: str) -> None:
        """Let all requests end soon."""
        self.why = self.why or why
        self._stopped.set()

    def over(self) -> str:
        """Why nothing is to be waited for any more; empty: go on."""
        if self.cancel is not None and self.cancel.is_set():
            self.stop("it was cancelled, or there was no more time")
        elif self.deadline_s is not None and time.monotonic() >= self.begun + self.deadline_s:
            self.stop(f"not all after {self.deadline_s:g} seconds")
        return self.why

    def pause(self, seconds: float) -> None:
        """Wait before another try, but no longer than there is patience."""
        end = time.monotonic() + seconds
        while not self.over() and (left := end - time.monotonic()) > 0:
            self._stopped.wait(min(left, 0.1))


class Wire:
    """Requests to one server, over connections that are kept open; from several threads if need be.

    A proxy that the environment names (``http_proxy``, ``https_proxy``, ``all_proxy``, ``no_proxy``) is used.

    Parameters
    ----------
    url
        Root of what is asked for, ``http`` or ``https``.
    timeout_s
        Longest wait for a connection, then for all headers, then for the next bytes. In each time of this
        length a body has to bring the least that the patience in force allows.
    kept
        Connections that are kept open at most.
    headers
        Sent with every request, never to another host.
    proxied
        Whether a proxy may be used at all.

    Attributes
    ----------
    patience
        What holds for the requests under way; whoever begins some sets it.
    requests, bytes_on_wire
        So far; of bytes those of bodies.

    Raises
    ------
    MissingExtraError
        When ``urllib3`` is not installed.
    ZooError
        When the address is none, the time-out no time, or the proxy none of HTTP.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        kept: int = 1,
        headers: Mapping[str, str] | None = None,
        proxied: bool = True,
    ) -> None:
        try:
            import urllib3
        except ImportError as error:
            raise MissingExtraError(f"asking a server needs urllib3: {install_command('fetch')}") from error
        from zoo.connections import connections

        if not timeout_s > 0:
            raise ZooError(f"expected a time-out of more than 0 seconds, got {timeout_s!r}.")
        try:
            parts = urllib3.util.parse_url(url)
        except urllib3.exceptions.LocationParseError as error:
            raise ZooError(f"expected the address of a publisher, got {url!r}: {error}.") from error
        known = parts.scheme in ("http", "https") and parts.host
        if not known or parts.query or parts.fragment or parts.auth:
            raise ZooError(f"expected an address such as https://models.example.org/zoo, got {url!r}.")
        self.url = parts.url.rstrip("/")
        self.timeout_s = timeout_s
        self.headers = dict(headers or {})
        self.patience = Patience()
        self.requests = self.bytes_on_wire = 0
        self._origin = _origin(url)
        self._counting = threading.Lock()
        self._pool = connections(
            url, lambda: self.patience.over(), kept=kept, timeout_s=timeout_s, proxied=proxied
        )

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask for what is at `url`, over a few redirections on the same host. Raises :class:`Broken`."""
        for _ in range(MAX_REDIRECTS + 1):
            answer = self.ask("GET", url, headers=headers)
            target = answer.redirection
            if target is None:
                return answer
            with answer, suppress(ValueError):  # what is no address stays as it is, and is no host of ours
                target = urljoin(url, target)
            url = target
        raise Broken("too many redirects")

    def ask(
        self, method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request and return the answer when its headers are there. Raises :class:`Broken`."""
        why = self.patience.over()
        if why:
            raise Broken(why, again=False)
        if _origin(url) != self._origin:
            raise Broken("a redirection to another host", advice=SIGN_IN_ADVICE, again=False)
        with self._counting:
            self.requests += 1
        try:
            response = self._pool.urlopen(
                method,
                url,
                redirect=False,
                body=body,
                headers={**self.headers, **(headers or {}), "Accept-Encoding": "identity"},
                preload_content=False,
                decode_content=False,
            )
        except _failures() as error:
            raise self.broken(error) from error
        return Answer(self, response)

    def broken(self, error: Exception) -> Broken:
        """What the network said, as an error of this file."""
        from urllib3.exceptions import ProtocolError, ProxyError, SSLError

        why = self.patience.over()
        if why:
            return Broken(why, again=False)
        cause = error.original_error if isinstance(error, ProxyError) else error
        if isinstance(cause, SSLError):
            return Broken(_words(cause), advice=CERTIFICATE_ADVICE, again=False)
        words = f"the proxy: {_words(cause)}" if cause is not error else _words(error)
        return Broken(words, ended=isinstance(cause, ProtocolError))

    def count(self, size: int) -> None:
        """Note that a piece of a body came."""
        with self._counting:
            self.bytes_on_wire += size

    def close(self) -> None:
        """Close the connections that are not in use; they are opened again when needed."""
        self._pool.clear()


class Answer:
    """An answer whose headers are there; for a ``with``, at the end of which its connection is given back.

    Attributes
    ----------
    status, reason, headers
        As they came.
    """

    def __init__(self, wire: Wire, response: BaseHTTPResponse) -> None:
        self.status, self.reason, self.headers = response.status, response.reason or "", response.headers
        self._wire, self._response = wire, response
        self._line = response.connection.line  # type: ignore[union-attr]  # of our kind
        self._state = "new"

    @property
    def redirection(self) -> str | None:
        """Where to ask instead, as the server says it."""
        return self._response.get_redirect_location() or None

    @property
    def kind(self) -> str:
        """Content type, bounded."""
        return str(self.headers.get("Content-Type", "")).split(";")[0].strip().lower()[:100]

    @property
    def length(self) -> int | None:
        """Bytes of the body, as announced."""
        stated = self.headers.get("Content-Length", "")
        return int(stated) if stated.isascii() and stated.isdecimal() and len(stated) < 20 else None

    def chunks(self, most_bytes: int | None = None) -> Iterator[bytes]:
        """The body, piece by piece, `most_bytes` of it at most. Raises :class:`Broken`."""
        coding = self.headers.get("Content-Encoding", "identity").lower()
        if coding != "identity":
            advice = SIGN_IN_ADVICE if self.kind == "text/html" else REPUBLISH_ADVICE
            raise Broken(f"content encoded with {coding[:20]}", advice=advice, again=False)
        self._state = "reading"
        window_s = self._wire.timeout_s
        since, brought, there = time.monotonic(), 0, 0
        while most_bytes is None or there < most_bytes:
            self._line.allow(window_s)
            try:
                size = CHUNK_BYTES if most_bytes is None else min(CHUNK_BYTES, most_bytes - there)
                chunk = self._response.read1(size)
            except _failures() as error:
                raise self._wire.broken(error) from error
            if not chunk:
                if not there and self.length is None and not self.headers.get("Transfer-Encoding"):
                    raise Broken("an answer that ended within its headers", ended=True)
                self._state = "read"
                return
            there, brought = there + len(chunk), brought + len(chunk)
            self._wire.count(len(chunk))
            yield chunk
            why, now = self._wire.patience.over(), time.monotonic()
            if why:
                raise Broken(why, again=False)
            if now - since >= window_s:
                rate = brought / (now - since)
                if rate < self._wire.patience.least_bytes_per_s:
                    raise Broken(f"only {rate:,.0f} bytes a second")
                since, brought = now, 0

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        if kind is None and self._state == "new" and (self.length or 0) <= MAX_DISMISSED_BYTES:
            self._dismiss()
        if self._state != "read":
            self._response.close()
        self._response.release_conn()

    def _dismiss(self) -> None:
        with suppress(Broken):  # then its connection is closed
            for _ in self.chunks(MAX_DISMISSED_BYTES):
                pass


def _failures() -> tuple[type[Exception], ...]:
    """What comes out of urllib3 when the other side does anything at all; loaded with the first request."""
    from http.client import HTTPException

    from urllib3.exceptions import HTTPError

    return HTTPError, HTTPException, OSError, ValueError


def _origin(url: str) -> tuple[str | None, str | None, int | None]:
    """Scheme, host and port, by which a server is known; of what is no address nothing."""
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    try:
        parts = parse_url(url)
    except LocationParseError:
        return None, None, None
    return parts.scheme, parts.host, parts.port or {"http": 80, "https": 443}.get(parts.scheme or "")


def _words(error: BaseException) -> str:
    """What the network said, without the addresses of objects in it."""
    if len(error.args) == 2 and isinstance(error.args[1], Exception):  # a text, and what it comes from
        text, cause = str(error.args[0]), repr(error.args[1])
        return (text if cause in text else f"{text.rstrip('.')}: {cause}")[:200]
    text = str(error).split(">: ", 1)[-1]
    return text.split("): ", 1)[-1][:200] if text else type(error).__name__
