"""Claims about requests with TLS: the same limits hold, directly and through the tunnel of a proxy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faulty_server import ATTACKS, FaultyServer, serve
from zoo.client.wire import Broken, Wire

tls = pytest.importorskip("tests.support.tls", reason="needs cryptography")

FILE = bytes(range(256)) * 400
LONG_S = 4.0


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    (tmp_path / "file").write_bytes(FILE)
    certificate = tls.make_certificate(tmp_path, "models.invalid")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serve(tmp_path) as running:
        tls.speak_tls(running, certificate)
        yield running


def read(url: str) -> bytes:
    wire = Wire(url, timeout_s=0.2)
    try:
        with wire.get(f"{wire.url}/file") as answer:
            return b"".join(answer.chunks())
    finally:
        wire.close()


def test_whatever_the_other_side_does_a_request_ends(server: FaultyServer) -> None:
    url = server.url.replace("http:", "https:")
    assert read(url) == FILE
    for attack in ("cut", "reset", "bad chunk", "drip", "drip of headers", "hang"):
        server.behave()
        server.misbehave(ATTACKS[attack])
        begin = time.monotonic()
        with pytest.raises(Broken):
            read(url)
        assert time.monotonic() - begin < LONG_S, attack


def test_a_proxy_leads_to_the_host_that_the_certificate_names(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls.tunnelling(server.server_address[:2]) as (proxy, asked):
        monkeypatch.setenv("https_proxy", proxy)
        assert read("https://models.invalid") == FILE
        assert asked == ["models.invalid:443"]
        with pytest.raises(Broken, match=r"(?i)certificate") as caught:
            read("https://other.invalid")
        assert "clock" in caught.value.advice
        server.misbehave(ATTACKS["drip"])
        with pytest.raises(Broken, match="bytes a second"):
            read("https://models.invalid")
