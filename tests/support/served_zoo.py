"""A zoo whose largest model a server on the loopback holds, which can be told to fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from tests.support.colours import colour_zoo
from zoo.models.zoo import Zoo
from zoo.remote.descriptor import Pixels, Remote
from zoo.remote.protocol import (
    HEADER_LENGTH,
    InferResponse,
    Tensor,
    decode_infer_request,
    encode_infer_response,
)

Mode = Literal["answer", "hang", "refuse", "nan", "reset"]
UPLINK_BYTES = 700


class ModelServer:
    """Answers for the model ``full`` of the zoo of colours; `asked` counts requests."""

    def __init__(self, folder: Path) -> None:
        model = colour_zoo(folder).model("full")
        self.mode: Mode = "answer"
        self.asked = 0
        self.released = threading.Event()
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet an answer

            def do_POST(self) -> None:
                served.asked += 1
                length = self.headers.get(HEADER_LENGTH)
                request = decode_infer_request(self.rfile.read(int(self.headers["Content-Length"])), length)
                if served.mode == "hang":
                    served.released.wait(20)
                if served.mode in ("hang", "reset"):
                    self.close_connection = True
                    return
                logits = model.run(request.inputs[0].values.astype(np.uint8))
                if served.mode == "nan":
                    logits[:] = np.nan
                message = encode_infer_response(
                    InferResponse("full", (Tensor("logits", logits),)), request=request
                )
                self.send_response(503 if served.mode == "refuse" else 200)
                for name, value in message.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(message.body)))
                self.end_headers()
                self.wfile.write(message.body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Answer nothing any more."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def model_server(folder: Path) -> Iterator[ModelServer]:
    """A server in a thread."""
    server = ModelServer(folder)
    try:
        yield server
    finally:
        server.close()


def served_zoo(
    folder: Path, address: str, *, names: tuple[str, ...] = ("tiny", "small", "full"), **how: Any
) -> Zoo:
    """The zoo of colours with ``full`` on a server; `how` are fields of its descriptor."""
    zoo = colour_zoo(folder)
    card = zoo.card("full")
    zoo.remove("full")
    remote = Remote(
        address=address,
        model="full",
        **{
            "input_name": "image",
            "output_name": "logits",
            "pixels": Pixels(size=(12, 12)),
            "uplink_bytes": UPLINK_BYTES,
            "downlink_bytes": 300,
            **how,
        },
    )
    zoo.add(
        "full",
        msgspec.json.encode(remote),
        classes=card.classes,
        resolution=card.resolution,
        parameters=card.parameters,
        macs=card.macs,
        remote=remote,
    )
    return zoo.only(names)
