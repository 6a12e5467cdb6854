"""A small server of the Open Inference Protocol on 127.0.0.1, which misbehaves on demand."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ProtocolError
from zoo.remote.protocol import (
    BINARY_EXTENSION,
    HEADER_LENGTH,
    InferResponse,
    ModelMetadata,
    ServerMetadata,
    Tensor,
    TensorMetadata,
    decode_infer_request,
    encode_error,
    encode_infer_response,
    encode_metadata,
)

HANG_S = 0.5  # longer than any deadline that is tried


@dataclass
class Served:
    """A model: its metadata, and its answer to the one input of a request."""

    answer: Callable[[NDArray[Any]], NDArray[Any]]
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]
    classes: tuple[str, ...] = ()


def served(answer: Callable[[NDArray[Any]], NDArray[Any]], classes: tuple[str, ...], **given: Any) -> Served:
    """A model of images uint8 ``[N, H, W, 3]``, unless `given` says otherwise."""
    return Served(
        answer,
        given.get("inputs", (TensorMetadata(name="image", datatype="UINT8", shape=(-1, -1, -1, 3)),)),
        given.get("outputs", (TensorMetadata(name="logits", datatype="FP32", shape=(-1, len(classes))),)),
        given.get("named", classes),
    )


class Handler(BaseHTTPRequestHandler):
    """Answers by the protocol, or as the fault in force says."""

    server: InferenceServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 10
    body = b""

    def do_GET(self) -> None:
        """Metadata and health."""
        self.server.asked.append((self.path, dict(self.headers)))
        if self.server.version_1:
            return self.give(200, b'{"models": ["m"]}') if self.path == "/v1/models" else self.missing()
        if self.path == "/v2":
            return self.give(
                200, encode_metadata(ServerMetadata(name="small", extensions=self.server.extensions))
            )
        if self.path == "/v2/health/ready":
            return self.give(200, b"")
        name = self.path.removeprefix("/v2/models/").split("/")[0]
        model = self.server.models.get(name)
        if model is None:
            return self.missing()
        parameters = {"classes": list(model.classes)} if model.classes else None
        record = ModelMetadata(name=name, inputs=model.inputs, outputs=model.outputs, parameters=parameters)
        return self.give(200, encode_metadata(record))

    def do_POST(self) -> None:
        """Inference."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, dict(self.headers)))
        fault, self.body = self.server.fault, body
        with suppress(OSError):
            if fault is not None:
                fault(self)
            else:
                self.infer(body)

    def infer(self, body: bytes) -> None:
        """Answer with the model."""
        name = self.path.removeprefix("/v2/models/").split("/")[0]
        model = self.server.models.get(name)
        if model is None:
            return self.missing()
        try:
            request = decode_infer_request(body, self.headers.get(HEADER_LENGTH))
            if self.headers.get(HEADER_LENGTH) and not self.server.extensions:
                raise ProtocolError("no binary tensors here")
        except ProtocolError as error:
            return self.give(400, encode_error(str(error)))
        values = model.answer(request.inputs[0].values)
        response = InferResponse(name, (Tensor(model.outputs[0].name, values),))
        message = encode_infer_response(response, request=request)
        return self.give(200, message.body, message.headers)

    def give(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def missing(self) -> None:
        """Say that there is no such thing."""
        self.give(404, encode_error("not found"))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def hang(handler: Handler) -> None:
    """Never answer."""
    time.sleep(HANG_S)
    handler.close_connection = True


def drip(handler: Handler) -> None:
    """One byte now and then, in the headers or in the body."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n" + (b"\r\n" if random.random() < 0.5 else b"X: ")
    handler.wfile.write(head)
    end = time.monotonic() + HANG_S
    while time.monotonic() < end:
        handler.wfile.write(b" ")
        time.sleep(0.004)
    handler.close_connection = True


def reset(handler: Handler) -> None:
    """End the connection at once, before an answer or within it."""
    if random.random() < 0.5:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True


def end(handler: Handler) -> None:
    """End the connection without a word."""
    handler.close_connection = True


_ANSWER = b'{"model_name": "m", "outputs": [{"name": "logits", "datatype": "FP32", %s}]}'
_LIES: tuple[tuple[int, bytes], ...] = (
    (200, b"<html>sign in</html>"),
    (200, b""),
    (200, b"[" * 5000),
    (200, _ANSWER % b'"shape": [1, 3], "data": [1]'),
    (200, _ANSWER % b'"shape": [9999999999], "data": [1]'),
    (200, _ANSWER % b'"shape": [1, 2], "data": [1, 2]'),
    (200, b"x" * 5_000_000),
    (302, b""),
    (401, b'{"error": "who are you"}'),
    (404, b'{"error": "no such model"}'),
    (500, b'{"error": "' + b"e" * 100_000 + b'"}'),
    (503, b""),
)


def lie(handler: Handler) -> None:
    """Something else than an answer."""
    status, body = random.choice(_LIES)
    handler.give(status, body)


def nan(handler: Handler) -> None:
    """An answer of NaN."""
    response = InferResponse("m", (Tensor("logits", np.full((1, 3), np.nan, np.float32)),))
    message = encode_infer_response(response)
    handler.give(200, message.body, message.headers)


FAULTS: Mapping[str, Callable[[Handler], None]] = {
    "hangs": hang,
    "drips": drip,
    "resets": reset,
    "lies": lie,
    "dies": end,
}


def stop(handler: Handler) -> None:
    """End all connections, as a server that is killed and comes back."""
    handler.server.drop()
    handler.close_connection = True


def by_turns(seed: int) -> Callable[[Handler], None]:
    """A right answer, or one of the faults, drawn anew for each request."""
    drawn = random.Random(seed)
    kinds: list[Callable[[Handler], None]] = [
        *FAULTS.values(),
        stop,
        lambda handler: handler.infer(handler.body),
    ]
    return lambda handler: drawn.choice(kinds)(handler)


class InferenceServer(ThreadingHTTPServer):
    """The server; see :func:`serving`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, models: Mapping[str, Served]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models = dict(models)
        self.fault: Callable[[Handler], None] | None = None
        self.extensions: tuple[str, ...] = (BINARY_EXTENSION,)
        self.version_1 = False
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.connections: list[tuple[str, int]] = []
        self._lines: list[socket.socket] = []
        self._lines_lock = threading.Lock()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def drop(self) -> None:
        """End all connections at once, as a server that is killed."""
        with self._lines_lock:
            lines, self._lines = self._lines, []
        for line in lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Note the connection, then as the server does."""
        with self._lines_lock:
            self._lines.append(request)
            self.connections.append(client_address)
        super().process_request(request, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: the other side has gone."""


@contextmanager
def serving(models: Mapping[str, Served]) -> Iterator[InferenceServer]:
    """A server of `models` by name, until the end of the block."""
    server = InferenceServer(models)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
