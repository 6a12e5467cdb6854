"""The Open Inference Protocol v2 over HTTP: metadata, health and inference of what is served."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import importlib.metadata
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from selector.serving.batcher import Batcher, BusyError, LateError
from selector.serving.counts import Counts
from selector.serving.questions import WRONG, Limits, Question, answer_of, metadata_of, question_of
from selector.serving.served import Served
from zoo.errors import ZooError
from zoo.remote import protocol

log = logging.getLogger("zooselect.serving")

RETRY_AFTER_S = 1
HUNG_UP = 499  # in the log: the client went before its request was whole
TELL_EVERY_S = 60.0
LARGE_BYTES = 2**16  # a body from here on is decoded in a thread, so that others are not held up


class Refusal(Exception):
    """Ends a request with a status and a text."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.headers = status, headers


class Server:
    """Answers requests of the protocol with what is served.

    Parameters
    ----------
    served
        By name.
    token
        That requests have to bring, apart from those for health; None: none.
    runs
        Inferences at once.
    """

    def __init__(
        self,
        served: Mapping[str, Served],
        *,
        token: str | None = None,
        limits: Limits | None = None,
        runs: int = 1,
    ) -> None:
        self.served = dict(served)
        self.limits = limits or Limits()
        self.batcher = Batcher(self.limits.batch, runs=runs)
        self.counts = Counts()
        self._token = token
        self._held_bytes = 0

    async def live(self, _: Request) -> Response:
        """``GET /v2/health/live``."""
        return _reply(200, b'{"live": true}')

    async def ready(self, _: Request) -> Response:
        """``GET /v2/health/ready``: all that is served was opened before the server listened."""
        return _reply(200, b'{"ready": true}')

    async def server_metadata(self, request: Request) -> Response:
        """``GET /v2``."""
        self._check_token(request)
        about = protocol.ServerMetadata(
            name="zooselect",
            version=importlib.metadata.version("zooselect"),
            extensions=(protocol.BINARY_EXTENSION,),
        )
        return _reply(200, protocol.encode_metadata(about))

    async def model_metadata(self, request: Request) -> Response:
        """``GET /v2/models/NAME[/versions/VERSION]``."""
        self._check_token(request)
        return _reply(200, protocol.encode_metadata(metadata_of(self._find(request))))

    async def model_ready(self, request: Request) -> Response:
        """``GET /v2/models/NAME[/versions/VERSION]/ready``."""
        self._check_token(request)
        return _reply(200, msgspec.json.encode({"name": self._find(request).name, "ready": True}))

    async def infer(self, request: Request) -> Response:
        """``POST /v2/models/NAME[/versions/VERSION]/infer``."""
        start, images, status = time.monotonic(), 0, 500
        try:
            self._check_token(request)
            served = self._find(request)
            with contextlib.ExitStack() as held:
                with self.batcher.arriving():
                    body = await self._body(request, held)
                    question = await self._question(request, served, body)
                images = len(question.images)
                answer = await self._answer(served, question)
            status = 200
            return answer
        except ClientDisconnect:
            status = HUNG_UP
            raise
        except (Refusal, ZooError) as error:
            refusal = _refusal(error)
            status = refusal.status
            raise refusal from error
        finally:
            self.counts.note(status, images, time.monotonic() - start)

    async def tell(self) -> None:
        """Write what was served into the log, again and again."""
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            if self.counts.statuses:
                log.info("served %s", self.counts.take())

    def _check_token(self, request: Request) -> None:
        if self._token is None:
            return
        scheme, _, presented = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(
            presented.strip().encode("utf-8", "replace"), self._token.encode()
        ):
            raise Refusal(
                401,
                "expected the header 'Authorization: Bearer TOKEN' with the token of this server, got none "
                "or another one.",
                {"www-authenticate": "Bearer"},
            )

    def _find(self, request: Request) -> Served:
        name, version = request.path_params["name"], request.path_params.get("version")
        served = self.served.get(name)
        if served is None:
            known = ", ".join(list(self.served)[:20])
            raise Refusal(404, f"expected a model among {known}, got {name[:100]!r}.")
        if version not in (None, served.version):
            raise Refusal(404, f"expected version {served.version} of {name!r}, got {version[:100]!r}.")
        return served

    async def _body(self, request: Request, held: contextlib.ExitStack) -> bytes:
        """The whole body; its bytes count until the request is answered."""
        if coding := request.headers.get("content-encoding"):
            raise Refusal(415, f"expected no content encoding, got {coding[:50]!r}. Send it as it is.")
        stated = request.headers.get("content-length", "")
        most = self.limits.body_bytes
        if stated.isdecimal() and int(stated) > most:
            raise _too_large(most)
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_timeout_s):
                async for chunk in request.stream():
                    if len(body) + len(chunk) > most:
                        raise _too_large(most)
                    self._hold(len(chunk), held)
                    body += chunk
        except TimeoutError:
            raise Refusal(
                408,
                f"expected the request within {self.limits.body_timeout_s:g} s, got {len(body)} bytes of it.",
                {"connection": "close"},
            ) from None
        return bytes(body)

    def _hold(self, size: int, held: contextlib.ExitStack) -> None:
        if self._held_bytes + size > self.limits.bodies_bytes:
            raise _busy("expected room for the request, got none: too many others are being read.")
        self._held_bytes += size
        held.callback(self._release, size)

    def _release(self, size: int) -> None:
        self._held_bytes -= size

    async def _question(self, request: Request, served: Served, body: bytes) -> Question:
        length = request.headers.get(protocol.HEADER_LENGTH)
        limits = self.limits
        if len(body) < LARGE_BYTES:
            return question_of(body, length, served, limits)
        return await asyncio.to_thread(question_of, body, length, served, limits)

    async def _answer(self, served: Served, question: Question) -> Response:
        deadline = self.limits.deadline_s
        if question.timeout_s is not None:
            deadline = min(deadline, question.timeout_s)
        until = asyncio.get_running_loop().time() + deadline
        rows = await self.batcher.ask(served, question.asked, question.images, until=until)
        return _message(answer_of(served, question.request, rows))


