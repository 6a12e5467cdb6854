"""The service over HTTP: who may report what, how much and how often, and what hostile clients get."""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selector.fleet.app import Limits, Service, make_app
from selector.fleet.ledger import Commit, Ledger, read_tally
from selector.fleet.rate_limits import Rate
from selector.fleet.schedule import every
from selector.fleet.server import address_of, bind, serving
from selector.fleet.tokens import Tokens
from selector.telemetry.report import MAX_REPORT_BYTES, encode_report
from tests.support.small_service import HANG_S, Answer, Client, full_disk, large_report, report, running
from zoo.errors import ServiceError

Running = tuple[Client, Service]
OPEN = Limits(
    device=Rate(burst=1e9, per_s=1e9), token=Rate(burst=1e9, per_s=1e9), strangers=Rate(burst=1e9, per_s=1e9)
)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service without rate limits, shared by tests that look at answers only."""
    with running(tmp_path_factory.mktemp("service"), OPEN) as made:
        yield made


def refused(answer: Answer, status: int) -> dict[str, str]:
    """The error of a refusal, which says all that it should."""
    assert answer.status == status, answer
    error: dict[str, str] = answer.json["error"]
    assert set(error) == {"expected", "got", "do"}
    assert error["expected"]
    assert error["do"].endswith(".")
    return error


def test_a_report_is_on_disk_when_it_is_accepted(tmp_path: Path) -> None:
    with running(tmp_path) as (client, _):
        got = client.post(report(1, 7))
        assert (got.status, got.json) == (202, {"accepted": True, "new": True, "sequence": 7})
        assert read_tally(tmp_path / "data").counts == {"cameras": 1}


def test_a_retry_does_not_count_twice(live: Running) -> None:
    client, service = live
    before = service.ledger.tally.counts.get("cameras", 0)
    assert client.post(report(2, 1)).json["new"]
    assert not client.post(report(2, 1)).json["new"]
    assert service.ledger.tally.counts["cameras"] == before + 1


def test_many_devices_at_a_time_are_all_counted(live: Running) -> None:
    client, service = live
    before = service.ledger.tally.counts.get("cameras", 0)
    with ThreadPoolExecutor(16) as pool:
        statuses = list(
            pool.map(lambda i: client.post(report(1000 + i % 100, 1 + i // 100)).status, range(200))
        )
    assert statuses == [202] * 200
    counted = service.ledger.tally.counts["cameras"] - before
    assert (
        100 <= counted <= 200
    )  # of two reports of a device that arrive in the wrong order the older is not new
    sequences = [one.report.sequence for one in service.ledger.tally.newest()]
    assert sequences.count(2) >= 100


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer wrong", "Basic abc", "Bearer " + "x" * 5000, "Bearer \xff"]
)
def test_without_a_token_nothing_is_accepted(live: Running, header: str) -> None:
    client, _ = live
    got = client.post(report(), authorization=header)
    refused(got, 401)
    assert got.headers["www-authenticate"] == "Bearer"


def test_a_token_is_for_its_group_and_role(live: Running) -> None:
    client, _ = live
    assert "cameras" in refused(client.post(report(group="phones")), 403)["expected"]
    refused(client.post(report(), authorization=f"Bearer {client.operator}"), 403)
    refused(client.ask("GET", "/v1/groups/cameras", authorization=f"Bearer {client.token}"), 403)


def test_an_operator_sees_the_demand_of_a_group(live: Running) -> None:
    client, _ = live
    client.post(report(3, 1))
    got = client.ask("GET", "/v1/groups/cameras", authorization=f"Bearer {client.operator}")
    assert got.status == 200
    assert got.json["bundles"]["birds"]["models"]["big"] >= 4
    assert got.json["window"] >= 10
    refused(client.ask("GET", "/v1/groups/nobody", authorization=f"Bearer {client.operator}"), 404)


def test_anybody_may_ask_whether_it_runs(live: Running) -> None:
    assert live[0].ask("GET", "/v1/health").json["status"] == "ok"


def test_a_large_body_is_refused_while_it_arrives(live: Running) -> None:
    client, _ = live
    for size in (MAX_REPORT_BYTES + 1, 100_000):
        refused(client.post(b" " * size), 413)
    parts = urlsplit(client.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=HANG_S) as stream:
        head = f"POST /v1/reports HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.token}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {10**12}\r\n\r\n"
        stream.sendall(head.encode() + b" " * (2 * MAX_REPORT_BYTES))
        assert stream.recv(100).startswith(b"HTTP/1.1 413")


def test_a_slow_body_is_given_up(tmp_path: Path) -> None:
    limits = Limits(body_timeout_s=0.05)
    with running(tmp_path, limits) as (client, _):
        parts = urlsplit(client.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=HANG_S) as stream:
            head = f"POST /v1/reports HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.token}\r\n"
            head += "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
            stream.sendall(head.encode())
            said = b"".join(iter(lambda: stream.recv(65536), b""))
        assert said.startswith(b"HTTP/1.1 408")
        assert b"connection: close" in said


def test_a_device_that_hangs_up_harms_nobody(live: Running) -> None:
    client, _ = live
    parts = urlsplit(client.url)
    for part in (b"{", encode_report(report(4, 1))):
        with socket.create_connection((parts.hostname, parts.port), timeout=HANG_S) as stream:
            head = f"POST /v1/reports HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.token}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {max(len(part), 99)}\r\n\r\n"
            stream.sendall(head.encode() + part)
    assert client.post(report(5, 1)).status == 202


def test_compressed_or_other_content_is_refused(live: Running) -> None:
    client, _ = live
    bomb = gzip.compress(b" " * 10**7)
    assert "encoding" in refused(client.post(bomb, content_encoding="gzip"), 415)["expected"]
    refused(client.post(bomb), 422)
    refused(client.post(report(), content_type="text/plain"), 415)
    refused(client.post(report(), content_encoding="br"), 415)
    assert client.post(report(6), content_type="Application/JSON; charset=utf-8").status == 202


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[" * 16_000, b'{"schema_version":NaN}', b"\xff" * 100, b"9" * 16_000]
)
def test_what_is_no_report_is_refused_with_a_reason(live: Running, body: bytes) -> None:
    error = refused(live[0].post(body), 422)
    assert "report: not a valid" in error["got"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.binary(max_size=200)
    | st.dictionaries(
        st.sampled_from(["schema_version", "device", "sequence", "group", "demand", "models", "x"]),
        st.none() | st.integers() | st.floats() | st.text(max_size=5) | st.just([{}]) | st.just({"": []}),
    ).map(lambda fields: json.dumps(json.loads(encode_report(report(7))) | fields).encode())
)
def test_no_body_makes_the_service_fail(live: Running, body: bytes) -> None:
    got = live[0].post(body)
    assert got.status in (202, 403, 422)
    assert got.status == 202 or got.json["error"]["do"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/reports", 404),
        ("POST", "/v1/health", 405),
        ("GET", "/v1/groups/../../etc", 404),
        ("GET", "/v1/nothing", 404),
        ("BREW", "/v1/reports", 405),
    ],
)
def test_other_paths_and_methods_are_refused(live: Running, method: str, path: str, status: int) -> None:
    refused(live[0].ask(method, path), status)


def test_a_device_that_reports_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    with running(tmp_path, Limits(device=Rate(burst=2, per_s=0.01))) as (client, service):
        answers = [client.post(report(1, i)) for i in (1, 2, 3)]
        assert [one.status for one in answers] == [202, 202, 429]
        assert int(answers[2].headers["retry-after"]) >= 90
        refused(answers[2], 429)
        assert client.post(report(2, 1)).status == 202
        assert service.ledger.tally.counts == {"cameras": 3}


def test_a_group_and_strangers_are_limited_too(tmp_path: Path) -> None:
    limits = Limits(token=Rate(burst=3, per_s=0.01), strangers=Rate(burst=2, per_s=0.01))
    with running(tmp_path, limits) as (client, _):
        assert [client.post(report(i)).status for i in range(1, 5)] == [202, 202, 202, 429]
        wrong = [client.post(report(), authorization="Bearer x").status for _ in range(3)]
        assert wrong == [401, 401, 429]


def test_a_token_that_was_made_later_works_and_a_damaged_file_lets_nobody_in(tmp_path: Path) -> None:
    with running(tmp_path, OPEN) as (client, service):
        later = Tokens(service.tokens.path).add("device", "phones")
        assert client.post(report(group="phones"), authorization=f"Bearer {later}").status == 202
        service.tokens.path.write_text("{")  # which has another size
        got = client.post(report())
        assert (got.status, "retry-after" in got.headers) == (503, True)


def test_a_full_disk_is_told_to_the_device(tmp_path: Path) -> None:
    with running(tmp_path, OPEN) as (client, service):
        with full_disk(service.ledger):
            got = client.post(large_report())
        assert "space" in refused(got, 503)["got"]
        assert client.post(large_report()).json["new"]


def test_without_tokens_and_data_only_files_are_served(tmp_path: Path) -> None:
    with serving(make_app(tmp_path)) as url:
        assert Client(url).ask("POST", "/v1/reports", body=b"{}").status == 405
        assert Client(url).ask("GET", "/v1/health").json["status"] == "ok"


def test_work_in_the_background_ends_with_the_service(tmp_path: Path) -> None:
    ended = threading.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with serving(make_app(tmp_path, background=(work,))) as url:
        assert Client(url).ask("GET", "/v1/health").status == 200
        assert not ended.is_set()
    assert ended.is_set()


def test_work_that_went_wrong_is_tried_again(tmp_path: Path) -> None:
    again = threading.Event()
    done: list[int] = []

    def fail_once() -> None:
        done.append(1)
        if len(done) == 1:
            raise ValueError("the first time something goes wrong")
        again.set()

    with serving(make_app(tmp_path, background=(functools.partial(every, 0.001, fail_once),))):
        assert again.wait(HANG_S)


def test_a_port_that_is_taken_is_an_error_of_ours() -> None:
    with bind("127.0.0.1", 0) as taken:
        port: Any = taken.getsockname()[1]
        assert address_of(taken) == f"http://127.0.0.1:{port}"
        with pytest.raises(ServiceError, match="--port"):
            bind("127.0.0.1", port)
    with pytest.raises(ServiceError, match="--host"):
        bind("no such host", 0)


def test_reports_beyond_what_can_wait_are_put_off(tmp_path: Path) -> None:
    async def flood() -> list[Any]:
        ledger = Ledger(tmp_path)
        commit = Commit(ledger, most_waiting=3)
        found = await asyncio.gather(*(commit.accept(report(i)) for i in range(1, 6)), return_exceptions=True)
        await commit.finish()
        ledger.close()
        return found

    found = asyncio.run(flood())
    assert found[:3] == ["new"] * 3
    assert all(isinstance(one, ServiceError) for one in found[3:])


def test_the_body_of_an_answer_does_not_wait_for_an_acknowledgement_of_its_head() -> None:
    with bind("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
