"""A zoo whose largest model a server on the loopback holds, which can be told to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from benchmarks.network.server import Handler, InferenceServer, end, nan, served, serving
from tests.support.colours import colour_zoo
from zoo.models.zoo import Zoo
from zoo.remote.descriptor import Pixels, Remote
from zoo.remote.protocol import encode_error

Mode = Literal["answer", "hang", "refuse", "nan", "reset"]
UPLINK_BYTES = 700


class ModelServer:
    """Answers for the model ``full`` of the zoo of colours, or fails as its `mode` says."""

    def __init__(self, server: InferenceServer) -> None:
        self._server = server
        self.address = server.url
        self.released = threading.Event()
        self.mode = "answer"

    @property
    def asked(self) -> int:
        """Requests so far."""
        return len(self._server.asked)

    @property
    def mode(self) -> Mode:
        """What it does with requests."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        faults: dict[str, Callable[[Handler], None]] = {
            "hang": self._hang,
            "refuse": lambda handler: handler.give(503, encode_error("busy")),
            "nan": nan,
            "reset": end,
        }
        self._mode = mode
        self._server.fault = faults.get(mode)

    def _hang(self, handler: Handler) -> None:
        self.released.wait(20)
        end(handler)


@contextmanager
def model_server(folder: Path) -> Iterator[ModelServer]:
    """A server in a thread."""
    model = colour_zoo(folder).model("full")
    with serving(
        {"full": served(lambda images: model.run(images.astype(np.uint8)), model.card.classes)}
    ) as found:
        server = ModelServer(found)
        try:
            yield server
        finally:
            server.released.set()


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
