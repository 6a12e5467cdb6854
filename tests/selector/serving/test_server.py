"""A server of models and bundles: it answers as they do, and refuses the rest in the protocol's form."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selector import Selector
from selector.serving.batcher import BatchLimits
from selector.serving.questions import Limits
from tests.support.colours import StoredWorld, colour_pixels
from tests.support.command_line import CommandLine
from tests.support.inference_client import Inference, answered, file_of, inference, refused
from tests.support.small_models import add_colours, build_onnx, plain_image
from zoo import Zoo
from zoo.remote.protocol import InferRequest, Message, Tensor, encode_infer_request

RED = plain_image("red")
TOKEN = "a-token-of-this-test"


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    zoo = Zoo.create(tmp_path_factory.mktemp("served") / "zoo")
    add_colours(zoo, "full", build_onnx(work=2))
    add_colours(zoo, "spoiled", build_onnx(spoiled="Sqrt"))
    return zoo


@pytest.fixture(scope="module")
def client(zoo: Zoo) -> Iterator[Inference]:
    with inference(zoo.folder, limits=Limits(body_bytes=100_000, images=16, pixels=10_000)) as made:
        yield made


@pytest.fixture(scope="module")
def bundle(world: StoredWorld) -> Iterator[tuple[Inference, Path]]:
    with inference(world.bundles["cascade"], name="colours") as made:
        yield made, world.bundles["cascade"]


def test_it_says_what_it_is_and_what_it_serves(client: Inference, zoo: Zoo) -> None:
    assert client.ask("GET", "/v2").json["extensions"] == ["binary_tensor_data"]
    assert client.ask("GET", "/v2/health/live").json == {"live": True}
    assert client.ask("GET", "/v2/health/ready").json == {"ready": True}
    version = zoo.card("full").sha256[:12]
    about = client.ask("GET", f"/v2/models/full/versions/{version}").json
    assert about == client.ask("GET", "/v2/models/full").json
    assert about["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert about["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]
    assert about["parameters"]["classes"] == ["red", "green", "blue"]
    assert client.ask("GET", "/v2/models/full/ready").json == {"name": "full", "ready": True}
    assert "full, spoiled" in refused(client.ask("GET", "/v2/models/none"), 404)
    refused(client.ask("GET", "/v2/models/full/versions/1"), 404)
    refused(client.ask("GET", "/v3"), 404)
    refused(client.ask("GET", "/v2/models/full/infer"), 405)


@pytest.mark.parametrize("binary", [True, False])
def test_a_model_answers_as_it_does_here(client: Inference, zoo: Zoo, binary: bool) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
    found = answered(client.infer("full", images, binary=binary))["logits"]
    assert np.array_equal(found, zoo.model("full").logits(images))


def test_files_of_images_are_decoded(client: Inference, zoo: Zoo) -> None:
    images = [plain_image("red"), plain_image("blue", (5, 9))]
    found = answered(client.infer("full", [file_of(one) for one in images]))["logits"]
    assert np.array_equal(
        found, np.concatenate([zoo.model("full").logits(one[np.newaxis]) for one in images])
    )
    assert answered(client.infer("full", [file_of(RED, "JPEG")]))["logits"].argmax() == 0


def test_a_bundle_answers_as_its_selector_does(bundle: tuple[Inference, Path]) -> None:
    client, folder = bundle
    selector, images = Selector.load(folder), colour_pixels(14).pixels
    for asked in ({}, {"precision": 0.8}, {"max_drop": 0.1}, {"mean_ms": 5}):
        found = answered(client.infer("colours", images, **asked))
        expected = selector.predict_batch(images, **asked)
        assert [one.decode() for one in found["label"]] == [one.label for one in expected]
        assert [one.decode() for one in found["model"]] == [one.model for one in expected]
        assert found["certified"].tolist() == [one.certified for one in expected]
        assert [one.decode() for one in found["reason"]] == [one.reason or "" for one in expected]
        assert np.allclose(found["probabilities"], [one.probabilities for one in expected], atol=1e-6)


@pytest.mark.parametrize(
    "asked",
    [
        {"precision": 2},
        {"precision": "0.9"},
        {"precision": True},
        {"speed": 1},
        {"precision": 0.9, "mean_ms": 1},
    ],
)
def test_what_a_bundle_cannot_be_asked_is_refused(
    bundle: tuple[Inference, Path], asked: dict[str, Any]
) -> None:
    assert "expected" in refused(bundle[0].infer("colours", RED[np.newaxis], **asked), 400)


def test_only_the_outputs_that_are_wanted_come(bundle: tuple[Inference, Path]) -> None:
    request = InferRequest((Tensor("image", RED[np.newaxis]),), outputs=("label",), id="seven")
    answer = bundle[0].send("colours", encode_infer_request(request))
    assert answered(answer)["label"].tolist() == [b"red"]
    unknown = InferRequest((Tensor("image", RED[np.newaxis]),), outputs=("lable",))
    assert "'lable'" in refused(bundle[0].send("colours", encode_infer_request(unknown)), 400)


@pytest.mark.parametrize(
    "values",
    [
        RED,  # no axis of images
        RED[np.newaxis].astype(np.float32),
        RED[np.newaxis, :, :, :1],
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((1, 0, 8, 3), np.uint8),
        np.zeros((17, 1, 1, 3), np.uint8),  # too many
        np.zeros((2, 80, 80, 3), np.uint8),  # too large together
        [],
        [b""],
        [b"no image"],
        [file_of(RED)[:50]],
        [file_of(np.zeros((4000, 4000, 3), np.uint8))],  # 47 kB that become 48 MB
        [file_of(np.zeros((80, 80, 3), np.uint8))] * 2,
        [file_of(RED)] * 17,
    ],
)
def test_images_that_are_none_are_refused(client: Inference, values: Any) -> None:
    assert "expected" in refused(client.infer("full", values), 400)


def message(values: Any = RED[np.newaxis], **changes: Any) -> tuple[bytes, bytes]:
    """JSON and tensor of a request that is right but for the changes of its input."""
    one = {"name": "image", "datatype": "UINT8", "shape": list(values.shape)}
    one |= {"parameters": {"binary_data_size": values.nbytes}} | changes
    return json.dumps({"inputs": [one]}).encode(), values.tobytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [2, 8, 8, 3]},
        {"shape": [1, 8, 8, -3]},
        {"shape": [2**40, 2**40, 8, 3]},
        {"shape": "1,8,8,3"},
        {"datatype": "BYTES", "shape": [1]},
        {"datatype": "UINT4"},
        {"name": "picture"},
        {"parameters": {"binary_data_size": 10**12}},
        {"parameters": {"binary_data_size": -1}},
        {"parameters": None},
        {"data": [1, 2]},
    ],
)
def test_a_request_that_lies_about_its_tensor_is_refused(client: Inference, changes: dict[str, Any]) -> None:
    head, tensor = message(**changes)
    refused(client.send("full", Message(head + tensor, len(head))), 400)
    assert answered(client.infer("full", RED[np.newaxis]))


@pytest.mark.parametrize("length", [0, -1, "x", 10**9, "0" * 500])
def test_a_length_of_the_header_that_is_none_is_refused(client: Inference, length: Any) -> None:
    head, tensor = message()
    answer = client.ask(
        "POST", "/v2/models/full/infer", head + tensor, inference_header_content_length=str(length)
    )
    refused(answer, 400)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[" * 5000, b'{"inputs": []}', b"\xff\xfe", struct.pack("<I", 7)]
)
def test_a_body_that_is_no_request_is_refused(client: Inference, body: bytes) -> None:
    refused(client.ask("POST", "/v2/models/full/infer", body), 400)


def test_a_body_that_is_too_large_is_refused_said_or_not(client: Inference) -> None:
    assert "100,000 bytes" in refused(client.ask("POST", "/v2/models/full/infer", b"x" * 100_001), 413)
    chunks = (b"x" * 1000 for _ in range(101))
    assert "100,000 bytes" in refused(client.ask("POST", "/v2/models/full/infer", chunks), 413)
    zipped = client.ask("POST", "/v2/models/full/infer", b"x", content_encoding="gzip")
    assert "no content encoding" in refused(zipped, 415)


def test_an_answer_that_is_not_finite_is_an_error_of_the_server(client: Inference) -> None:
    images = np.stack([RED, np.full((8, 8, 3), 255, np.uint8)])
    assert "finite" in refused(client.infer("spoiled", images), 500)


def test_one_bad_image_does_not_spoil_the_answers_of_others(zoo: Zoo) -> None:
    bad = np.full((1, 8, 8, 3), 255, np.uint8)
    with (
        inference(zoo.folder, limits=Limits(batch=BatchLimits(wait_ms=50))) as client,
        ThreadPoolExecutor(8) as many,
    ):
        found = list(
            many.map(lambda i: client.infer("spoiled", bad if i % 4 == 0 else RED[np.newaxis]), range(32))
        )
    assert [one.status for one in found] == [500 if i % 4 == 0 else 200 for i in range(32)]


def test_requests_that_wait_are_answered_together_each_with_its_own(zoo: Zoo) -> None:
    images = np.random.default_rng(1).integers(0, 256, (64, 4, 4, 3), dtype=np.uint8)
    expected = zoo.model("full").logits(images)
    with inference(zoo.folder, runs=2) as client, ThreadPoolExecutor(8) as many:
        found = list(many.map(lambda image: answered(client.infer("full", image[np.newaxis])), images))
    assert np.allclose(np.concatenate([one["logits"] for one in found]), expected, atol=1e-5)


def test_more_than_may_wait_is_told_to_come_later(zoo: Zoo) -> None:
    few = Limits(batch=BatchLimits(waiting_images=1, batch_images=1), deadline_s=60)
    big = np.zeros((64, 64, 64, 3), np.uint8)
    with inference(zoo.folder, limits=few) as client, ThreadPoolExecutor(12) as many:
        found = list(many.map(lambda _: client.infer("full", big), range(24)))
        assert {one.status for one in found} == {200, 503}
        busy = next(one for one in found if one.status == 503)
        assert busy.headers["retry-after"] == "1"
        assert "wait" in refused(busy, 503)
        assert answered(client.infer("full", RED[np.newaxis]))


def test_bodies_beyond_the_room_for_them_are_told_to_come_later(zoo: Zoo) -> None:
    with inference(zoo.folder, limits=Limits(bodies_bytes=1000)) as client:
        refused(client.infer("full", np.zeros((1, 30, 30, 3), np.uint8)), 503)
        assert answered(client.infer("full", RED[np.newaxis]))


def test_an_answer_after_the_deadline_is_none(client: Inference) -> None:
    assert "within" in refused(client.infer("full", RED[np.newaxis], timeout=0.001), 504)
    refused(client.infer("full", RED[np.newaxis], timeout=-1), 400)
    refused(client.infer("full", RED[np.newaxis], timeout="soon"), 400)
    assert answered(client.infer("full", RED[np.newaxis], timeout=60_000_000))


def test_a_model_can_be_asked_nothing_else(client: Inference) -> None:
    assert "Serve a bundle" in refused(client.infer("full", RED[np.newaxis], precision=0.9), 400)


def test_without_the_token_only_health_is_told(zoo: Zoo) -> None:
    with inference(zoo.folder, token=TOKEN) as client:
        assert answered(client.infer("full", RED[np.newaxis]))
        for wrong in (None, "another", TOKEN[:-1], "ä"):
            client.token = wrong
            assert client.ask("GET", "/v2/health/ready").status == 200
            for path in ("/v2", "/v2/models/full", "/v2/models/none"):
                refused(client.ask("GET", path), 401)
            refused(client.infer("full", np.zeros((1, 300, 300, 3), np.uint8)), 401)


def test_the_command_serves_until_it_is_told_to_stop(zoo: Zoo, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    command = [sys.executable, "-m", "selector", "zoo", "serve", str(zoo.folder), "--port", "0"]
    with subprocess.Popen(
        [*command, "--token-file", str(token)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert line.startswith("full, spoiled at http://127.0.0.1:")
        client = Inference(line.split()[-1].removesuffix("/v2"), TOKEN)
        assert answered(client.infer("full", RED[np.newaxis]))["logits"].argmax() == 0
        process.terminate()
        process.wait(60)


def test_the_command_refuses_what_it_cannot_serve(zoo: Zoo, tmp_path: Path, zooselect: CommandLine) -> None:
    assert "expected a zoo" in zooselect("zoo", "serve", tmp_path, code=1).err
    assert "--name" in zooselect("zoo", "serve", zoo.folder, "--name", "birds", code=1).err
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o644)
    assert (
        "chmod 600" in zooselect("zoo", "serve", zoo.folder, "--token-file", tmp_path / "token", code=1).err
    )
    (tmp_path / "short").write_text("short")
    (tmp_path / "short").chmod(0o600)
    assert "openssl" in zooselect("zoo", "serve", zoo.folder, "--token-file", tmp_path / "short", code=1).err
