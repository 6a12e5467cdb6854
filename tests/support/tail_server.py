"""A small server of the Open Inference Protocol that holds the tail of one model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from zoo.models.model import open_session
from zoo.remote.protocol import (
    HEADER_LENGTH,
    InferResponse,
    decode_infer_request,
    encode_error,
    encode_infer_response,
)
from zoo.remote.tensors import Tensor


@contextmanager
def serving_tail(tail: bytes, name: str) -> Iterator[str]:
    """Address of a server of `tail` under a name."""
    session = open_session(tail, name=name)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path != f"/v2/models/{name}/infer":
                self._reply(404, encode_error(f"no model at {self.path}"), None)
                return
            request = decode_infer_request(body, self.headers.get(HEADER_LENGTH))
            (codes,) = request.inputs
            logits = session.run(["logits"], {codes.name: codes.values})[0]
            response = InferResponse(name, (Tensor("logits", logits),))
            message = encode_infer_response(response, request=request)
            self._reply(200, message.body, message.header_length)

        def _reply(self, status: int, body: bytes, header_length: int | None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if header_length is not None:
                self.send_header(HEADER_LENGTH, str(header_length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
