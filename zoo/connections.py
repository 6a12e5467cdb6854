"""Connections of urllib3 that keep to a deadline, directly or over the proxy that the environment names.

The time-out of a socket begins anew with every byte that arrives: one byte now and then, in headers or in a
body, would keep a request alive for ever. The time-out of the sockets here is for all that is received until
the next one is set.
"""

from __future__ import annotations

import math
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from zoo.errors import ZooError

POLL_INTERVAL_S = 0.1  # how often what waits asks whether it is still wanted
Over = Callable[[], str]  # why nothing is waited for any more; empty: go on
T = TypeVar("T")


class PatientSocket(socket.socket):
    """A socket with one time-out for all that it receives until the next one is set."""

    over: Over | None = None
    _until = math.inf

    def settimeout(self, value: float | None) -> None:
        """As that of a socket; for receiving, see :meth:`allow`."""
        super().settimeout(value)
        self.allow(math.inf if value is None else value)

    def allow(self, seconds: float) -> None:
        """Let all that is received from now on take so long at most."""
        self._until = time.monotonic() + seconds

    def recv(self, *arguments: Any) -> bytes:
        """As that of a socket."""
        return self._patiently(super().recv, arguments)

    def recv_into(self, *arguments: Any) -> int:
        """As that of a socket."""
        return self._patiently(super().recv_into, arguments)

    def _patiently(self, receive: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        while True:
            left = self._until - time.monotonic()
            if left <= 0 or (self.over is not None and self.over()):
                raise TimeoutError("timed out")
            wait_s = min(left, POLL_INTERVAL_S)
            if self.gettimeout() != wait_s:
                super().settimeout(wait_s)
            try:
                return receive(*arguments)
            except TimeoutError:
                continue


class PatientTlsSocket(PatientSocket, ssl.SSLSocket):
    """The same with TLS. Its handshake has one time-out in any case."""


def connections(url: str, over: Over, *, kept: int, timeout_s: float, proxied: bool) -> urllib3.PoolManager:
    """Connections to the server of `url`, `kept` of them open.

    Parameters
    ----------
    over
        Asked while something is waited for.
    proxied
        Whether to go over the proxy that the environment names for this server (``http_proxy``,
        ``https_proxy``, ``all_proxy``, ``no_proxy``), or on some systems its settings.

    Raises
    ------
    ZooError
        When the proxy is none of HTTP, or its address is none.
    """
    options: dict[str, Any] = {
        "num_pools": 1,
        "maxsize": kept,
        "timeout": urllib3.Timeout(connect=timeout_s, read=timeout_s),
        "retries": False,
    }
    proxy = proxy_for(url) if proxied else None
    if urlsplit(url).scheme == "https":
        options["ssl_context"] = _context()
    if proxy is None:
        manager = urllib3.PoolManager(**options)
    else:
        try:
            parts = urllib3.util.parse_url(proxy)
            headers = urllib3.make_headers(proxy_basic_auth=unquote(parts.auth)) if parts.auth else {}
        except ValueError as error:
            raise _strange(proxy) from error
        context = _context() if parts.scheme == "https" else None
        manager = urllib3.ProxyManager(proxy, proxy_headers=headers, proxy_ssl_context=context, **options)
    manager.pool_classes_by_scheme = {
        "http": _patient(HTTPConnectionPool, over),
        "https": _patient(HTTPSConnectionPool, over),
    }
    return manager


def proxy_for(url: str) -> str | None:
    """Address of the proxy for the server of `url`; None: there is none. Raises :class:`ZooError`."""
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not proxy.lower().startswith(("http://", "https://")):
        raise _strange(proxy)
    return proxy


def _strange(proxy: str) -> ZooError:
    return ZooError(
        f"expected a proxy of HTTP in the environment, got {proxy.split('@')[-1][:100]!r}. "
        "Change http_proxy, https_proxy or all_proxy, or name the publisher's host in no_proxy."
    )


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.sslsocket_class = PatientTlsSocket
    return context


def _patient(pool: type[HTTPConnectionPool], over: Over) -> type[HTTPConnectionPool]:
    """The kind of pool, of connections with patient sockets; `line` is the latest socket of one."""
    plain: Any = pool.ConnectionCls

    class Connection(plain):  # type: ignore[misc]
        def _new_conn(self) -> socket.socket:
            made: socket.socket = super()._new_conn()
            timeout_s = made.gettimeout()
            line = PatientSocket(fileno=made.detach())
            line.over = over
            line.settimeout(timeout_s)
            return line

        def connect(self) -> None:
            super().connect()
            self.line = self.sock
            while not isinstance(self.line, PatientSocket):
                self.line = self.line.socket  # TLS within the TLS of a proxy
            self.line.over = over

    class Pool(pool):  # type: ignore[valid-type,misc]
        ConnectionCls = Connection

    return Pool
