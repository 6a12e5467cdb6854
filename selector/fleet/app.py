"""The service as a web application: reports in, demand for operators out, and the published files."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from selector.fleet.ledger import Commit, Ledger
from selector.fleet.published_files import PublishedFiles
from selector.fleet.rate_limits import Buckets, Rate
from selector.fleet.replies import refusal, reply, retry_later
from selector.fleet.tally import GroupDemand
from selector.fleet.tokens import Role, Token, Tokens
from selector.telemetry.report import MAX_REPORT_BYTES, Report, decode_report
from zoo.errors import ReportError, ZooError
from zoo.releases.release import Index

Background = Callable[[], Awaitable[None]]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the service lets a client do."""

    body_timeout_s: float = 10.0  # for all of a report to arrive
    device: Rate = Rate(burst=10, per_s=0.1)
    token: Rate = Rate(burst=2000, per_s=500)  # all devices of a group
    strangers: Rate = Rate(burst=100, per_s=1)  # wrong tokens from one address
    lately_s: float = 7 * 86400.0  # how long a report of a device counts


class Service:
    """Takes reports and tells operators what they add up to.

    Parameters
    ----------
    tokens
        Who may do so.
    ledger
        Where reports are kept.
    published
        Reads what is published: of other bundles and models operators are told nothing, but the number of
        names that were left out. None: every name counts.
    """

    def __init__(
        self,
        tokens: Tokens,
        ledger: Ledger,
        limits: Limits | None = None,
        *,
        published: Callable[[], Index] | None = None,
    ) -> None:
        self.tokens = tokens
        self.ledger = ledger
        self.limits = limits or Limits()
        self.commit = Commit(ledger)
        self._published = published
        self._devices = Buckets(self.limits.device)
        self._groups = Buckets(self.limits.token)
        self._strangers = Buckets(self.limits.strangers)

    async def report(self, request: Request) -> Response:
        """``POST /v1/reports``: 202 once the report is on disk."""
        token = self._token(request, "device")
        if isinstance(token, Response):
            return token
        if wait := self._groups.wait_s(token.sha256, time.monotonic()):
            return retry_later(429, wait, expected="fewer reports from this group", got="too many")
        body = await self._body(request)
        if isinstance(body, Response):
            return body
        try:
            report = decode_report(body)
        except ReportError as error:
            return refusal(422, expected="a report", got=str(error), do="Correct the field and send it again")
        if report.group != token.group:
            return refusal(
                403,
                expected=f"a report of the group {token.group}, which the token is for",
                got=report.group,
                do="Use the token of the device's group",
            )
        if wait := self._devices.wait_s(f"{report.group} {report.device}", time.monotonic()):
            return retry_later(429, wait, expected="fewer reports from this device", got="too many")
        return await self._keep(report, token)

    async def group(self, request: Request) -> Response:
        """``GET /v1/groups/{group}``: what devices of a group report together, for an operator."""
        token = self._token(request, "operator")
        if isinstance(token, Response):
            return token
        name = request.path_params["group"]
        tally = self.ledger.tally
        if name not in tally.groups:
            known = ", ".join(tally.groups[:20]) or "none yet"
            return refusal(404, expected=f"a group that has reported: {known}", got=name, do="Check the name")
        try:
            demand = await asyncio.to_thread(self._demand, name)
        except (ZooError, OSError) as error:
            return retry_later(503, 10, expected="a publisher and tokens that can be read", got=str(error))
        return reply(200, msgspec.to_builtins(demand) | {"window": demand.window})

    def _demand(self, group: str) -> GroupDemand:
        return self.ledger.tally.demand(
            group,
            since=time.time() - self.limits.lately_s,
            published=self._published and self._published(),
            tokens=self.tokens.valid(),
        )

    async def _keep(self, report: Report, token: Token) -> Response:
        try:
            # Shielded: what was begun is finished, also for a device that hangs up now.
            verdict = await asyncio.shield(self.commit.accept(report, token.sha256))
        except ZooError as error:
            return retry_later(503, 10, expected="room for the report", got=str(error))
        if verdict == "in use":
            return refusal(
                409,
                expected=f"a number above those that {report.device} has sent, or its last report again",
                got=f"another report with the number {report.sequence}: a second device has this identifier",
                do="Draw another identifier and send the report again",
            )
        return reply(202, {"accepted": True, "new": verdict == "new", "sequence": report.sequence})

    def _token(self, request: Request, role: Role) -> Token | Response:
        scheme, _, presented = request.headers.get("authorization", "").partition(" ")
        address = request.client.host if request.client else ""
        try:
            token = self.tokens.find(presented.strip()) if scheme.lower() == "bearer" else None
        except (ZooError, OSError):
            return retry_later(503, 10, expected="a readable file of tokens", got="one that cannot be read")
        if token is None:
            if wait := self._strangers.wait_s(address, time.monotonic()):
                return retry_later(429, wait, expected="a valid token", got="too many wrong ones")
            return refusal(
                401,
                expected="the header 'Authorization: Bearer TOKEN'",
                got="no token that is known",
                do="Make one with 'zooselect serve token'",
                headers={"www-authenticate": "Bearer"},
            )
        if token.role != role:
            return refusal(403, expected=f"the token of a {role}", got=token.role, do="Use the other token")
        return token

    async def _body(self, request: Request) -> bytes | Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return refusal(415, expected="content type application/json", got=kind, do="Send JSON")
        if coding := request.headers.get("content-encoding"):
            return refusal(415, expected="no content encoding", got=coding, do="Send it as it is")
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_timeout_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > MAX_REPORT_BYTES:
                        return refusal(
                            413,
                            expected=f"at most {MAX_REPORT_BYTES} bytes",
                            got="more",
                            do="Send counts only",
                            headers={"connection": "close"},
                        )
        except TimeoutError:
            return refusal(
                408,
                expected=f"the report within {self.limits.body_timeout_s:g} s",
                got=f"{len(body)} bytes of it",
                do="Send it again",
                headers={"connection": "close"},
            )
        return bytes(body)


def make_app(
    root: str | Path, service: Service | None = None, *, background: tuple[Background, ...] = ()
) -> Starlette:
    """The web application.

    Parameters
    ----------
    root
        Folder of the publisher.
    service
        None: only files.
    background
        What runs as long as the application does.
    """

    async def health(_: Request) -> Response:
        facts: dict[str, object] = {"status": "ok", "zooselect": importlib.metadata.version("zooselect")}
        if service is not None:
            facts["reports"] = sum(service.ledger.tally.counts.values())
        return reply(200, facts)

    @contextlib.asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.ensure_future(one()) for one in background]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if service is not None:
                await service.commit.finish()

    routes = [Route("/v1/health", health, methods=["GET"])]
    if service is not None:
        routes += [
            Route("/v1/reports", service.report, methods=["POST"]),
            Route("/v1/groups/{group}", service.group, methods=["GET"]),
        ]
    routes.append(Route("/{path:path}", PublishedFiles(root).get, methods=["GET", "HEAD"]))
    handlers = {HTTPException: _refused, ClientDisconnect: _gone}
    return Starlette(routes=routes, lifespan=running, exception_handlers=handlers)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal(
        error.status_code,
        expected="a path and a method of this service",
        got=error.detail,
        do="See /v1/health, /v1/reports, /v1/groups/GROUP and /metadata/timestamp.json",
        headers=error.headers,
    )


async def _gone(_: Request, __: Exception) -> Response:
    return refusal(400, expected="a whole request", got="a closed connection", do="Send it again")
