"""A server of the tails of a model, in a process of its own, behind a slow link on loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.distribution.network import MAX_LINE_BYTES, working
from selector.worth.best_cut import ANSWER_BYTES, REQUEST_BYTES
from zoo.convert.cut.cuttable import IMAGE, LOGITS
from zoo.convert.cut.measure import decode
from zoo.convert.cut.split import CODES
from zoo.models.session import open_session


class _Server(HTTPServer):
    """Answers one request after another."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.sessions: dict[str, Any] = {}

    def answer(self, part: str, sends: str, shape: list[int], body: bytes) -> bytes:
        """Logits of what was sent, by one part of the model; the session is kept."""
        if part not in self.sessions:
            self.sessions[part] = open_session((self.folder / f"{part}.onnx").read_bytes(), name=part)
        if sends in ("png", "jpeg"):
            pixels = decode(body)[np.newaxis]
        else:
            pixels = np.frombuffer(body, np.uint8).reshape(shape)
        source = IMAGE if part == "whole" else CODES
        logits: bytes = self.sessions[part].run([LOGITS], {source: pixels})[0].tobytes()
        return logits


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or the second of two small writes waits 40 ms
    server: _Server

    def do_POST(self) -> None:
        """Wait as long as the link takes, and answer."""
        order = json.loads(self.headers["Order"])
        body = self.rfile.read(int(self.headers["Content-Length"]))
        bits_per_s = order["mbps"] * 1e6
        time.sleep(order["rtt_ms"] / 1e3 + (len(body) + REQUEST_BYTES) * 8 / bits_per_s)
        logits = self.server.answer(order["part"], order["sends"], order["shape"], body)
        time.sleep((len(logits) + ANSWER_BYTES) * 8 / bits_per_s)
        self.send_response(200)
        self.send_header("Content-Length", str(len(logits)))
        self.end_headers()
        self.wfile.write(logits)

    def log_message(self, *_: object) -> None:
        """Nothing: the output is a table."""


class Link:
    """One kept connection to the server of the parts in a folder."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._connection = http.client.HTTPConnection(host, int(port))

    def ask(self, body: bytes, **order: Any) -> bytes:
        """Logits as float32 bytes, after the link's time; `order` is what :meth:`_Handler.do_POST` reads."""
        self._connection.request("POST", "/", body, {"Order": json.dumps(order)})
        return self._connection.getresponse().read()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


@contextmanager
def linked(folder: Path) -> Iterator[Link]:
    """A link to a server of the parts in a folder, ``<part>.onnx`` each."""
    with (
        working("benchmarks.network.cut_server:serve", json.dumps(str(folder))) as process,
        contextlib.closing(Link(process.read_line(MAX_LINE_BYTES).decode().strip())) as link,
    ):
        yield link


def serve(orders: IO[bytes], answers: IO[bytes]) -> None:
    """That process: serves until its input ends."""
    server = _Server(Path(json.loads(orders.readline())))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    answers.write(f"127.0.0.1:{server.server_address[1]}\n".encode())
    answers.flush()
    orders.read()
    server.shutdown()
