"""A router over HTTP: the same steps as in Python, told once, bounded and checked."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from selector import Router
from selector.fleet.server import serving
from selector.serving.routes import RouteServer, make_route_app
from tests.support.command_line import CommandLine
from tests.support.small_router import STORED_ROUTER

TOKEN = "a-token-of-this-test"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever other tests did


class Asked:
    """Asks a server, and gives status and content."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url, self.token = url, token

    def __call__(self, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=content)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with DIRECT.open(request, timeout=20) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.fixture(scope="module")
def ask() -> Iterator[Asked]:
    with serving(make_route_app(RouteServer(Router.load(STORED_ROUTER, watch=True)))) as url:
        yield Asked(url)


def test_steps_over_http_are_those_of_python(ask: Asked) -> None:
    status, first = ask("/v1/start", {"features": {"length": 30.0}, "precision": 0.88})
    assert (status, first["run"], first["certified"], first["turn"]) == (200, "small", True, 0)
    told = {"id": first["id"], "turn": 0, "score": -9.0, "cost": 0.25}
    status, second = ask("/v1/tell", told)
    assert (status, second["run"], second["turn"], second["cost"]) == (200, "large", 1, 0.25)
    assert ask("/v1/tell", told) == (200, second)  # a request that is sent again tells nothing new
    status, third = ask("/v1/tell", {"id": first["id"], "turn": 1, "failed": True})
    assert (third["run"], third["model"], third["certified"]) == (None, "small", False)
    assert ask("/v1/tell", {"id": first["id"], "turn": 7})[0] == 409


def test_health_says_what_is_served(ask: Asked) -> None:
    status, found = ask("/v1/health")
    assert (status, found["models"], found["unit"]) == (200, ["small", "large"], "usd")
    assert found["inputs_have_changed"] is False


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/start", b"{", 400, "expected JSON of a start request"),
        ("/v1/start", {"feature": {}}, 400, "unknown field"),
        ("/v1/start", {"features": {"size": 1}}, 400, "expected features among length"),
        ("/v1/start", {"features": [1], "precision": 2}, 400, "precision"),
        ("/v1/tell", {"id": "x", "turn": 0}, 404, "Start again"),
        ("/v1/start", b"[" * 2**21, 413, "at most 1,048,576 bytes"),
        ("/v2", None, 404, "POST /v1/start"),
    ],
)
def test_what_makes_no_sense_is_refused(ask: Asked, path: str, body: Any, status: int, said: str) -> None:
    got, found = ask(path, body)
    assert got == status
    assert said in found["error"]


def test_inputs_under_way_are_bounded_and_forgotten() -> None:
    router = Router.load(STORED_ROUTER)
    asked = {"features": [30.0], "precision": 0.88}
    with serving(make_route_app(RouteServer(router, most_open=2))) as url:
        ask = Asked(url)
        first, _ = ask("/v1/start", asked)[1], ask("/v1/start", asked)
        assert ask("/v1/start", asked)[0] == 503
        ask("/v1/tell", {"id": first["id"], "turn": 0, "score": 9.0})  # it has ended, so there is room
        assert ask("/v1/start", asked)[0] == 200
    with serving(make_route_app(RouteServer(router, forget_after_s=0.0))) as url:
        ask = Asked(url)
        first = ask("/v1/start", asked)[1]
        assert ask("/v1/tell", {"id": first["id"], "turn": 0, "score": 9.0})[0] == 404
        assert ask("/v1/health")[1]["forgotten"] == 1


def test_a_token_is_asked_for_but_by_health() -> None:
    with serving(make_route_app(RouteServer(Router.load(STORED_ROUTER), token=TOKEN))) as url:
        assert Asked(url)("/v1/start", {"features": [30.0]})[0] == 401
        assert Asked(url, TOKEN)("/v1/start", {"features": [30.0]})[0] == 200
        assert Asked(url)("/v1/health")[0] == 200


def test_the_command_says_what_is_missing(zooselect: CommandLine, tmp_path: Path) -> None:
    assert "expected a router in none" in zooselect("route", "none", code=1).err
    assert "models among small, large" in zooselect("route", STORED_ROUTER, "--models", "huge", code=1).err
    (tmp_path / "token").write_text("short")
    (tmp_path / "token").chmod(0o600)
    assert "8 or more printable" in zooselect("route", STORED_ROUTER, "--token-file", "token", code=1).err
