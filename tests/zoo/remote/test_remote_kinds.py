"""Models on a server that take signals or named arrays: what is sent, and answers as those of local ones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from benchmarks.network.server import served, serving
from tests.support.inference_client import inference
from tests.support.small_signals import CLASSES, signal_zoo, signals
from tests.support.small_tensors import KIND, table_of, tensor_zoo
from tests.support.toy_kind import pair_zoo, pairs
from training.data.images import ListedInputs
from zoo import Zoo
from zoo.convert.add import add_tensors
from zoo.convert.foreign.add_remote import add_remote
from zoo.convert.signals.signal_front import SignalFront
from zoo.errors import CardError, ModelError
from zoo.inputs.signal import Signal
from zoo.inputs.tensors import Array, Tensors
from zoo.models.card import ModelCard
from zoo.models.session import open_session
from zoo.remote.arrays import Ends, array_tensors, arrays_for
from zoo.remote.discover import Wanted
from zoo.remote.network import measure_network
from zoo.remote.protocol import DTYPES, TensorMetadata

BYTES, SOUND = Signal(), Signal("int16", 8000)


def tensor(name: str, datatype: str, *shape: int) -> TensorMetadata:
    return TensorMetadata(name=name, datatype=datatype, shape=shape)


def number_zoo(folder: Path) -> Zoo:
    """A network of one number an input."""
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "row"], ["one"]),
            helper.make_node("MatMul", ["one", "w"], ["out"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N"])],
        [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["N", 2])],
        [
            numpy_helper.from_array(np.array([-1, 1]), "row"),
            numpy_helper.from_array(np.array([[-1, 1]], np.float32), "w"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    zoo = Zoo.create(folder)
    add_tensors(zoo, "large", model.SerializeToString(), ("minus", "plus"))
    return zoo


def numbers(count: int) -> ListedInputs:
    kind = Tensors((Array("x", "float32"),))
    items = [*np.linspace(-1, 1, count, dtype=np.float32)]
    ids = [f"{i:04d}" for i in range(count)]
    return ListedInputs(kind, [{"x": one} for one in items], ("minus", "plus"), ids, np.array(items) > 0)


@pytest.mark.parametrize("name", ["bytes", "sound", "tensors", "toy", "number"])
def test_a_model_of_a_zoo_that_is_served_answers_elsewhere_as_at_home(tmp_path: Path, name: str) -> None:
    home, data = {
        "bytes": lambda: (signal_zoo(tmp_path / "home", BYTES), signals(BYTES, 40)),
        "sound": lambda: (signal_zoo(tmp_path / "home", SOUND), signals(SOUND, 40)),
        "tensors": lambda: (tensor_zoo(tmp_path / "home"), table_of(40)),
        "toy": lambda: (pair_zoo(tmp_path / "home"), pairs(40)),
        "number": lambda: (number_zoo(tmp_path / "home"), numbers(40)),
    }[name]()
    kind, away = home.kind, Zoo.create(tmp_path / "away")
    with inference(home.folder) as server:
        card = add_remote(away, server.url, "large")
        assert card.kind == kind
        assert away.manifest.schema_version == 5
        model, mine = Zoo.open(away.folder).model("large"), home.model("large")
        for item in map(data.image, range(40)):
            one = kind.one(item)
            assert np.array_equal(model.run(one), mine.run(one))
            assert np.array_equal(model.run_by(one, time.monotonic() + 10), mine.run(one))
        if name == "tensors":
            found = measure_network(
                {"large": card.remote},
                {"large": len(card.classes)},
                [data.image(0)],
                name="x",
                rounds=5,
                kind=kind,
            )
            assert found.measured


@pytest.mark.parametrize("name", ["bytes", "sound", "tensors"])
def test_a_batch_is_asked_at_once_and_in_parts(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = {"bytes": BYTES, "sound": SOUND, "tensors": KIND}[name]
    home = tensor_zoo(tmp_path / "home") if kind == KIND else signal_zoo(tmp_path / "home", kind)
    away, rng = Zoo.create(tmp_path / "away"), np.random.default_rng(0)
    batch = kind.stack([kind.random(kind.default_size, rng) for _ in range(7)])
    with inference(home.folder) as server:
        add_remote(away, server.url, "large")
        model = away.model("large")
        expected = home.model("large").run(batch)
        assert np.allclose(model.run(batch), expected, atol=1e-6)
        monkeypatch.setattr("zoo.remote.runs.MAX_REQUEST_BYTES", batch.nbytes // 3)
        assert np.allclose(model.run(batch), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "ends", "datatype", "shape"),
    [
        (BYTES, Ends(first=6, last=4, pad=256), "INT32", (10,)),
        (BYTES, Ends(last=5, pad=0), "UINT8", (1, 5)),
        (BYTES, Ends(first=4, last=3, pad=256, strip=6), "INT64", (7,)),
        (SOUND, Ends(first=8), "FP32", (8, 1)),
        (Signal("float32"), Ends(first=3, last=6, pad=-1), "FP32", (1, 9)),
    ],
)
def test_what_is_sent_of_a_signal_is_what_the_front_of_a_graph_makes_of_it(
    kind: Signal, ends: Ends, datatype: str, shape: tuple[int, ...]
) -> None:
    sent = arrays_for("m", kind, [tensor("x", datatype, -1, *shape)], ends)
    front = SignalFront(kind, first=ends.first, last=ends.last, pad=ends.pad, strip=ends.strip)
    dtype = DTYPES[datatype]
    numbers = {"INT32": 6, "UINT8": 2, "INT64": 7, "FP32": 1}[datatype]
    graph = front.model(type=numbers).SerializeToString()
    session = open_session(graph, name="front", threads=1)
    rng = np.random.default_rng(0)
    for length in (1, 2, 5, 9, 10, 11, 40):
        given = kind.random((1, length), rng)[np.newaxis]
        if kind == BYTES:
            given[rng.random(given.shape) < 0.5] = 32
        ((tensor_sent,),) = (array_tensors(sent, {"signal": given}),)
        assert tensor_sent.values.dtype == dtype
        assert tensor_sent.values.shape == (1, *shape)
        (expected,) = session.run(None, {"signal": given})
        assert np.array_equal(tensor_sent.values.reshape(-1), expected.reshape(-1)), length


def test_of_a_long_signal_only_the_ends_travel_to_a_server_of_any_length(tmp_path: Path) -> None:
    home, away = signal_zoo(tmp_path / "home", BYTES), Zoo.create(tmp_path / "away")
    with inference(home.folder) as server:
        wanted = Wanted(kind=BYTES, ends=Ends(first=6, pad=256))  # which no byte holds, and nothing needs
        remote = add_remote(away, server.url, "small", wanted=wanted).remote
        whole = add_remote(away, server.url, "small", name="whole").remote
        given = BYTES.random((1, 5000), np.random.default_rng(0))[np.newaxis]
        expected = home.model("small").run(given)
        assert np.array_equal(away.model("small").run(given), expected)
    assert remote is not None
    assert whole is not None
    assert remote.uplink_bytes < 500 < 4096 < whole.uplink_bytes


def test_tensors_of_a_server_that_names_no_kind_are_those_of_its_metadata(tmp_path: Path) -> None:
    zoo, seen = Zoo.create(tmp_path / "zoo"), []

    def answer(values: Any) -> Any:
        seen.append(values)
        return np.stack([-values.sum(axis=1), values.sum(axis=1)], axis=1).astype(np.float32)

    model = served(answer, ("minus", "plus"), inputs=(tensor("ids", "INT32", -1, -1),))
    with serving({"m": model}) as server:
        with pytest.raises(ModelError, match="--length"):
            add_remote(zoo, server.url, "m", wanted=Wanted(tensors=True))
        wanted = Wanted(tensors=True, length=4, ends=Ends(pad=-1))
        kind = add_remote(zoo, server.url, "m", wanted=wanted).kind
        assert kind == Tensors((Array("ids", "int32", (4,), pad=-1),))
        logits = zoo.model("m").logits({"ids": np.array([[1, 2]], np.int32)})
        assert seen[-1].tolist() == [[1, 2, -1, -1]]
        assert logits.tolist() == [[-1, 1]]
        server.models["short"] = served(answer, ("minus", "plus"), inputs=(tensor("x", "INT64", 1, 2),))
        card = add_remote(zoo, server.url, "short")  # that takes fewer, one input a request
        assert (
            zoo.model("short").logits({"ids": np.array([[1, 2, 3, 4]] * 2, np.int32)}).tolist()
            == [[-3, 3]] * 2
        )
        assert card.kind == kind
        assert seen[-1].dtype == np.int64


@pytest.mark.parametrize(
    ("kind", "inputs", "ends", "said"),
    [
        (BYTES, [tensor("x", "INT32", -1, 8)], Ends(), "--first and --last"),
        (BYTES, [tensor("x", "INT32", -1, 8)], Ends(first=9), "--first and --last"),
        (BYTES, [tensor("x", "UINT8", -1, 8)], Ends(first=8, pad=256), "--pad"),
        (BYTES, [tensor("x", "BYTES", -1)], Ends(), "an input of numbers"),
        (BYTES, [tensor("x", "UINT8", -1, -1)], Ends(first=6, strip=9), "a fixed size for --strip"),
        (Signal("float32"), [tensor("x", "INT16", -1, -1)], Ends(), "real numbers"),
        (BYTES, [tensor("x", "UINT8", -1, 2, 4)], Ends(first=8), "signal uint8"),
        (BYTES, [tensor("x", "UINT8", -1, -1), tensor("y", "UINT8", -1, -1)], Ends(), "inputs among signal"),
        (KIND, [tensor("tokens", "INT64", -1, 13)], Ends(), "expected an input for tokens"),
        (KIND, [tensor("tokens", "INT64", -1, 12), tensor("tokens", "INT64", -1, 12)], Ends(), "distinct"),
        (KIND, [tensor("other", "INT64", -1, 12)], Ends(), "inputs among tokens"),
    ],
)
def test_inputs_that_do_not_fit_say_why(kind: Any, inputs: Any, ends: Ends, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        arrays_for("m", kind, inputs, ends)


def test_a_zoo_takes_one_kind_and_a_server_is_believed_what_it_takes(tmp_path: Path) -> None:
    home, sounds = signal_zoo(tmp_path / "home", BYTES), signal_zoo(tmp_path / "sounds", SOUND)
    with inference(home.folder) as server:
        with pytest.raises(CardError, match="Add it to another zoo"):
            add_remote(sounds, server.url, "small", name="far")
        with pytest.raises(ModelError, match="as its server says"):
            add_remote(Zoo.create(tmp_path / "new"), server.url, "small", wanted=Wanted(kind=SOUND))
        with pytest.raises(ModelError, match="expected one that takes tensors"):
            add_remote(Zoo.create(tmp_path / "newer"), server.url, "small", wanted=Wanted(tensors=True))
        card = add_remote(Zoo.create(tmp_path / "right"), server.url, "small")
    record = msgspec.to_builtins(card)
    for change in (
        {"input": None},
        {"remote": {**record["remote"], "arrays": [{**record["remote"]["arrays"][0], "array": "other"}]}},
        {"remote": {key: value for key, value in record["remote"].items() if key != "arrays"}},
        {"remote": {**record["remote"], "arrays": [{**record["remote"]["arrays"][0], "shape": [0]}]}},
    ):
        changed = {key: value for key, value in {**record, **change}.items() if value is not None}
        with pytest.raises(msgspec.ValidationError, match="expected"):
            msgspec.convert(changed, ModelCard)
    assert card.classes == CLASSES
