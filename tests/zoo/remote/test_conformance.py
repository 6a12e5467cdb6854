"""The client against an independent server of the protocol: MLServer, where it is installed.

It needs an environment of its own with ``mlserver==1.7.1``, whose folder ZOOSELECT_MLSERVER names.
"""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from zoo import Zoo
from zoo.convert.foreign.add_remote import add_remote
from zoo.errors import UnreachableError
from zoo.remote.client import Client
from zoo.remote.discover import Wanted

PROGRAM = Path(os.environ.get("ZOOSELECT_MLSERVER", "none")) / "bin" / "mlserver"
RUNTIME = """
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

class Means(MLModel):
    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = NumpyCodec.decode_input(payload.inputs[0])
        values = images.reshape(len(images), -1, 3).mean(axis=1).astype(np.float32)
        output = NumpyCodec.encode_output("logits", values)
        return InferenceResponse(model_name=self.name, outputs=[output])
"""
pytestmark = pytest.mark.skipif(
    not PROGRAM.is_file(), reason="MLServer is in no environment that ZOOSELECT_MLSERVER names"
)


def _port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlserver")
    (folder / "means.py").write_text(RUNTIME)
    ports = {kind: _port() for kind in ("http_port", "grpc_port", "metrics_port")}
    settings = {"host": "127.0.0.1", "parallel_workers": 0, **ports}
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {
        "name": "means",
        "implementation": "means.Means",
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}],
    }
    (folder / "model-settings.json").write_text(json.dumps(model))
    log = (folder / "log").open("wb")
    process = subprocess.Popen([PROGRAM, "start", "."], cwd=folder, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{ports['http_port']}"
    try:
        end = time.monotonic() + 90
        while True:
            try:
                Client(address).model("means", deadline_s=2)
                break
            except UnreachableError:
                if process.poll() is not None or time.monotonic() > end:
                    pytest.fail((folder / "log").read_text()[-3000:])
                time.sleep(0.3)
        yield address
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def test_a_model_of_mlserver_is_added_and_answers(url, tmp_path):
    zoo = Zoo.open_or_create(tmp_path / "zoo")
    card = add_remote(zoo, url, "means", wanted=Wanted(classes=("red", "green", "blue")))
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 9, 3), dtype=np.uint8)
    expected = images.reshape(3, -1, 3).mean(axis=1)
    assert np.allclose(zoo.model("means").logits(images), expected, rtol=1e-5)
    assert card.remote.uplink_bytes > 3 * 32 * 32
    assert card.remote.binary == (card.remote.uplink_bytes < 4000)


def test_a_model_that_mlserver_does_not_hold_is_an_error_of_ours(url, tmp_path):
    with pytest.raises(UnreachableError, match=r"status 404.*not.*found"):
        add_remote(Zoo.open_or_create(tmp_path / "zoo"), url, "other")
