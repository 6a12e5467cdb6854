"""The same server on Ray Serve, where Ray is installed."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from selector.bundle.bundle import read_bundle
from selector.serving.on_ray import Options, packed, serving_on_ray
from tests.support.colours import StoredWorld
from tests.support.command_line import CommandLine
from tests.support.inference_client import Inference, answered, refused
from tests.support.small_models import plain_image
from zoo import Zoo

RED = plain_image("red")[np.newaxis]
TOKEN = "a-token-of-this-test"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def test_what_goes_to_the_nodes_is_all_that_serving_needs(small_zoo: Zoo, world: StoredWorld) -> None:
    assert set(packed(small_zoo.folder)) == {"zoo.json", *(card.file for card in small_zoo.cards)}
    bundle = read_bundle(world.bundles["cascade"])
    assert {"bundle.json", *(card.file for card in bundle.models)} <= set(packed(world.bundles["cascade"]))


@pytest.mark.filterwarnings("ignore")
def test_two_replicas_answer_as_the_models_do(small_zoo: Zoo) -> None:
    pytest.importorskip("ray.serve", reason="needs Ray, of the extra ray", exc_type=ImportError)
    images = np.random.default_rng(0).integers(0, 256, (32, 6, 6, 3), dtype=np.uint8)
    with serving_on_ray(small_zoo.folder, Options(token=TOKEN), replicas=2, port=free_port()) as url:
        client = Inference(url, TOKEN)
        with ThreadPoolExecutor(8) as many:
            found = list(many.map(lambda one: answered(client.infer("full", one[np.newaxis])), images))
        logits = np.concatenate([one["logits"] for one in found])
        assert np.allclose(logits, small_zoo.model("full").logits(images), atol=1e-5)
        assert client.ask("GET", "/v2/models/full").json["parameters"]["classes"] == ["red", "green", "blue"]
        refused(client.infer("full", RED.astype(np.float32)), 400)
        refused(client.infer("none", RED), 404)
        client.token = "another"
        refused(client.infer("full", RED), 401)


def test_without_ray_the_command_says_what_to_install(small_zoo: Zoo, zooselect: CommandLine) -> None:
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError:
        found = zooselect("zoo", "serve", small_zoo.folder, "--ray", "local", code=1)
        assert "zooselect[ray,serve]" in found.err
    else:
        pytest.skip("Ray is installed")
