"""Commands over a model that a server holds: it is added, profiled, timed, and its network measured."""

import json

import numpy as np
import pytest

from benchmarks.network.server import served, serving
from tests.support.colours import colour_zoo
from tests.support.inference_client import inference
from tests.support.small_signals import signal_zoo
from tests.support.small_tensors import tensor_zoo
from training.outcomes.accuracy import profiled_accuracy
from training.outcomes.parts import read_profile_record
from zoo import Zoo
from zoo.inputs.signal import Signal

CLASSES = ("red", "green", "blue")


def means(images):
    return images.reshape(len(images), -1, 3).mean(axis=1).astype(np.float32)


@pytest.fixture
def server():
    with serving({"Means": served(means, CLASSES)}) as found:
        yield found


def test_a_remote_model_is_added_profiled_and_timed_beside_local_ones(zooselect, tmp_path, pictures, server):
    zoo = colour_zoo(tmp_path / "zoo")
    done = zooselect("zoo", "add", "--zoo", zoo.folder, "--remote", server.url, "--model", "Means")
    assert f"means: Means on {server.url}, 3," in done.out
    zooselect("profile", "--zoo", zoo.folder, "--data", pictures, "--threads", 1)
    found = profiled_accuracy("my-profile", read_profile_record("my-profile"))
    assert found.models["means"] > 0.9
    posts = sum(path.endswith("/infer") for path, _ in server.asked)
    images = sum(1 for path in pictures.rglob("*") if path.is_file())
    assert posts - 1 < images  # in batches; one was asked for when it was added
    table = zooselect("bench", zoo.folder, "--runs", 20, "--json").json()
    assert table["models"]["means"]["latency"]["interrupted"] == 0
    network = zooselect("bench", zoo.folder, "--network", "--runs", 20, "--device", "here", "--json").json()
    assert network["measured"]
    assert list(network["server_ms"]) == ["means"]
    assert json.loads((tmp_path / "my-profile/network/here.json").read_text()) == network


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--model NAME"),
        (["--model", "Means", "--weights", "w.npz"], "only options that apply"),
        (["--model", "Means", "--channels", "gray"], "rgb or bgr"),
        (["--model", "Means", "--token-env", "NO_SUCH_TOKEN"], "NO_SUCH_TOKEN"),
        (["--model", "Means", "--token-env", "HOME", "--token-file", "token"], "one place of a token"),
        (["--model", "Means", "--size", "0"], "--size: expected pixels"),
        (["--model", "Means", "--size", "99999"], "--size: expected pixels"),
        (["--model", "Means", "--check", "photos"], "got --check"),
        (["--model", "Means", "--signal", "bytes", "--quality", 50], "got --quality"),
        (["--model", "Means", "--first", 5], "got --first"),
        (["--model", "Means", "--signal", "sound", "--rate", 8000], "--first and --last"),
        (["--model", "Other"], "404"),
    ],
)
def test_options_that_do_not_fit_are_refused(zooselect, tmp_path, server, options, said):
    done = zooselect("zoo", "add", "--zoo", tmp_path / "zoo", "--remote", server.url, *options, code=1)
    assert said in done.err
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "ftp://models.example.org", "https://me:x@example.org"]
)
def test_addresses_of_other_kinds_are_refused(zooselect, tmp_path, address):
    done = zooselect("zoo", "add", "--zoo", tmp_path / "zoo", "--remote", address, "--model", "m", code=1)
    assert "expected an address" in done.err


@pytest.mark.parametrize("kind", ["signal", "tensors"])
def test_models_of_other_inputs_are_served_and_added_by_commands(zooselect, tmp_path, kind):
    home = signal_zoo(tmp_path / "home", Signal()) if kind == "signal" else tensor_zoo(tmp_path / "home")
    with inference(home.folder) as there:
        how = ["--signal", "bytes", "--first", 96] if kind == "signal" else ["--tensors"]
        given = ["zoo", "add", "--zoo", tmp_path / "zoo", "--remote", there.url, "--model", "large"]
        done = zooselect(*given, *how)
        assert f"down for one {home.kind.noun}, 2 classes" in done.out
        network = zooselect("bench", tmp_path / "zoo", "--network", "--runs", 20, "--json").json()
        assert list(network["server_ms"]) == ["large"]
        assert "--throughput" in zooselect("bench", "--network", "--throughput", code=1).err


def test_a_model_of_other_classes_is_added_with_a_warning(zooselect, tmp_path, server):
    zoo = colour_zoo(tmp_path / "zoo")
    server.models["birds"] = served(means, ("kite", "owl", "rook"))
    done = zooselect("zoo", "add", "--zoo", zoo.folder, "--remote", server.url, "--model", "birds")
    assert "warning: models 'tiny' and 'birds' answer with different classes" in done.err
    assert (
        "warning"
        not in zooselect("zoo", "add", "--zoo", zoo.folder, "--remote", server.url, "--model", "Means").err
    )


def test_what_looks_into_a_graph_says_that_a_server_holds_it(zooselect, tmp_path, server, pictures):
    zoo = tmp_path / "zoo"
    zooselect("zoo", "add", "--zoo", zoo, "--remote", server.url, "--model", "Means")
    for command in (
        ["zoo", "compress", "means", "--zoo", zoo, "--data", pictures],
        ["zoo", "adapt", "means", "--zoo", zoo, "--data", pictures, "--environment", "dark"],
    ):
        assert "a server holds" in zooselect(*command, code=1).err
    zooselect("zoo", "rename", "means", "far", "--zoo", zoo)
    assert Zoo.open(zoo).names == ("far",)
