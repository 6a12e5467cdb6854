"""A router for applications in any language: start, tell and health, as JSON over HTTP."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from selector.routing.router import Router
from selector.routing.step import Step
from zoo.errors import ZooError

MAX_BODY_BYTES = 2**20
BODY_TIMEOUT_S = 10.0
MAX_OPEN = 10_000  # inputs under way
FORGET_AFTER_S = 600.0

_Number = float | None


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /v1/start``: an input, and what is asked of its answer."""

    features: dict[str, _Number] | list[_Number] | None = None
    precision: float | None = None
    max_drop: float | None = None
    mean_cost: float | None = None
    quantile_cost: float | None = None


class Tell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /v1/tell``: what the model of the last reply said, or that it failed."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]
    turn: int  # of the reply that named the model
    score: float | None = None
    logits: list[float] | None = None
    cost: float | None = None
    failed: bool = False


@dataclass
class _Open:
    step: Step
    turn: int
    since: float


class RouteServer:
    """Keeps the steps of inputs under way.

    Parameters
    ----------
    token
        That requests have to bring, apart from those for health; None: none.
    most_open
        Inputs under way; further ones are refused until some have ended or are forgotten.
    forget_after_s
        An input that nothing is told about for so long is forgotten.
    """

    def __init__(
        self,
        router: Router,
        *,
        token: str | None = None,
        most_open: int = MAX_OPEN,
        forget_after_s: float = FORGET_AFTER_S,
    ) -> None:
        self.router = router
        self._token = token
        self._most_open = most_open
        self._forget_after_s = forget_after_s
        self._open: OrderedDict[str, _Open] = OrderedDict()  # oldest first
        self._forgotten = 0

    async def start(self, request: Request) -> Response:
        """``POST /v1/start``."""
        asked = await self._read(request, Start)
        self._forget()
        if len(self._open) >= self._most_open and not self._drop_ended():
            raise _Refusal(503, f"expected fewer than {self._most_open:,} inputs under way, got as many.")
        step = self.router.start(
            asked.features,
            asked.precision,
            max_drop=asked.max_drop,
            mean_cost=asked.mean_cost,
            quantile_cost=asked.quantile_cost,
        )
        name = secrets.token_urlsafe(16)
        self._open[name] = _Open(step, 0, time.monotonic())
        return _reply(200, _shown(name, self._open[name]))

    async def tell(self, request: Request) -> Response:
        """``POST /v1/tell``: sent again with the same turn, it gives the same reply."""
        told = await self._read(request, Tell)
        self._forget()
        found = self._open.get(told.id)
        if found is None:
            raise _Refusal(
                404,
                f"expected the id of an input under way, got {told.id!r:.80}: none is known. Start again.",
            )
        if told.turn == found.turn:
            if told.failed:
                step = found.step.failed()
            else:
                step = found.step.tell(score=told.score, logits=told.logits, cost=told.cost)
            found.step, found.turn, found.since = step, found.turn + 1, time.monotonic()
            self._open.move_to_end(told.id)
        elif told.turn != found.turn - 1:
            raise _Refusal(
                409, f"expected turn {found.turn}, got {told.turn}. Tell what the last reply asked for."
            )
        return _reply(200, _shown(told.id, found))

    async def health(self, _: Request) -> Response:
        """``GET /v1/health``: what is served, and whether inputs have changed."""
        self._forget()
        drift = self.router.drift
        return _reply(
            200,
            {
                "ready": True,
                "models": list(self.router.models),
                "unit": self.router.record.unit,
                "open": sum(one.step.run is not None for one in self._open.values()),
                "forgotten": self._forgotten,
                "inputs_have_changed": None if drift is None else drift.alarm,
            },
        )

    def _forget(self) -> None:
        """Drop what nothing was told about for too long."""
        limit = time.monotonic() - self._forget_after_s
        while self._open and next(iter(self._open.values())).since < limit:
            _, dropped = self._open.popitem(last=False)
            self._forgotten += dropped.step.run is not None

    def _drop_ended(self) -> bool:
        """Make room of the oldest input that has ended."""
        ended = next((name for name, one in self._open.items() if one.step.run is None), None)
        if ended is not None:
            del self._open[ended]
        return ended is not None

    async def _read(self, request: Request, kind: type[Any]) -> Any:
        self._check_token(request)
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        raise _Refusal(413, f"expected at most {MAX_BODY_BYTES:,} bytes, got more.")
        except TimeoutError:
            raise _Refusal(408, f"expected the request within {BODY_TIMEOUT_S:g} s, got a part.") from None
        try:
            return msgspec.json.decode(bytes(body), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            text = f"expected JSON of a {kind.__name__.lower()} request, got: {str(error)[:200]}."
            raise _Refusal(400, text) from error

    def _check_token(self, request: Request) -> None:
        if self._token is None:
            return
        scheme, _, presented = request.headers.get("authorization", "").partition(" ")
        given = presented.strip().encode("utf-8", "replace")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, self._token.encode()):
            raise _Refusal(
                401, "expected the header 'Authorization: Bearer TOKEN', got none or another token."
            )


class _Refusal(Exception):
    """Ends a request with a status and a text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def make_route_app(server: RouteServer) -> Starlette:
    """The web application.

    Examples
    --------
    >>> from selector.fleet.server import serving
    >>> from selector.serving.routes import RouteServer, make_route_app
    >>> with serving(make_route_app(RouteServer(router))) as url:
    ...     url.startswith("http://127.0.0.1:")
    True
    """
    routes = [
        Route("/v1/start", server.start, methods=["POST"]),
        Route("/v1/tell", server.tell, methods=["POST"]),
        Route("/v1/health", server.health, methods=["GET"]),
    ]
    handlers: dict[Any, Any] = {
        _Refusal: _refused,
        ZooError: _wrong,
        HTTPException: _no_such_path,
        ClientDisconnect: _gone,
    }
    return Starlette(routes=routes, exception_handlers=handlers)


def _shown(name: str, one: _Open) -> dict[str, Any]:
    step = one.step
    return {
        "id": name,
        "turn": one.turn,
        "run": step.run,
        "model": step.model,
        "path": list(step.path),
        "probability": step.probability,
        "certified": step.certified,
        "reason": step.reason,
        "cost": step.cost,
    }


def _reply(status: int, content: dict[str, Any]) -> Response:
    headers = {"content-type": "application/json", "x-content-type-options": "nosniff"}
    return Response(msgspec.json.encode(content), status_code=status, headers=headers)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, _Refusal)
    return _reply(error.status, {"error": str(error)})


async def _wrong(_: Request, error: Exception) -> Response:
    return _reply(400, {"error": str(error)})


async def _no_such_path(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"expected POST /v1/start, POST /v1/tell or GET /v1/health, got: {error.detail}."
    return _reply(error.status_code, {"error": text})


async def _gone(_: Request, __: Exception) -> Response:
    return _reply(400, {"error": "expected a whole request, got a closed connection."})
