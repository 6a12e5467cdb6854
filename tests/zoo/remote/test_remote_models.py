"""A model that a server holds: added from what the server says, and run as any model."""

import io
import time

import msgspec
import numpy as np
import pytest
from PIL import Image

from benchmarks.network.server import nan, served, serving
from zoo import Zoo
from zoo.convert.foreign.add_remote import add_remote
from zoo.errors import (
    CardError,
    DeadlineError,
    ModelError,
    NotFiniteError,
    ProtocolError,
    TokenError,
    UnreachableError,
)
from zoo.files import encode_record
from zoo.models.latency import measure
from zoo.models.model import Model
from zoo.remote.discover import Wanted
from zoo.remote.network import PRESETS, load_network, measure_network, save_network
from zoo.remote.protocol import TensorMetadata

CLASSES = ("red", "green", "blue")
IMAGE = np.zeros((6, 4, 3), np.uint8)
IMAGE[..., 1] = 200


def means(images):
    return images.reshape(len(images), -1, 3).mean(axis=1).astype(np.float32)


def of_files(files):
    return np.concatenate(
        [means(np.asarray(Image.open(io.BytesIO(one)).convert("RGB"))[np.newaxis]) for one in files.flat]
    )


def tensor(name, datatype, *shape):
    return (TensorMetadata(name=name, datatype=datatype, shape=shape),)


@pytest.fixture
def server():
    with serving({"m": served(means, CLASSES)}) as found:
        yield found


@pytest.fixture
def zoo(tmp_path):
    return Zoo.open_or_create(tmp_path / "zoo")


def test_a_model_is_added_from_what_its_server_says_and_runs_as_any_model(server, zoo):
    card = add_remote(zoo, server.url + "/", "m")
    assert card.classes == CLASSES
    assert card.remote.address == server.url
    assert card.remote.uplink_bytes > 32 * 32 * 3
    model = Zoo.open(zoo.folder).model("m")
    assert model.logits(np.stack([IMAGE] * 2)).argmax(axis=1).tolist() == [1, 1]
    assert model.run_wide(IMAGE[np.newaxis]).shape == (1, 3)


def test_opening_a_zoo_asks_no_server(server, zoo):
    add_remote(zoo, server.url, "m")
    asked = len(server.asked)
    Zoo.open(zoo.folder).model("m")
    assert len(server.asked) == asked


def test_an_answer_keeps_to_the_deadline_that_it_is_given(server, zoo):
    add_remote(zoo, server.url, "m")
    model = zoo.model("m")
    assert model.run_by(IMAGE[np.newaxis], time.monotonic() + 10).argmax() == 1
    server.fault = lambda handler: time.sleep(0.2)
    with pytest.raises(DeadlineError):
        model.run_by(IMAGE[np.newaxis], time.monotonic() + 0.02)


def test_a_descriptor_that_is_not_that_of_the_card_is_refused(server, zoo):
    card = add_remote(zoo, server.url, "m")
    other = encode_record(msgspec.structs.replace(card.remote, address="https://other.example"))
    for content in (other, b"{}", b"\xff", b"onnx"):
        with pytest.raises(ModelError, match="dd"):
            Model(card, content)


def test_a_model_is_renamed_replaced_and_removed_with_its_file(server, zoo):
    add_remote(zoo, server.url, "m")
    zoo.rename("m", "far")
    assert zoo.model("far").logits(IMAGE[np.newaxis]).argmax() == 1
    with pytest.raises(CardError, match="force"):
        add_remote(zoo, server.url, "m", name="far", deadline_ms=77)
    add_remote(zoo, server.url, "m", name="far", deadline_ms=77, force=True)
    assert len(list((zoo.folder / "models").iterdir())) == 1
    zoo.remove("far")
    assert list((zoo.folder / "models").iterdir()) == []
    assert zoo.manifest.schema_version == 2


@pytest.mark.parametrize(
    ("inputs", "wanted", "shape", "top"),
    [
        (tensor("image", "FP32", -1, 3, 8, 8), Wanted(), (1, 3, 8, 8), 200 / 255),
        (tensor("x", "FP32", -1, 3, -1, -1), Wanted(size=(5, 7), scale="0..255"), (1, 3, 5, 7), 200),
        (tensor("x", "FP16", 1, 8, 8, 3), Wanted(mean=(0.5,) * 3, std=(0.5,) * 3), (1, 8, 8, 3), 0.5686),
        (tensor("x", "UINT8", -1, 3, 8, 8), Wanted(), (1, 3, 8, 8), 200),
        (tensor("x", "UINT8", -1, -1, -1, 3), Wanted(), (1, 6, 4, 3), 200),
    ],
)
def test_pixels_are_made_as_the_server_takes_them(server, zoo, inputs, wanted, shape, top):
    seen = []

    def answer(values):
        seen.append(values)
        first = values if values.shape[-1] == 3 else values.transpose(0, 2, 3, 1)
        return first.astype(np.float32).mean(axis=(1, 2))

    server.models["m"] = served(answer, CLASSES, inputs=inputs)
    add_remote(zoo, server.url, "m", wanted=wanted)
    logits = zoo.model("m").logits(IMAGE[np.newaxis])
    assert seen[-1].shape == shape
    assert logits[0, 1] == pytest.approx(top, abs=1e-3)


