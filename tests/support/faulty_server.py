"""A real HTTP server on 127.0.0.1 for a folder of files, which misbehaves on demand."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHUNK = 65536
NOTHING = b"{}".ljust(3000)  # what attacks on a file that is not there make use of


@dataclass(frozen=True)
class Request:
    """One request that came in."""

    path: str
    start: int  # first byte that was asked for
    connection: int  # port of the other side: requests of one connection share it
    headers: dict[str, str]


class Handler(BaseHTTPRequestHandler):
    """Answers GET with the content of a file, or with what the fault in force says."""

    server: FaultyServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 10

    def do_POST(self) -> None:
        """Take what is sent, and answer as for GET; what is found at the path is the answer."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_GET(self) -> None:
        """Note the request, wait for the delay, answer."""
        path = self.path.split("://", 1)[-1].partition("/")[2].split("?")[0].lstrip("/")
        asked = self.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.server.note(Request(path, start, self.client_address[1], dict(self.headers)))
        if self.server.delay_s:
            time.sleep(self.server.delay_s)
        file = self.server.root / path
        content = file.read_bytes() if file.is_file() else None
        fault = self.server.fault_for(path)
        with suppress(OSError):  # the other side has gone, as some tests want it
            if fault is not None and (content is not None or fault in ATTACKS.values()):
                fault(self, content or NOTHING, start)
            elif content is None:
                status(404)(self, b"", 0)
            else:
                self.give(content, start)

    def give(self, content: bytes, start: int = 0, *, state: int | None = None, **headers: object) -> None:
        """A correct answer, unless told otherwise."""
        if start > len(content) - 1 and start:
            state, content, start = 416, b"", 0
        self.begin(
            state or (206 if start else 200),
            len(content) - start,
            **({"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}),
            **headers,
        )
        self.send(content[start:])

    def begin(self, state: int, length: int | None, **headers: object) -> None:
        """Status line and headers."""
        self.send_response(state)
        if length is not None:
            headers = {"Content-Length": length, **headers}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def send(self, content: bytes, *, size: int = CHUNK, pause_s: float = 0.0) -> None:
        """A part of the body, piece by piece."""
        for at in range(0, len(content), size):
            if pause_s and self.server.closing.wait(pause_s):
                raise ConnectionAbortedError
            self.wfile.write(content[at : at + size])
            self.server.bytes_sent += len(content[at : at + size])

    def cut(self) -> None:
        """End the connection."""
        self.close_connection = True

    def reset(self) -> None:
        """End the connection as a crash does, with what was sent perhaps lost."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.cut()

    def log_message(self, *_: object) -> None:
        """Quiet."""


Fault = Callable[[Handler, bytes, int], None]  # answers a request for content from a byte on


class FaultyServer(ThreadingHTTPServer):
    """Serves the files in `root`; see :func:`serve`."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, root: Path, *, delay_s: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.delay_s = root, delay_s
        self.requests: list[Request] = []
        self.bytes_sent = 0
        self.closing = threading.Event()
        self._faults: list[tuple[Fault, str, float]] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Root of the files."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def misbehave(self, fault: Fault, *, on: str = "", times: float = float("inf")) -> None:
        """Answer the next `times` requests for paths with `on` in them with `fault`."""
        with self._lock:
            self._faults.append((fault, on, times))

    def behave(self) -> None:
        """No faults any more."""
        with self._lock:
            self._faults.clear()

    def note(self, request: Request) -> None:
        """Remember a request."""
        with self._lock:
            self.requests.append(request)

    def fault_for(self, path: str) -> Fault | None:
        """The first fault in force for `path`; one time of it is used up."""
        with self._lock:
            for i, (fault, on, times) in enumerate(self._faults):
                if on in path and times > 0:
                    self._faults[i] = (fault, on, times - 1)
                    return fault
        return None

    def handle_error(self, *_: object) -> None:
        """Quiet: connections are cut on purpose."""


@contextmanager
def serve(root: Path, *, delay_s: float = 0.0) -> Iterator[FaultyServer]:
    """A running server, each request answered `delay_s` later."""
    server = FaultyServer(root, delay_s=delay_s)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def status(code: int, body: bytes = b"", **headers: object) -> Fault:
    """Only a status."""

    def fault(handler: Handler, content: bytes, start: int) -> None:
        handler.begin(code, len(body), **headers)
        handler.send(body)

    return fault


def cut_after(count: int | Callable[[int], int]) -> Fault:
    """The right headers, some bytes, and then the connection ends."""

    def fault(handler: Handler, content: bytes, start: int) -> None:
        some = count if isinstance(count, int) else count(len(content))
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        handler.begin(206 if start else 200, len(content) - start, **headers)
        handler.send(content[start : start + some])
        handler.cut()

    return fault


def hang(handler: Handler, content: bytes, start: int) -> None:
    """No answer."""
    handler.server.closing.wait(30)
    handler.cut()


def hang_half_way(handler: Handler, content: bytes, start: int) -> None:
    """Half of the content, then nothing."""
    handler.begin(200, len(content))
    handler.send(content[: len(content) // 2])
    handler.server.closing.wait(30)
    handler.cut()


def drip(handler: Handler, content: bytes, start: int) -> None:
    """One byte every few milliseconds: never a timeout, never an end."""
    handler.begin(200, len(content))
    handler.send(content, size=1, pause_s=0.02)


def drip_headers(handler: Handler, content: bytes, start: int) -> None:
    """A header that never ends."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    handler.send(b"x" * 10_000, size=1, pause_s=0.02)


def truncated(handler: Handler, content: bytes, start: int) -> None:
    """A file that lacks its last byte."""
    handler.give(content[:-1])


def overlong(handler: Handler, content: bytes, start: int) -> None:
    """A file with one byte too many."""
    handler.give(content + b"x")


def endless(handler: Handler, content: bytes, start: int) -> None:
    """More and more, in chunks and without a stated length."""
    handler.begin(200, None, Transfer_Encoding="chunked")
    piece = content[:CHUNK]
    while True:
        handler.send(b"%x\r\n%s\r\n" % (len(piece), piece))


def tampered(handler: Handler, content: bytes, start: int) -> None:
    """One bit is another."""
    handler.give(content[:-1] + bytes([content[-1] ^ 1]), start)


def ignoring_range(handler: Handler, content: bytes, start: int) -> None:
    """The whole file, whatever part was asked for."""
    handler.give(content)


def wrong_range(handler: Handler, content: bytes, start: int) -> None:
    """Another part than the one asked for."""
    if not start:
        handler.give(content)
        return
    handler.begin(
        206, len(content) - start, Content_Range=f"bytes 0-{len(content) - start - 1}/{len(content)}"
    )
    handler.send(content[: len(content) - start])


def no_such_part(handler: Handler, content: bytes, start: int) -> None:
    """Status 416 for every part."""
    if start:
        status(416)(handler, content, start)
    else:
        handler.give(content)


def sign_in_page(handler: Handler, content: bytes, start: int) -> None:
    """What a captive portal answers to everything."""
    page = b"<html><title>Welcome to our network</title></html>"
    handler.give(page, Content_Type="text/html; charset=utf-8")


def long_sign_in_page(handler: Handler, content: bytes, start: int) -> None:
    """A web page that happens to be as long as the file."""
    handler.give(b"<html>".ljust(len(content), b" "), Content_Type="text/html")


def compressed(handler: Handler, content: bytes, start: int) -> None:
    """An encoding that was not asked for."""
    handler.give(content, Content_Encoding="gzip")


def redirect(target: str) -> Fault:
    """A redirection, ``{path}`` in `target` replaced."""

    def fault(handler: Handler, content: bytes, start: int) -> None:
        handler.begin(302, 0, Location=target.format(path=handler.path))

    return fault


def reset(handler: Handler, content: bytes, start: int) -> None:
    """Half of the content, then the connection is reset."""
    handler.begin(200, len(content))
    handler.send(content[: len(content) // 2])
    handler.reset()


def reset_at_once(handler: Handler, content: bytes, start: int) -> None:
    """No answer but a reset."""
    handler.reset()


def bad_gzip(handler: Handler, content: bytes, start: int) -> None:
    """What says that it is compressed, and is not."""
    handler.give(b"\x1f\x8b" + content, Content_Encoding="gzip")


def chunked(*pieces: bytes) -> Fault:
    """Some pieces as a body in chunks, and then the connection ends."""

    def fault(handler: Handler, content: bytes, start: int) -> None:
        handler.begin(200, None, Transfer_Encoding="chunked")
        for piece in pieces:
            handler.send(piece)
        handler.cut()

    return fault


def drip_chunk_size(handler: Handler, content: bytes, start: int) -> None:
    """The size of a chunk that never ends."""
    handler.begin(200, None, Transfer_Encoding="chunked")
    handler.send(b"1;" + b"x" * 10_000, size=1, pause_s=0.02)


def endless_headers(handler: Handler, content: bytes, start: int) -> None:
    """One header after another."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.send(b"X-More: again\r\n" * 10, pause_s=0.001)


def endless_continue(handler: Handler, content: bytes, start: int) -> None:
    """The wish to go on, again and again."""
    while True:
        handler.send(b"HTTP/1.1 100 Continue\r\n\r\n", pause_s=0.02)


def cut_head(handler: Handler, content: bytes, start: int) -> None:
    """The connection ends within the headers, before they say how long the body is."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: applic")
    handler.cut()


ATTACKS: dict[str, Fault] = {
    "cut head": cut_head,
    "cut": cut_after(lambda size: size // 2),
    "reset": reset,
    "reset at once": reset_at_once,
    "bad gzip": bad_gzip,
    "bad chunk": chunked(b"10\r\n0123456789abcdef\r\n", b"what?\r\n"),
    "cut chunk": chunked(b"ffff\r\n0123456789abcdef"),
    "drip": drip,
    "drip of headers": drip_headers,
    "drip of a chunk's size": drip_chunk_size,
    "endless headers": endless_headers,
    "endless 100": endless_continue,
    "hang": hang,
    "redirect": redirect("http://127.0.0.2:9{path}"),
    "truncated": lambda handler, content, start: handler.give(content[:-1]),
    "500": status(500),
    "429 for a day": status(429, Retry_After=86400),
}  # nothing of these is an answer to anything
