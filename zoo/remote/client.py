"""The client of a server of the Open Inference Protocol: no call takes longer than its deadline."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlsplit

from zoo.errors import (
    CircuitOpenError,
    DeadlineError,
    MissingExtraError,
    ProtocolError,
    TokenError,
    UnreachableError,
    ZooError,
)
from zoo.extras import install_command
from zoo.remote.breaker import Breaker
from zoo.remote.descriptor import Remote, checked, is_loopback
from zoo.remote.protocol import (
    HEADER_LENGTH,
    JSON_TYPE,
    InferRequest,
    InferResponse,
    MessageLimits,
    ModelMetadata,
    ServerMetadata,
    decode_error,
    decode_infer_response,
    decode_metadata,
    encode_infer_request,
)
from zoo.remote.token import Token
from zoo.remote.traffic import Reply, Traffic
from zoo.remote.workers import Workers

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

METADATA_BYTES = 4 * 1024 * 1024
ERROR_BYTES = 65536
KEPT = 4  # connections
HEADERS: Mapping[str, str] = {"Accept-Encoding": "identity", "User-Agent": "zooselect"}
AGAIN = frozenset({502, 503, 504})  # a server that restarts, or a proxy that waits for it
_CHUNK = 65536
T = TypeVar("T")


class Client:
    """Asks one server. Safe to use from several threads; connections are opened when needed, and kept.

    A proxy that the environment names is used, as for a publisher. Redirections are not followed.

    Parameters
    ----------
    address
        Root of the server, ``http`` or ``https``.
    token
        Sent as ``Authorization: Bearer``; never over plain HTTP to another machine.
    breaker
        Which ends requests for a while after failures; None: one of its own.

    Attributes
    ----------
    traffic
        What was sent and received so far.

    Raises
    ------
    ZooError
        When the address is of another kind.
    TokenError
        When a token would go over plain HTTP to another machine.
    MissingExtraError
        When ``urllib3`` is not installed.
    """

    def __init__(self, address: str, *, token: Token | None = None, breaker: Breaker | None = None) -> None:
        self.address = checked(address)
        try:
            import urllib3  # noqa: F401
        except ImportError as error:
            raise MissingExtraError(f"asking a server needs urllib3: {install_command('fetch')}") from error
        self._headers = dict(HEADERS)
        if token is not None:
            check_secret(self.address)
            self._headers["Authorization"] = f"Bearer {token.text}"
        self.breaker = breaker or Breaker()
        self.traffic = Traffic()
        self._workers = Workers()
        self._pool: PoolManager | None = None
        self._process = 0  # whose connections these are; a copy of it opens its own

    @classmethod
    def of(cls, remote: Remote) -> Client:
        """The client for a remote model, with its token."""
        return cls(remote.address, token=Token.read(remote.token_env, remote.token_file))

    def server(self, *, deadline_s: float) -> ServerMetadata:
        """What the server says about itself; raises as :meth:`infer`."""
        return decode_metadata(self._get("/v2", deadline_s), ServerMetadata)

    def ready(self, *, deadline_s: float) -> None:
        """Return when the server is ready; raises as :meth:`infer`."""
        self._get("/v2/health/ready", deadline_s)

    def model(self, name: str, version: str = "", *, deadline_s: float) -> ModelMetadata:
        """What the server says about a model; raises as :meth:`infer`."""
        return decode_metadata(self._get(model_path(name, version), deadline_s), ModelMetadata)

    def refused(self, name: str, body: bytes, *, deadline_s: float) -> None:
        """Send a body that is no request and that the server reads and refuses, to learn how long that takes.

        Raises
        ------
        UnreachableError
            When it is not refused as a body is.
        """
        deadline = time.monotonic() + deadline_s
        url = self.address + model_path(name) + "/infer"
        headers = {"Content-Type": JSON_TYPE}
        reply = self._workers.run(
            lambda: self._once("POST", url, body, headers, deadline, ERROR_BYTES), deadline=deadline
        )
        if reply.status in (401, 403, 404, 413, 429) or reply.status < 400:
            raise UnreachableError(
                f"expected {url} to read and refuse a body that is no request, got status {reply.status}. "
                "The rate to this server cannot be measured."
            )

    def speaks_v1(self, *, deadline_s: float) -> bool:
        """Whether the server answers to the version before, which has no binary tensors."""
        with suppress(UnreachableError):
            return b'"models"' in self._get("/v1/models", deadline_s)
        return False

    def infer(
        self,
        name: str,
        request: InferRequest,
        *,
        version: str = "",
        deadline: float,
        limits: MessageLimits,
        binary: bool = True,
    ) -> tuple[InferResponse, Reply]:
        """Ask a model once, and once more where a connection breaks and there is time.

        Parameters
        ----------
        deadline
            Of the monotonic clock, for all of it.
        limits
            What an answer may take.

        Raises
        ------
        DeadlineError
            When there is no whole answer by then.
        CircuitOpenError
            When the server failed several times and is not asked for a while.
        TokenError
            When the server does not accept the token, or wants one.
        ProtocolError
            When it answers with something else.
        UnreachableError
            When it cannot be reached, or refuses.
        """
        message = encode_infer_request(request, binary=binary)
        path = f"{model_path(name, version)}/infer"

        def ask() -> tuple[InferResponse, Reply]:
            reply = self._exchange("POST", path, message.body, message.headers, deadline, limits.body_bytes)
            return decode_infer_response(reply.body, _field(reply, HEADER_LENGTH), limits=limits), reply

        return self._guarded(ask, deadline)

    def close(self) -> None:
        """Close the connections; they are opened again when needed."""
        self._workers.close()
        if self._pool is not None:
            self._pool.clear()

    def _get(self, path: str, deadline_s: float) -> bytes:
        deadline = time.monotonic() + deadline_s
        return self._guarded(
            lambda: self._exchange("GET", path, None, {}, deadline, METADATA_BYTES), deadline
        ).body

    def _guarded(self, call: Callable[[], T], deadline: float) -> T:
        """What `call` returns, within the deadline and past the breaker."""
        if time.monotonic() >= deadline:  # which says nothing about the server
            raise DeadlineError(f"{self.address}: expected a deadline to come, got one that has passed.")
        if not self.breaker.allows():
            raise CircuitOpenError(
                f"{self.address} failed several times; it is asked again in {self.breaker.left_s:.1f} "
                "seconds. Check that it runs."
            )
        self.traffic.add(requests=1)
        try:
            found = self._workers.run(call, deadline=deadline)
        except BaseException as error:
            self.traffic.add(failures=1)
            self.breaker.failed()
            if isinstance(error, DeadlineError):
                raise DeadlineError(
                    f"{self.address}: {error} Give it more time, or check that it runs."
                ) from error
            raise
        self.breaker.worked()
        return found

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        deadline: float,
        most_bytes: int,
    ) -> Reply:
        """One request and its answer, tried twice at most."""
        from http.client import HTTPException

        from urllib3.exceptions import HTTPError

        url = self.address + path
        last: Exception | None = None
        for again in (True, False):
            if time.monotonic() >= deadline:
                break
            try:
                reply = self._once(method, url, body, headers, deadline, most_bytes)
            except (HTTPError, HTTPException, OSError, ValueError) as error:
                if isinstance(error, ZooError):
                    raise
                last = error
                continue
            if reply.status not in AGAIN or not again:
                return self._accepted(reply, url)
        if last is None or time.monotonic() >= deadline:
            raise DeadlineError("expected an answer in time, got none.")
        raise UnreachableError(
            f"expected an answer from {url}, got: {_words(last)}. "
            "Check the address, and that the server runs."
        ) from last

    def _once(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
        deadline: float,
        most_bytes: int,
    ) -> Reply:
        from urllib3 import Timeout

        left_s = deadline - time.monotonic()
        sent = {**self._headers, **headers}
        response = self._connected().urlopen(
            method,
            url,
            body=body,
            headers=sent,
            redirect=False,
            preload_content=False,
            decode_content=False,
            timeout=Timeout(total=max(left_s, 0.001)),
        )
        try:
            ok = response.status == 200
            content = _read(response, most_bytes if ok else ERROR_BYTES, url, whole=ok)
        except BaseException:
            response.close()
            raise
        finally:
            response.release_conn()
        up = request_bytes(method, url, body or b"", sent)
        down = len(content) + 20 + _size(response.headers)
        self.traffic.add(up=up, down=down)
        return Reply(response.status, response.headers, content, up, down)

    def _accepted(self, reply: Reply, url: str) -> Reply:
        if reply.status == 200:
            if _field(reply, "Content-Encoding") not in (None, "identity"):
                raise ProtocolError(
                    f"{url}: expected an answer that is not compressed, got one that is. Turn it off there."
                )
            return reply
        said = decode_error(reply.body)
        words = f"status {reply.status}" + (f": {said}" if said else "")
        if reply.status in (401, 403):
            raise TokenError(
                f"expected {url} to accept the token, got {words}. Give the right one with --token-env NAME."
            )
        if 300 <= reply.status < 400:
            words += f" to {(_field(reply, 'Location') or 'nowhere')[:200]}"
        raise UnreachableError(
            f"expected an answer from {url}, got {words}. "
            "Check the address and the model's name, and that the server speaks version 2 of the protocol."
        )

    def _connected(self) -> PoolManager:
        if (
            self._pool is None or self._process != os.getpid()
        ):  # with a certificate store of some megabytes, so not before it is needed
            from zoo.connections import connections

            self._process = os.getpid()
            self._pool = connections(self.address, lambda: "", kept=KEPT, timeout_s=10.0, proxied=True)
        return self._pool


def check_secret(address: str) -> None:
    """Raise :class:`TokenError` where a token for this server could be read on its way.

    Examples
    --------
    >>> from zoo.remote.client import check_secret
    >>> check_secret("https://models.example.org")
    """
    from zoo.connections import proxy_for

    if urlsplit(address).scheme == "http" and (not is_loopback(address) or proxy_for(address)):
        raise TokenError(
            f"expected https for a token, got {address}: everyone on the way could read it. "
            "Ask the server over https, or leave the token out."
        )


def model_path(name: str, version: str = "") -> str:
    """Where a model is asked on a server.

    Examples
    --------
    >>> from zoo.remote.client import model_path
    >>> model_path("resnet56", "3")
    '/v2/models/resnet56/versions/3'
    """
    return f"/v2/models/{quote(name, safe='')}" + (f"/versions/{quote(version, safe='')}" if version else "")


def request_bytes(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Bytes of a request with its headers; those that the connection adds are taken to be of 40 bytes."""
    return len(body) + len(method) + len(url) + 40 + _size(headers)


def bounded(limits: MessageLimits, values: int, itemsize: int) -> MessageLimits:
    """Limits for an answer of so many values, in binary or JSON."""
    header = 65536 + 32 * values
    return replace(limits, header_bytes=header, body_bytes=header + itemsize * values)


def _read(response: BaseHTTPResponse, most_bytes: int, url: str, *, whole: bool) -> bytes:
    pieces, there = [], 0
    while chunk := response.read1(_CHUNK):
        there += len(chunk)
        if there > most_bytes:
            if not whole:
                break
            raise ProtocolError(
                f"{url}: expected an answer of at most {most_bytes:,} bytes, got more. Check the address."
            )
        pieces.append(chunk)
    else:
        return b"".join(pieces)
    with suppress(OSError):
        response.close()
    return b"".join(pieces)


def _field(reply: Reply, name: str) -> str | None:
    return reply.headers.get(name)


def _size(headers: Mapping[str, str]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers.items())


def _words(error: BaseException) -> str:
    text = str(error).split(">: ", 1)[-1]
    return text.split("): ", 1)[-1][:200] if text else type(error).__name__
