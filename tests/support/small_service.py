"""Small things for tests of the service: reports, a publisher's folder without signatures, plain HTTP."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import urllib3

from selector.fleet.app import Limits, Service, make_app
from selector.fleet.ledger import Ledger
from selector.fleet.server import serving
from selector.fleet.tokens import Tokens
from selector.telemetry.demand import AskedDemand, Demand
from selector.telemetry.report import Held, Report, encode_report

T = TypeVar("T")

HANG_S = 120.0  # no test waits for so long, unless something hangs


def demand(bundle: str = "birds", answers: int = 10, unmet: int = 4, **more: Any) -> Demand:
    """What a device was asked: `unmet` of the answers would have taken the model ``big``."""
    facts: dict[str, Any] = {
        "schema_version": 1,
        "bundle": bundle,
        "since": 1.7e9,
        "answers": answers,
        "window": answers,
        "unmet": unmet,
        "uncertified": 0,
        "models": {"big": unmet} if unmet else {},
        "asked": (AskedDemand(kind="precision", level=0.9, answers=answers, unmet=unmet),) if answers else (),
    }
    return Demand(**(facts | more))


def report(device: int = 1, sequence: int = 1, group: str = "cameras", **more: Any) -> Report:
    """A report of the device with this number."""
    facts: dict[str, Any] = {
        "schema_version": 1,
        "device": f"{device:032x}",
        "sequence": sequence,
        "group": group,
        "models": (Held(name="small", version=1),),
        "bundles": (Held(name="birds", version=1),),
        "demand": (demand(),),
        "stored_bytes": 1000,
        "budget_bytes": 5000,
        "zooselect": "0.1.0",
    }
    return Report(**(facts | more))


@dataclass
class Answer:
    """An answer over HTTP."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """The content as JSON."""
        return json.loads(self.content)


@dataclass
class Client:
    """Speaks to a service under test."""

    url: str
    token: str = ""
    operator: str = ""

    def ask(self, method: str, path: str, *, body: bytes | None = None, **headers: str) -> Answer:
        """One request on a connection of its own; underscores in names of headers stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with urllib3.PoolManager(retries=False, timeout=HANG_S) as pool:
            got = pool.request(
                method, self.url + path, body=body, headers=named, redirect=False, decode_content=False
            )
            return Answer(got.status, got.headers, got.data)

    def post(self, content: bytes | Report, **headers: str) -> Answer:
        """Send a report, as it should be unless `headers` say otherwise."""
        body = content if isinstance(content, bytes) else encode_report(content)
        usual = {"authorization": f"Bearer {self.token}", "content_type": "application/json"}
        return self.ask("POST", "/v1/reports", body=body, **(usual | headers))


@contextlib.contextmanager
def running(folder: Path, limits: Limits | None = None) -> Iterator[tuple[Client, Service]]:
    """A service over a real socket, with new tokens for the group ``cameras`` and for an operator."""
    tokens = Tokens(folder / "tokens.json")
    client = Client("", tokens.add("device", "cameras"), tokens.add("operator"))
    ledger = Ledger(folder / "data")
    service = Service(tokens, ledger, limits)
    try:
        with serving(make_app(folder / "published", service)) as url:
            client.url = url
            yield client, service
    finally:
        ledger.close()


@contextlib.contextmanager
def full_disk(ledger: Ledger) -> Iterator[None]:
    """A ledger whose file cannot grow: SQLite says of it what it says of a full disk."""
    database = ledger._database
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    (before,) = database.execute("PRAGMA max_page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    try:
        yield
    finally:
        database.execute(f"PRAGMA max_page_count = {before}")


def large_report(device: int = 1, sequence: int = 1) -> Report:
    """A report that needs more room than a page that is there already."""
    held = tuple(Held(name=f"{'m' * 60}-{i}", version=1) for i in range(60))
    return report(device, sequence, models=held)


def until(found: Callable[[], T]) -> T:
    """What is found as soon as it is true."""
    deadline = time.monotonic() + HANG_S
    while not (one := found()):
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.01)
    return one


def put_blob(root: Path, content: bytes) -> str:
    """Write a blob as a publisher does; returns its path."""
    digest = hashlib.sha256(content).hexdigest()
    path = root / "blobs" / digest[:2] / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return f"/blobs/{digest[:2]}/{digest}"
