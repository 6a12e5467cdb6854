"""A slow network on one machine: a file server that waits before every answer and counts what it sends."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

from zoo.process import Process

EXIT_TIMEOUT_S = 10.0
MAX_LINE_BYTES = 4096
_RANGE = re.compile(r"bytes=([0-9]+)-$")


class SlowServer(ThreadingHTTPServer):
    """Serves a folder over HTTP/1.1 with connections that are kept.

    Attributes
    ----------
    delay_s
        What every request waits: the round trip of a network.
    bytes_per_s
        Of each answer; None: as fast as it goes.
    link_bytes_per_s
        Of all answers together, as on one line; None: as fast as it goes.
    requests, bytes_sent
        So far; bodies only.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root.resolve()
        self.delay_s = 0.0
        self.bytes_per_s: float | None = None
        self.link_bytes_per_s: float | None = None
        self._free_at = 0.0  # when the line has sent all that was given to it
        self._counting = threading.Lock()
        self.forget()

    @property
    def url(self) -> str:
        """Address of the folder."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def forget(self) -> None:
        """Count from zero."""
        self.requests = self.bytes_sent = 0

    def count(self, requests: int, sent: int) -> None:
        """Add to the counts."""
        with self._counting:
            self.requests += requests
            self.bytes_sent += sent

    def pace(self, size: int) -> None:
        """Wait as long as `size` bytes of one answer take."""
        if self.bytes_per_s is not None:
            time.sleep(size / self.bytes_per_s)
        if self.link_bytes_per_s is not None:
            with self._counting:
                now = time.monotonic()
                self._free_at = max(self._free_at, now) + size / self.link_bytes_per_s
                wait = self._free_at - now
            time.sleep(wait)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error, unless it is a client that went away, as one does that was stopped."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SlowServer

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        self.server.count(1, 0)
        if self.server.delay_s:
            time.sleep(self.server.delay_s)
        path = (self.server.root / self.path.lstrip("/")).resolve()
        if not path.is_relative_to(self.server.root) or not path.is_file():
            self.send_response(HTTPStatus.NOT_FOUND)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        size = path.stat().st_size
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        first = int(asked[1]) if asked and int(asked[1]) < size else 0
        self.send_response(HTTPStatus.PARTIAL_CONTENT if first else HTTPStatus.OK)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - first))
        self.end_headers()
        with path.open("rb") as stream:
            stream.seek(first)
            if self.server.bytes_per_s is None and self.server.link_bytes_per_s is None:
                shutil.copyfileobj(stream, self.wfile)
            else:
                while chunk := stream.read(16384):
                    self.server.pace(len(chunk))
                    self.wfile.write(chunk)
        self.server.count(0, size - first)

    def log_message(self, *_: object) -> None:
        """Nothing: the output is a table."""


@contextmanager
def serving(root: Path) -> Iterator[SlowServer]:
    """A server of `root` in the background."""
    server = SlowServer(root)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serving_apart(
    root: Path, *, delay_s: float = 0.0, link_bytes_per_s: float | None = None
) -> Iterator[str]:
    """Address of a server of `root` in a process of its own, which takes no time from what is measured."""
    task = {"root": str(root), "delay_s": delay_s, "link_bytes_per_s": link_bytes_per_s}
    with working("benchmarks.distribution.network:serve_apart", json.dumps(task)) as process:
        yield process.read_line(MAX_LINE_BYTES).decode().strip()


def serve_apart(orders: IO[bytes], answers: IO[bytes]) -> None:
    """That process: serves as its first line says until its input ends."""
    task = json.loads(orders.readline())
    with serving(Path(task["root"])) as server:
        server.delay_s, server.link_bytes_per_s = task["delay_s"], task["link_bytes_per_s"]
        answers.write(f"{server.url}\n".encode())
        answers.flush()
        orders.read()


@contextmanager
def working(function: str, first_line: str) -> Iterator[Process]:
    """A process that runs a function, is told a line, and ends with its input."""
    process = Process(function)
    try:
        process.tell(f"{first_line}\n".encode())
        yield process
    finally:
        process.end(patience_s=EXIT_TIMEOUT_S)
