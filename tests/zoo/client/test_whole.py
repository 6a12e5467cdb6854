"""Claims about models in one request: a short cut that can only save time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.distribution.network import SlowServer
from tests.support.small_models import COLOURS, plain_image
from tests.support.small_publisher import Publisher, colour_publisher
from zoo import Zoo
from zoo.client.client import Client
from zoo.client.trust import Trust
from zoo.releases.release import ModelRelease
from zoo.store.store import Store

PAIRS = 5


def many_tensors() -> bytes:
    """A classifier of the mean colour with ten tensors of 5 KB."""
    rng = np.random.default_rng(0)
    constants = {"axes": np.array([1, 2], np.int64), "scale": np.float32(1 / 255).reshape(1)}
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "axes"], ["x0"], keepdims=0),
    ]
    for i in range(PAIRS):
        wide = rng.normal(0, 1, (3, 400)).astype(np.float32)
        constants[f"up{i}"] = wide
        constants[f"down{i}"] = np.linalg.pinv(wide).astype(np.float32)
        nodes.append(helper.make_node("MatMul", [f"x{i}", f"up{i}"], [f"y{i}"]))
        end = "logits" if i == PAIRS - 1 else f"x{i + 1}"
        nodes.append(helper.make_node("MatMul", [f"y{i}", f"down{i}"], [end]))
    graph = helper.make_graph(
        nodes,
        "many",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


@pytest.fixture
def publisher(tmp_path: Path, small_zoo: Zoo) -> Publisher:
    small_zoo.add("many", many_tensors(), classes=COLOURS, resolution=(8, 8), parameters=12000, macs=12000)
    return colour_publisher(tmp_path / "publisher", small_zoo)


@pytest.fixture
def client(tmp_path: Path, publisher: Publisher, server: SlowServer) -> Iterator[Client]:
    Trust.pin(tmp_path / "device" / "tuf", publisher.root)
    made = Client(Store.open(tmp_path / "device"), server.url, timeout_s=2)
    yield made
    made.close()


def release_of(client: Client) -> ModelRelease:
    return client.refresh().index.models["many"]


def whole_file(publisher: Publisher, release: ModelRelease) -> Path:
    assert release.whole is not None
    return publisher.folder / release.whole.path


def install(client: Client, server: SlowServer) -> int:
    """Install the model and return how many requests its blobs took."""
    client.refresh()
    server.forget()
    client.install(models=["many"])
    image = plain_image("green")[None]
    assert client.store.model("many").logits(image)[0].argmax() == COLOURS.index("green")
    assert client.store.verify() == ()
    assert not list((client.store.folder / "partial").iterdir())
    return server.requests - 2  # of the metadata


def test_a_new_model_comes_in_one_request(client: Client, server: SlowServer) -> None:
    assert len(release_of(client).blobs) > 8
    assert install(client, server) == 1


def test_a_model_of_a_few_parts_has_no_whole(client: Client) -> None:
    assert client.refresh().index.models["tiny"].whole is None


def test_the_whole_takes_no_room_on_the_device(client: Client, server: SlowServer) -> None:
    release = release_of(client)
    client.store.budget_bytes = release.size_bytes
    install(client, server)
    assert client.store.used_bytes() == release.size_bytes


def test_with_a_part_there_only_the_others_are_fetched(client: Client, server: SlowServer) -> None:
    release = release_of(client)
    first = dict([next(iter(release.blobs.items()))])
    client.fetcher.fetch(first, client.store)
    assert install(client, server) == len(release.blobs) - 1


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_cut_short_the_rest_comes_part_by_part(
    client: Client, server: SlowServer, publisher: Publisher, share: float
) -> None:
    release = release_of(client)
    path = whole_file(publisher, release)
    path.write_bytes(path.read_bytes()[: int(release.size_bytes * share)])
    assert 2 <= install(client, server) <= 1 + len(release.blobs)


def test_without_the_file_all_comes_part_by_part(
    client: Client, server: SlowServer, publisher: Publisher
) -> None:
    release = release_of(client)
    whole_file(publisher, release).unlink()
    assert install(client, server) == 1 + len(release.blobs)


def test_a_changed_part_is_not_believed(client: Client, server: SlowServer, publisher: Publisher) -> None:
    release = release_of(client)
    path = whole_file(publisher, release)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert install(client, server) == 2, "the whole, and the part that was changed"


def test_something_longer_is_not_read(client: Client, server: SlowServer, publisher: Publisher) -> None:
    release = release_of(client)
    path = whole_file(publisher, release)
    path.write_bytes(path.read_bytes() + b"more")
    assert install(client, server) == 1 + len(release.blobs)


def test_two_heads_share_their_backbone_on_the_wire_and_on_disk(
    client: Client, server: SlowServer, publisher: Publisher
) -> None:
    proto = onnx.load_model_from_string(many_tensors())
    head = next(tensor for tensor in proto.graph.initializer if tensor.name == f"down{PAIRS - 1}")
    values = numpy_helper.to_array(head)[:, ::-1].copy()
    head.CopyFrom(numpy_helper.from_array(values, head.name))
    publisher.zoo.add(
        "other-head",
        proto.SerializeToString(deterministic=True),
        classes=COLOURS,
        resolution=(8, 8),
        parameters=12000,
        macs=12000,
    )
    publisher.publish()
    install(client, server)
    alone, sent = client.store.used_bytes(), server.bytes_sent
    server.forget()
    client.install(models=["other-head"])
    assert client.store.used_bytes() == alone + values.nbytes
    assert server.bytes_sent < values.nbytes + 3000 < sent / 3, "the head and a record"
    image = plain_image("red")[None]
    ours, other = (client.store.model(name).logits(image)[0] for name in ("many", "other-head"))
    assert np.allclose(ours, other[::-1], atol=1e-3)
    client.remove(["many"])
    assert client.store.model("other-head").logits(image)[0].argmax() == 2