def make_app(server: Server) -> Starlette:
    """The web application.

    Examples
    --------
    >>> from selector.fleet.server import serving
    >>> from selector.serving.app import Server, make_app
    >>> from selector.serving.served import open_served
    >>> with serving(make_app(Server(open_served("my-zoo")))) as url:
    ...     url.startswith("http://127.0.0.1:")
    True
    """

    @contextlib.asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        task = asyncio.ensure_future(server.tell())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await server.batcher.finish()

    routes = [
        Route("/v2", server.server_metadata, methods=["GET"]),
        Route("/v2/health/live", server.live, methods=["GET"]),
        Route("/v2/health/ready", server.ready, methods=["GET"]),
    ]
    for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        routes += [
            Route(model, server.model_metadata, methods=["GET"]),
            Route(f"{model}/ready", server.model_ready, methods=["GET"]),
            Route(f"{model}/infer", server.infer, methods=["POST"]),
        ]
    handlers: dict[Any, Any] = {
        Refusal: _refused,
        HTTPException: _no_such_path,
        ClientDisconnect: _gone,
        Exception: _failed,
    }
    return Starlette(routes=routes, lifespan=running, exception_handlers=handlers)


def _reply(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    kept = {"content-type": protocol.JSON_TYPE, "x-content-type-options": "nosniff"}
    return Response(body, status_code=status, headers=kept | dict(headers or {}))


def _message(message: protocol.Message) -> Response:
    return Response(message.body, headers=message.headers)


def _too_large(most: int) -> Refusal:
    return Refusal(413, f"expected a request of at most {most:,} bytes, got more.", {"connection": "close"})


def _refusal(error: Refusal | ZooError) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, BusyError):
        return _busy(str(error))
    if isinstance(error, LateError):
        return Refusal(504, str(error))
    if isinstance(error, WRONG):
        return Refusal(400, str(error))
    log.warning("%s: %s", type(error).__name__, error)
    return Refusal(500, str(error))


def _busy(text: str) -> Refusal:
    return Refusal(503, text, {"retry-after": str(RETRY_AFTER_S)})


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _reply(error.status, protocol.encode_error(str(error)), error.headers)


async def _no_such_path(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"expected a path and a method of the Open Inference Protocol, such as /v2, got: {error.detail}."
    return _reply(error.status_code, protocol.encode_error(text), error.headers)


async def _gone(_: Request, __: Exception) -> Response:
    return _reply(400, protocol.encode_error("expected a whole request, got a closed connection."))


async def _failed(_: Request, __: Exception) -> Response:
    return _reply(500, protocol.encode_error("the server failed on this request; its log says why."))
