"""The server answers a client of others: that of Triton, where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.colours import StoredWorld
from tests.support.inference_client import file_of, inference
from tests.support.small_models import plain_image
from zoo import Zoo

triton = pytest.importorskip(
    "tritonclient.http", reason="needs tritonclient: pip install 'tritonclient[http]'", exc_type=ImportError
)

IMAGES = np.stack([plain_image("red"), plain_image("blue")])


@pytest.fixture
def client(small_zoo: Zoo) -> Iterator[Any]:
    with inference(small_zoo.folder) as made:
        yield triton.InferenceServerClient(made.url.removeprefix("http://"))


def asked(values: np.ndarray, datatype: str, *, binary: bool = True) -> Any:
    one = triton.InferInput("image", list(values.shape), datatype)
    one.set_data_from_numpy(values, binary_data=binary)
    return one


def test_it_finds_the_server_and_its_models(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("full")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("full")["parameters"]["classes"] == ["red", "green", "blue"]
    assert not client.is_model_ready("none")


@pytest.mark.parametrize("binary", [True, False])
def test_it_reads_logits(client: Any, small_zoo: Zoo, binary: bool) -> None:
    wanted = [triton.InferRequestedOutput("logits", binary_data=binary)]
    answer = client.infer("full", [asked(IMAGES, "UINT8", binary=binary)], outputs=wanted, request_id="7")
    assert np.allclose(answer.as_numpy("logits"), small_zoo.model("full").logits(IMAGES))
    assert answer.get_response()["id"] == "7"
    assert np.array_equal(
        client.infer("full", [asked(IMAGES, "UINT8")]).as_numpy("logits"), answer.as_numpy("logits")
    )


def test_it_sends_files(client: Any, small_zoo: Zoo) -> None:
    files = np.array([file_of(one) for one in IMAGES], dtype=np.object_)
    found = client.infer("full", [asked(files, "BYTES")]).as_numpy("logits")
    assert np.allclose(found, small_zoo.model("full").logits(IMAGES))


def test_it_reads_why_a_request_was_refused(client: Any) -> None:
    with pytest.raises(triton.InferenceServerException, match="expected 'image' UINT8"):
        client.infer("full", [asked(IMAGES.astype(np.float32), "FP32")])
    with pytest.raises(triton.InferenceServerException, match="expected a model among"):
        client.infer("none", [asked(IMAGES, "UINT8")])


def test_it_asks_a_bundle_for_a_precision(world: StoredWorld, tmp_path: Path) -> None:
    with inference(world.bundles["cascade"], name="colours") as made:
        client = triton.InferenceServerClient(made.url.removeprefix("http://"))
        answer = client.infer("colours", [asked(IMAGES, "UINT8")], parameters={"precision": 0.8})
        assert answer.as_numpy("label").tolist() == [b"red", b"blue"]
        assert answer.as_numpy("certified").tolist() == [True, True]
