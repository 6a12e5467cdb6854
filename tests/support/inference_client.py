"""A client of the Open Inference Protocol for tests, and a server for it to speak to."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import urllib3
from PIL import Image

from selector.fleet.server import serving
from selector.serving.app import Server, make_app
from selector.serving.questions import Limits
from selector.serving.served import open_served
from tests.support.small_service import HANG_S, Answer
from zoo.remote.protocol import (
    InferRequest,
    InferResponse,
    Message,
    Tensor,
    bytes_tensor,
    decode_infer_response,
    encode_infer_request,
)


@dataclass
class Inference:
    """Speaks to a server under test, on connections that it keeps."""

    url: str
    token: str | None = None

    def __post_init__(self) -> None:
        self.pool = urllib3.PoolManager(retries=False, timeout=HANG_S, maxsize=8)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request."""
        named = {} if self.token is None else {"authorization": f"Bearer {self.token}"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        got = self.pool.request(method, self.url + path, body=body, headers=named)
        return Answer(got.status, got.headers, got.data)

    def send(self, model: str, message: Message) -> Answer:
        """A message to a model."""
        return self.ask("POST", f"/v2/models/{model}/infer", message.body, **message.headers)

    def infer(
        self, model: str, values: Any, *, name: str = "image", binary: bool = True, **parameters: Any
    ) -> Answer:
        """What the model says to an array, or to a list of files."""
        tensor = bytes_tensor(name, values) if isinstance(values, list) else Tensor(name, values)
        request = InferRequest((tensor,), binary_outputs=binary, parameters=parameters)
        return self.send(model, encode_infer_request(request, binary=binary))


def answered(answer: Answer) -> dict[str, Any]:
    """The outputs of an answer by name."""
    assert answer.status == 200, answer
    found: InferResponse = decode_infer_response(
        answer.content, answer.headers.get("Inference-Header-Content-Length")
    )
    return {one.name: one.values for one in found.outputs}


def refused(answer: Answer, status: int) -> str:
    """The text of a refusal in the protocol's form."""
    assert answer.status == status, answer
    assert set(answer.json) == {"error"}
    text: str = answer.json["error"]
    return text


def file_of(image: np.ndarray, kind: str = "PNG") -> bytes:
    """The content of a file of that image."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


@contextlib.contextmanager
def inference(
    folder: Path, *, limits: Limits | None = None, token: str | None = None, **more: Any
) -> Iterator[Inference]:
    """A client of a server of a zoo or a bundle, on a socket of this machine."""
    server = Server(open_served(folder, name=more.pop("name", None)), limits=limits, token=token, **more)
    with serving(make_app(server)) as url:
        yield Inference(url, token)
