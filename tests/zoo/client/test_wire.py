"""Claims about the wire: whatever the other side does, a request ends soon, with an error of ours."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import faulty_server as faults
from tests.support.faulty_server import ATTACKS, FaultyServer, serve
from tests.support.small_blobs import offer
from zoo.client.fetch import Fetcher
from zoo.client.wire import Broken, Patience, Wire
from zoo.connections import proxy_for
from zoo.errors import ZooError
from zoo.store.store import Store

FILE = bytes(range(256)) * 40
TIMEOUT_S = 0.2
LONG_S = 60.0  # without end, for a test
STATUS = {"500": 500, "429 for a day": 429, "truncated": 200}  # these are answers


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultyServer]:
    (tmp_path / "file").write_bytes(FILE)
    with serve(tmp_path) as running:
        yield running


@pytest.fixture
def wire(server: FaultyServer) -> Iterator[Wire]:
    made = Wire(server.url, timeout_s=TIMEOUT_S)
    yield made
    made.close()


def read(wire: Wire, name: str = "file") -> tuple[int, bytes]:
    with wire.get(f"{wire.url}/{name}") as answer:
        return answer.status, b"".join(answer.chunks())


@pytest.mark.parametrize("attack", ATTACKS)
def test_whatever_the_other_side_does_a_request_ends(server: FaultyServer, wire: Wire, attack: str) -> None:
    server.misbehave(ATTACKS[attack])
    begin = time.monotonic()
    if attack in STATUS:
        assert read(wire)[0] == STATUS[attack]
    else:
        with pytest.raises(Broken):
            read(wire)
    assert time.monotonic() - begin < LONG_S
    server.behave()
    assert read(wire) == (200, FILE)


ODD = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nothing": b"",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\nhello",
    "negative chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    "long line": b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n\r\n",
    "port of no port": b"HTTP/1.1 302 Found\r\nLocation: http://a:99999999/\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_answer_is_told_in_words(server: FaultyServer, wire: Wire, odd: str) -> None:
    def say(handler: faults.Handler, content: bytes, start: int) -> None:
        handler.wfile.write(ODD[odd])
        handler.cut()

    server.misbehave(say)
    with pytest.raises(Broken) as caught:
        read(wire)
    assert caught.value.reason[0] not in "(<"
    assert len(caught.value.reason) <= 200


def test_one_connection_does_for_all_answers_with_small_bodies(server: FaultyServer, wire: Wire) -> None:
    server.misbehave(faults.status(404, b"not here"), times=1)
    with wire.get(f"{wire.url}/file") as answer:
        assert answer.status == 404
    assert read(wire) == read(wire) == (200, FILE)
    assert len({request.connection for request in server.requests}) == 1
    assert wire.requests == 3
    assert wire.bytes_on_wire == 2 * len(FILE) + len(b"not here")


def test_a_body_is_not_read_further_than_asked(server: FaultyServer, wire: Wire) -> None:
    server.misbehave(faults.endless)
    with wire.get(f"{wire.url}/file") as answer:
        assert len(b"".join(answer.chunks(100_000))) == 100_000


@pytest.mark.parametrize("fault", [faults.hang, faults.drip_headers, faults.hang_half_way])
@pytest.mark.parametrize("how", ["cancelled", "deadline"])
def test_waiting_ends_when_it_is_told_to(server: FaultyServer, fault: faults.Fault, how: str) -> None:
    server.misbehave(fault)
    wire, cancel = Wire(server.url, timeout_s=100), threading.Event()
    wire.patience = Patience(0.1 if how == "deadline" else None, cancel)
    timer = threading.Timer(0.1, cancel.set)
    if how == "cancelled":
        timer.start()
    with pytest.raises(Broken, match=r"cancelled|not all after 0\.1 seconds"):
        read(wire)
    timer.cancel()
    wire.close()


def test_a_pause_ends_when_nothing_is_waited_for_any_more() -> None:
    patience, begin = Patience(0.05), time.monotonic()
    patience.pause(100)
    assert time.monotonic() - begin < LONG_S
    assert patience.over()


@pytest.mark.parametrize(
    "target", ["http://example.invalid/file", "https://127.0.0.1/file", "file:///etc/passwd", "http://[::1"]
)
def test_no_redirection_leads_to_another_host(server: FaultyServer, wire: Wire, target: str) -> None:
    server.misbehave(faults.redirect(target))
    with pytest.raises(Broken, match="another host"):
        read(wire)
    assert len(server.requests) == 1


def test_a_redirection_on_the_same_host_is_followed_but_not_for_ever(
    server: FaultyServer, wire: Wire
) -> None:
    server.misbehave(faults.redirect("/file"), times=3)
    assert read(wire) == (200, FILE)
    server.misbehave(faults.redirect("/file"))
    with pytest.raises(Broken, match="too many redirects"):
        read(wire)


@pytest.fixture
def proxied(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """The server is a proxy, too: whatever host is asked for, it answers."""
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "near.invalid,.inside.invalid")
    made = Wire("http://far.invalid/root", timeout_s=TIMEOUT_S)
    yield made
    made.close()


def test_every_request_goes_over_the_proxy(server: FaultyServer, proxied: Wire, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").write_bytes(FILE)
    assert read(proxied) == (200, FILE)
    assert server.requests[0].headers["Host"] == "far.invalid"
    assert server.requests[0].path == "root/file"


def test_no_redirection_leads_to_another_host_behind_a_proxy(server: FaultyServer, proxied: Wire) -> None:
    (server.root / "root").mkdir()
    (server.root / "root" / "file").write_bytes(FILE)
    server.misbehave(faults.redirect("http://elsewhere.invalid/file"))
    with pytest.raises(Broken, match="another host"):
        read(proxied)
    assert len(server.requests) == 1


def test_a_proxy_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("http_proxy", address)
    wire = Wire("http://far.invalid", timeout_s=TIMEOUT_S)
    with pytest.raises(Broken, match=r"the proxy: .*refused"):
        read(wire)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://far.invalid/x", "http://a"),
        ("https://far.invalid:8443", "http://b:3128"),
        ("http://near.invalid", None),
        ("https://very.inside.invalid", None),
    ],
)
def test_the_environment_says_which_proxy(
    monkeypatch: pytest.MonkeyPatch, url: str, proxy: str | None
) -> None:
    monkeypatch.setenv("http_proxy", "http://a")
    monkeypatch.setenv("https_proxy", "b:3128")
    monkeypatch.setenv("no_proxy", "near.invalid,.inside.invalid")
    assert proxy_for(url) == proxy


@pytest.mark.parametrize("proxy", ["socks5://user:secret@far.invalid:1080", "http://user:secret@[::1"])
def test_a_strange_proxy_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(ZooError, match="expected a proxy of HTTP") as caught:
        Wire("http://example.invalid")
    assert "secret" not in str(caught.value)


def test_blobs_come_over_the_proxy(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = offer(tmp_path, [FILE])
    monkeypatch.setenv("http_proxy", server.url.replace("//", "//user:p%40ss@"))
    store = Store.open(tmp_path / "store")
    with contextlib.closing(Fetcher("http://far.invalid")) as fetcher:
        fetcher.fetch(blobs, store)
    assert not store.missing(blobs)
    assert server.requests[0].headers["proxy-authorization"] == "Basic dXNlcjpwQHNz"


@pytest.fixture
def secure(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FaultyServer:
    """The server with TLS, and a certificate that is trusted."""
    tls = pytest.importorskip("tests.support.tls", reason="needs cryptography")
    certificate = tls.make_certificate(tmp_path, "models.invalid")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls.speak_tls(server, certificate)
    return server


def read_from(url: str) -> bytes:
    with contextlib.closing(Wire(url, timeout_s=TIMEOUT_S)) as wire:
        return read(wire)[1]


def test_a_request_with_tls_ends(secure: FaultyServer) -> None:
    url = secure.url.replace("http:", "https:")
    assert read_from(url) == FILE
    for attack in ("cut", "reset", "bad chunk", "drip", "drip of headers", "hang"):
        secure.behave()
        secure.misbehave(ATTACKS[attack])
        begin = time.monotonic()
        with pytest.raises(Broken):
            read_from(url)
        assert time.monotonic() - begin < LONG_S, attack


def test_a_proxy_leads_to_the_host_that_the_certificate_names(
    secure: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.tls import tunnelling

    with tunnelling(("127.0.0.1", secure.server_port)) as (proxy, asked):
        monkeypatch.setenv("https_proxy", proxy)
        assert read_from("https://models.invalid") == FILE
        assert asked == ["models.invalid:443"]
        with pytest.raises(Broken, match=r"(?i)certificate") as caught:
            read_from("https://other.invalid")
        assert "clock" in caught.value.advice
        secure.misbehave(ATTACKS["drip"])
        with pytest.raises(Broken, match="bytes a second"):
            read_from("https://models.invalid")