@pytest.mark.parametrize(("encoding", "exact"), [("jpeg", False), ("png", True), (None, False)])
def test_a_server_that_takes_files_gets_files(server, zoo, encoding, exact):
    server.models["m"] = served(of_files, CLASSES, inputs=tensor("file", "BYTES", -1, 1))
    card = add_remote(zoo, server.url, "m", wanted=Wanted(encoding=encoding), images=[IMAGE])
    assert card.remote.encoding == (encoding or "jpeg")
    found = zoo.model("m").logits(np.stack([IMAGE] * 2))
    assert np.allclose(found, [[0, 200, 0]] * 2, atol=1e-9 if exact else 6)


@pytest.mark.parametrize(
    ("given", "wanted", "said"),
    [
        ({"named": ()}, Wanted(), "--classes FILE"),
        ({"named": ()}, Wanted(classes=("a", "b")), "2 values for 2 classes"),
        ({}, Wanted(classes=("red", "green", "grey")), "'grey' where it says 'blue'"),
        ({"inputs": ()}, Wanted(), "describes its inputs"),
        ({"inputs": tensor("a", "UINT8", -1, -1, -1, 3) * 2}, Wanted(), "one input"),
        ({}, Wanted(output="scores"), "one output 'scores', got 'logits'"),
        ({"inputs": tensor("x", "FP32", -1, 3, -1, -1)}, Wanted(), "--size"),
        ({"inputs": tensor("x", "FP32", -1, 3, 8, 8)}, Wanted(size=(9, 9)), "--size 9x9"),
        ({"inputs": tensor("x", "FP32", -1, 3, 8, 3)}, Wanted(), "--layout"),
        ({"inputs": tensor("x", "FP32", -1, 10)}, Wanted(), "4 axes"),
        ({"inputs": tensor("x", "INT64", -1, 8, 8, 3)}, Wanted(), "INT64"),
        ({"inputs": tensor("x", "UINT8", 8, 8, 8, 3)}, Wanted(), "any number of images"),
        ({}, Wanted(encoding="png"), "Leave --encoding out"),
        ({}, Wanted(scale="0..1"), "real numbers"),
        ({"inputs": tensor("x", "BYTES", -1)}, Wanted(encoding="tensor"), "tensor of pixels"),
        ({"outputs": tensor("y", "INT64", -1, 3)}, Wanted(), "INT64"),
        (
            {"outputs": tensor("y", "FP32", -1, 4)},
            Wanted(),
            r"got an output 'y' \[-1, 4\]",
        ),
    ],
)
def test_a_model_that_is_no_classifier_of_images_says_what_is_missing(server, zoo, given, wanted, said):
    server.models["m"] = served(means, CLASSES, **given)
    with pytest.raises(ModelError, match=said):
        add_remote(zoo, server.url, "m", wanted=wanted)
    assert zoo.names == ()


def test_a_server_that_answers_with_something_else_adds_nothing(server, zoo):
    server.fault = nan
    with pytest.raises(NotFiniteError, match="NaN"):
        add_remote(zoo, server.url, "m")
    server.fault = None
    with pytest.raises(UnreachableError, match="404"):
        add_remote(zoo, server.url, "other")
    server.models["m"] = served(lambda images: means(images)[:, :2], CLASSES)
    with pytest.raises(ProtocolError, match="values"):
        add_remote(zoo, server.url, "m")
    server.version_1 = True
    with pytest.raises(UnreachableError, match="version 1"):
        add_remote(zoo, server.url, "m")
    with pytest.raises(TokenError, match="NO_SUCH"):
        add_remote(zoo, server.url, "m", token_env="NO_SUCH")
    assert zoo.names == ()


def test_the_time_of_a_remote_model_is_that_of_the_wall(server, zoo):
    add_remote(zoo, server.url, "m")
    server.models["m"] = served(lambda images: time.sleep(0.002) or means(images), CLASSES)
    latency = measure(zoo, [IMAGE], device="here", runs=20).models["m"].latency
    assert latency.interrupted == 0
    assert latency.p50_ms >= 2


def test_a_network_is_measured_and_kept(server, zoo, tmp_path):
    add_remote(zoo, server.url, "m")
    server.models["m"] = served(lambda images: time.sleep(0.02) or means(images), CLASSES)
    remotes = {"m": zoo.card("m").remote}
    network = measure_network(remotes, {"m": 3}, [IMAGE], name="here", rounds=5)
    assert network.measured
    assert network.server_ms["m"] > 5
    assert network.model_ms("m", remotes["m"]) >= network.rtt_ms + network.server_ms["m"]
    save_network(network, tmp_path / "here.json")
    assert load_network(tmp_path / "here.json") == network


def test_presets_are_ordered_as_the_networks_are():
    times = [
        PRESETS[name].answer_ms(uplink_bytes=20_000, downlink_bytes=400)
        for name in ("wifi", "5g", "4g", "none")
    ]
    assert times == sorted(times)
    assert times[-1] == np.inf
    assert load_network("4g") is PRESETS["4g"]
    with pytest.raises(
        CardError, match="networks wifi, 4g, 5g, none or the file of a network table, got '3g'"
    ):
        load_network("3g")
    assert all(network.source and not network.measured for network in PRESETS.values())
