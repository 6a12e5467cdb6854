"""The published files over HTTP: parts, validators, and nothing outside of what is published."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.requests import Request

import selector.fleet.published_files
from selector.fleet.app import make_app
from selector.fleet.published_files import PublishedFiles
from selector.fleet.server import _allowed_connections, serving
from tests.support.small_service import HANG_S, Client, put_blob
from zoo.errors import ServiceError

CONTENT = os.urandom(700_000)
STAMP = "/metadata/timestamp.json"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served") / "published"
    put_blob(root, CONTENT)
    (root / "metadata").mkdir()
    (root / "metadata" / "timestamp.json").write_text("{}")
    (root / "metadata" / "1.root.json").write_text('{"root": 1}')
    return root


@pytest.fixture(scope="module")
def files(root: Path) -> Iterator[Client]:
    with serving(make_app(root)) as url:
        yield Client(url)


@pytest.fixture
def blob(root: Path) -> str:
    return put_blob(root, CONTENT)


def raw(client: Client, request: bytes) -> bytes:
    """What the server says to exactly these bytes."""
    parts = urlsplit(client.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=HANG_S) as stream:
        stream.sendall(request)
        return b"".join(iter(lambda: stream.recv(65536), b""))


def test_a_blob_is_served_whole_and_may_be_kept_for_ever(files: Client, blob: str) -> None:
    got = files.ask("GET", blob)
    assert (got.status, got.content) == (200, CONTENT)
    assert got.headers["etag"] == f'"{blob.rpartition("/")[2]}"'
    assert "immutable" in got.headers["cache-control"]
    assert got.headers["accept-ranges"] == "bytes"


def test_the_timestamp_is_never_kept(files: Client) -> None:
    got = files.ask("GET", STAMP)
    assert (got.json, got.headers["cache-control"]) == ({}, "no-store")
    assert "immutable" in files.ask("GET", "/metadata/1.root.json").headers["cache-control"]


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=699990-", 699_990, 700_000),
        ("bytes=-5", 699_995, 700_000),
        ("bytes=300000-800000", 300_000, 700_000),
        ("bytes=-999999999", 0, 700_000),
    ],
)
def test_a_part_is_what_was_asked_for(files: Client, blob: str, asked: str, start: int, stop: int) -> None:
    got = files.ask("GET", blob, range=asked)
    assert (got.status, got.content) == (206, CONTENT[start:stop])
    assert got.headers["content-range"] == f"bytes {start}-{stop - 1}/700000"


@pytest.mark.parametrize("asked", ["bytes=700000-", "bytes=999999999999-", "bytes=-0"])
def test_a_part_that_is_not_there_is_416_with_the_size(files: Client, blob: str, asked: str) -> None:
    got = files.ask("GET", blob, range=asked)
    assert (got.status, got.headers["content-range"]) == (416, "bytes */700000")


def test_a_request_for_several_parts_gets_the_whole_file(files: Client, blob: str) -> None:
    got = files.ask("GET", blob, range="bytes=0-1,5-6")
    assert (got.status, len(got.content)) == (200, 700_000)


@pytest.mark.parametrize("asked", ["bytes=5-1", "lines=1-2", "bytes=a-b", "bytes=-", "x" * 999])
def test_what_is_no_range_is_refused(files: Client, blob: str, asked: str) -> None:
    assert files.ask("GET", blob, range=asked).status == 400


def test_a_known_blob_is_not_sent_again(files: Client, blob: str) -> None:
    tag = files.ask("HEAD", blob).headers["etag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        got = files.ask("GET", blob, if_none_match=known)
        assert (got.status, got.content, got.headers["etag"]) == (304, b"", tag)
    assert files.ask("GET", blob, if_none_match='"other"').status == 200


def test_a_part_of_another_version_is_not_mixed_in(files: Client, blob: str) -> None:
    tag = files.ask("HEAD", blob).headers["etag"]
    assert files.ask("GET", blob, range="bytes=1-2", if_range=tag).status == 206
    assert files.ask("GET", blob, range="bytes=1-2", if_range='"other"').status == 200


def test_head_says_the_size_without_the_content(files: Client, blob: str) -> None:
    got = files.ask("HEAD", blob)
    assert (got.status, got.headers["content-length"], got.content) == (200, "700000", b"")
    part = files.ask("HEAD", blob, range="bytes=0-3")
    assert (part.status, part.headers["content-length"], part.content) == (206, "4", b"")


def test_a_file_that_is_replaced_is_sent_as_it_was_opened(tmp_path: Path) -> None:
    file = tmp_path / "metadata" / "timestamp.json"
    file.parent.mkdir()
    file.write_text("old")
    scope = {"type": "http", "method": "GET", "path": STAMP, "headers": [], "extensions": {}}
    sent: list[Any] = []

    async def ask() -> None:
        async def gone() -> dict[str, str]:
            await asyncio.Event().wait()
            return {}

        async def send(message: Any) -> None:
            sent.append(message)

        response = await PublishedFiles(tmp_path).get(Request(scope))
        (tmp_path / "new").write_text("a longer one")
        (tmp_path / "new").replace(file)
        await response(scope, gone, send)

    asyncio.run(ask())
    assert (b"content-length", b"3") in sent[0]["headers"]
    assert b"".join(message["body"] for message in sent[1:]) == b"old"


def test_where_links_cannot_be_told_apart_nothing_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selector.fleet.published_files._OPENS_WITHOUT_LINKS", False)
    with pytest.raises(ServiceError, match=r"Linux or macOS.*Serve the folder with a web server"):
        PublishedFiles(tmp_path)


def test_an_empty_file_is_served(files: Client, root: Path) -> None:
    got = files.ask("GET", put_blob(root, b""))
    assert (got.status, got.content) == (200, b"")
    assert files.ask("GET", put_blob(root, b""), range="bytes=0-").status == 416


def test_only_reading_is_allowed(files: Client, blob: str) -> None:
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        got = files.ask(method, blob)
        assert got.status == 405
        assert "GET" in got.headers["allow"]


def test_nothing_outside_of_what_is_published_is_served(files: Client, root: Path, blob: str) -> None:
    digest = blob.rpartition("/")[2]
    (root.parent / "secret.json").write_text("secret")
    (root / "metadata" / ".hidden.json").write_text("secret")
    (root / "keys").mkdir(exist_ok=True)
    (root / "keys" / "1.root.json").write_text("secret")
    tricks = [
        "/../secret.json",
        "/metadata/../../secret.json",
        "/%2e%2e/secret.json",
        "/metadata/.hidden.json",
    ]
    tricks += [
        "/metadata/%2e%2e%2f%2e%2e%2fsecret.json",
        "/keys/1.root.json",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
    ]
    tricks += ["/metadata/timestamp.json%00", "/metadata/", "/", "/metadata/timestamp.json/", "/blobs"]
    tricks += [f"/blobs/00/{digest}", f"/blobs/{digest[:2]}/{digest}%0a", f"/blobs\\{digest[:2]}\\{digest}"]
    tricks += ["/metadata/1.root.json.tmp", "/metadata/%31.root.json%20", "/" + "a" * 6000, "/%ff%fe", "/%00"]
    for path in tricks:
        got = raw(files, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert got.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), (path, got[:200])
        assert b"secret" not in got.partition(b"\r\n\r\n")[2].replace(b"secret.json", b"")


def test_links_are_not_followed(files: Client, root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (root / "metadata" / "7.root.json").symlink_to(tmp_path / "secret")
    pairs = (f"{number:02x}" for number in range(256))
    free = next(
        pair for pair in pairs if not (root / "blobs" / pair).exists()
    )  # digests differ from run to run
    (root / "blobs" / free).symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / (free * 32)).write_text("secret")
    os.mkfifo(root / "metadata" / "8.root.json")
    (root / "metadata" / "9.root.json").mkdir()
    for path in (
        "/metadata/7.root.json",
        f"/blobs/{free}/{free * 32}",
        "/metadata/8.root.json",
        "/metadata/9.root.json",
    ):
        assert files.ask("GET", path).status == 404


def test_endless_headers_are_cut_off(files: Client) -> None:
    parts = urlsplit(files.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=HANG_S) as stream:
        stream.sendall(b"GET /metadata/timestamp.json HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(10_000):
                stream.sendall(b"A: " + b"b" * 4000 + b"\r\n")
            pytest.fail("40 MB of headers were read")
    assert files.ask("GET", STAMP).status == 200


def test_what_is_not_http_is_refused(files: Client) -> None:
    for request in (b"\x00\x01\x02\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n"):
        assert raw(files, request).startswith(b"HTTP/1.1 400")


def test_two_lengths_in_one_request_are_refused(files: Client) -> None:
    smuggled = (
        f"GET {STAMP} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello".encode()
    )
    assert raw(files, smuggled).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(("error", "status"), [(errno.EMFILE, 503), (errno.ENFILE, 503), (errno.EIO, 404)])
def test_a_file_that_cannot_be_opened_now_is_not_called_missing(
    files: Client, blob: str, monkeypatch: pytest.MonkeyPatch, error: int, status: int
) -> None:
    def refuse(*_: Any, **__: Any) -> int:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(selector.fleet.published_files.os, "open", refuse)
        assert files.ask("GET", blob).status == status
    assert files.ask("GET", blob).status == 200


@pytest.mark.parametrize(
    ("soft", "hard", "asked", "connections"),
    [(1024, 2**20, 12416, 4096), (1024, 4096, 4096, 1322), (2**20, 2**20, None, 4096), (64, 64, None, 1)],
)
def test_there_are_as_many_connections_as_files_for_them(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, asked: int | None, connections: int
) -> None:
    limits = {"now": (soft, hard)}
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: limits.update(now=wanted))
    assert _allowed_connections() == connections
    assert limits["now"] == (asked or soft, hard)
