"""Claims about patience: a slow or silent client keeps nobody else out."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from selector.fleet import patience
from tests.support.small_service import HANG_S, Client, put_blob, running, until

HALF = b"GET /v1/health HTTP/1.1\r\nHost: here\r\nX-Slow: "


@contextlib.contextmanager
def connections(url: str, count: int) -> Iterator[list[socket.socket]]:
    parts = urlsplit(url)
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                socket.create_connection((parts.hostname or "", parts.port or 0), timeout=HANG_S)
            )
            for _ in range(count)
        ]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "published" / "blobs").mkdir(parents=True)
    with running(tmp_path) as (client, _):
        yield client


def ended(stream: socket.socket) -> bool:
    """Whether the server has closed the connection; waits for it."""
    try:
        while stream.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize("sent", [b"", HALF, b"POST /x HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n1"])
def test_a_request_that_does_not_come_whole_is_given_up(
    client: Client, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(patience, "REQUEST_TIMEOUT_S", 0.3)
    with connections(client.url, 1) as (stream,):
        stream.sendall(sent)
        assert ended(stream)


def test_a_byte_now_and_then_does_not_buy_time(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "REQUEST_TIMEOUT_S", 0.5)
    with connections(client.url, 1) as (stream,), contextlib.suppress(ConnectionError):
        stream.sendall(HALF)
        for _ in range(int(HANG_S / 0.05)):
            stream.sendall(b"x")
            if select.select([stream], [], [], 0.05)[0]:
                break
        else:
            pytest.fail("a byte now and then kept the connection")


def idle(stream: socket.socket) -> list[patience.PatientProtocol]:
    """The server's end of a connection, once it waits for a request."""
    return [one for one in list(patience.PatientProtocol.quiet) if one.client == stream.getsockname()]


def test_an_idle_connection_may_ask_again(client: Client) -> None:
    with connections(client.url, 1) as (stream,):
        for _ in range(2):
            stream.sendall(b"GET /v1/health HTTP/1.1\r\nHost: here\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += stream.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            (server,) = until(lambda: idle(stream))
            assert server._arriving is None  # no clock runs


def test_an_answer_that_nobody_reads_is_given_up(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "WRITE_TIMEOUT_S", 0.3)
    lost = threading.Event()
    end = patience.PatientProtocol.connection_lost

    def noted(self: patience.PatientProtocol, error: Exception | None) -> None:
        end(self, error)
        lost.set()

    monkeypatch.setattr(patience.PatientProtocol, "connection_lost", noted)
    (tmp_path / "published" / "metadata").mkdir()
    (tmp_path / "published" / "metadata" / "timestamp.json").write_bytes(b"x" * 2**25)
    with connections(client.url, 1) as (stream,):
        stream.sendall(b"GET /metadata/timestamp.json HTTP/1.1\r\nHost: here\r\n\r\n")
        assert lost.wait(HANG_S)
        got = 0
        with contextlib.suppress(ConnectionError):
            while chunk := stream.recv(2**20):
                got += len(chunk)
    assert got < 2**25


@pytest.fixture
def server_ends(monkeypatch: pytest.MonkeyPatch) -> list[patience.PatientProtocol]:
    """The server's ends of all connections."""
    found: list[patience.PatientProtocol] = []
    begin = patience.PatientProtocol.connection_made

    def noted(self: patience.PatientProtocol, transport: Any) -> None:
        begin(self, transport)
        found.append(self)

    monkeypatch.setattr(patience.PatientProtocol, "connection_made", noted)
    return found


def resident_bytes() -> int:
    """Memory of this process, where the system says it; else 0."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def test_slow_readers_hold_a_part_of_a_file_each(
    client: Client, tmp_path: Path, server_ends: list[patience.PatientProtocol]
) -> None:
    path = put_blob(tmp_path / "published", bytes(2**25))
    with connections(client.url, 40) as streams:
        before = resident_bytes()
        for stream in streams:
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        until(lambda: len(server_ends) == 40 and all(one.flow.write_paused for one in server_ends))
        held = [one.transport.get_write_buffer_size() for one in server_ends]
        grown = resident_bytes() - before
    assert 0 < max(held) <= 64 * 1024
    assert grown < 40 * 400_000  # with all that belongs to a connection


def test_requests_that_come_ahead_in_number_end_the_connection(
    client: Client, tmp_path: Path, server_ends: list[patience.PatientProtocol]
) -> None:
    path = put_blob(tmp_path / "published", bytes(2**25))
    with connections(client.url, 2) as (greedy, modest):
        for stream, count in ((greedy, 4000), (modest, 2)):
            stream.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                stream.sendall(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode() * count)
        until(lambda: len(server_ends) == 2 and all(one.flow.write_paused for one in server_ends[1:]))
        greedy.setblocking(True)
        greedy.settimeout(HANG_S)
        assert ended(greedy)
        assert not server_ends[1].transport.is_closing()


def test_silent_connections_make_room_for_those_that_ask(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "EVICTION_CONNECTIONS", 20)
    with connections(client.url, 60) as streams:
        for stream in streams[:30]:
            with contextlib.suppress(ConnectionError):
                stream.sendall(HALF)
        assert client.ask("GET", "/v1/health").status == 200
        assert ended(streams[0])
    assert len(patience.PatientProtocol.quiet) < 30
