"""Claims about finding the files that a graph wants, wherever it hides them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.support.small_blobs import Made, blob_of, install, make_release, wide_onnx
from tests.support.small_models import build_onnx
from zoo.errors import ModelError
from zoo.store.externals import external_locations
from zoo.store.store import Store

VALUES = (
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
)
ADD = helper.make_node("Add", ["x", "w"], ["y"])


def elsewhere(location: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="length", value="16")
    tensor.external_data.add(key="location", value=location)
    return tensor


def model(
    nodes: list[onnx.NodeProto], tensors: tuple[TensorProto, ...] = (), **more: object
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", *VALUES, list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10, **more)


def initializer(location: str) -> onnx.ModelProto:
    return model([ADD], (elsewhere(location),))


def constant(location: str) -> onnx.ModelProto:
    return model([helper.make_node("Constant", [], ["w"], value=elsewhere(location)), ADD])


def branch(location: str) -> onnx.ModelProto:
    inner = helper.make_graph([ADD], "then", [], VALUES[1], [elsewhere(location)])
    condition = numpy_helper.from_array(np.array(True), "c")
    return model([helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)], (condition,))


def function(location: str) -> onnx.ModelProto:
    opset = [helper.make_opsetid("", 18)]
    nodes = list(constant(location).graph.node)
    made = helper.make_function("f", "F", ["x"], ["y"], nodes, opset)
    return model([helper.make_node("F", ["x"], ["y"], domain="f")], functions=[made])


def sparse(location: str) -> onnx.ModelProto:
    found = model([ADD])
    one = found.graph.sparse_initializer.add(dims=[4])
    one.values.CopyFrom(elsewhere(location))
    one.indices.CopyFrom(numpy_helper.from_array(np.arange(4), ""))
    return found


def sparse_indices(location: str) -> onnx.ModelProto:
    found = model([ADD])
    one = found.graph.sparse_initializer.add(dims=[4])
    one.indices.CopyFrom(elsewhere(location))
    return found


def sparse_constant(location: str) -> onnx.ModelProto:
    one = sparse(location).graph.sparse_initializer[0]
    return model([helper.make_node("Constant", [], ["w"], sparse_value=one), ADD])


def training(location: str) -> onnx.ModelProto:
    found = model([ADD])
    found.training_info.add().initialization.CopyFrom(initializer(location).graph)
    return found


PLACES = (initializer, constant, branch, function, sparse, sparse_indices, sparse_constant, training)
Place = Callable[[str], onnx.ModelProto]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("location", ["a" * 64, "../installed.json", "/etc/passwd", "", "*/_ORT_MEM_ADDR_/*"])
def test_every_place_is_found(place: Place, location: str) -> None:
    assert external_locations(place(location).SerializeToString()) == {location}


def test_a_whole_model_wants_nothing() -> None:
    assert external_locations(build_onnx()) == set()
    assert external_locations(b"") == set()


def test_two_locations_in_one_entry_are_refused() -> None:
    content = initializer("good").SerializeToString()
    entry = b"\x0a\x08location\x12\x04good"
    assert content.count(entry) == 1
    hidden = entry + b"\x12\x04evil"  # the last one counts
    with pytest.raises(ModelError, match="a key or a value twice"):
        external_locations(wrap([(7, wrap([(5, wrap([(13, hidden)]))]))]))


def wrap(fields: list[tuple[int, bytes]]) -> bytes:
    """A message of short fields."""
    parts = []
    for number, content in fields:
        length = bytes([len(content) & 127 | 128, len(content) >> 7])  # longer than it has to be, and allowed
        parts.append(bytes([(number << 3 | 2) & 255, *([1] if number > 15 else [])]) + length + content)
    return b"".join(parts)


def test_a_value_before_its_key_and_long_numbers_are_read() -> None:
    entry = wrap([(2, b"evil"), (1, b"location")])
    assert external_locations(wrap([(7, wrap([(5, wrap([(13, entry)]))]))])) == {"evil"}


@pytest.mark.parametrize(
    "content",
    [
        b"\x3a\x05x",
        b"\x3a",
        b"\xff" * 12,
        b"\x0b",
        b"\x0f",
        b"\x09123",
        b"\x0d12",
        b"\x3a\xff\xff\xff\xff\x0f",
    ],
)
def test_what_is_no_message_is_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match="expected an ONNX graph, got"):
        external_locations(content)


def test_messages_inside_messages_end_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b""
    for _ in range(200):  # a graph in an attribute of a node of a graph
        size = len(content)
        inner = b"\x32" + bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) + content
        content = wrap_long(1, wrap_long(5, inner))
    with pytest.raises(ModelError, match="more than any model needs"):
        external_locations(wrap_long(7, content))
    monkeypatch.setattr("zoo.store.externals.MAX_FIELDS", 3)
    with pytest.raises(ModelError, match="more than any model needs"):
        external_locations(build_onnx())


def wrap_long(number: int, content: bytes) -> bytes:
    size = len(content)
    return bytes([number << 3 | 2, size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) + content


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_locations_or_our_error(content: bytes) -> None:
    try:
        external_locations(content)
    except ModelError:
        return
    external_locations(content)


def decoded(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")  # what is no text


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PLACES), st.data())
def test_what_onnx_reads_is_found_also_in_damaged_graphs(place: Place, data: st.DataObject) -> None:
    content = bytearray(place("hidden-place").SerializeToString())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    try:
        read = onnx.load_from_string(bytes(content))
        entries = [entry for tensor in read.graph.initializer for entry in tensor.external_data]
        wanted = {decoded(entry.value) for entry in entries if entry.key == "location"}
    except Exception:
        return
    with contextlib.suppress(ModelError):
        assert wanted <= external_locations(bytes(content))


@pytest.fixture(scope="module")
def honest() -> Made:
    """A release whose card other graphs borrow."""
    return make_release("full", wide_onnx())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("location", ["/etc/passwd", "../installed.json", "b" * 64, "blob/../x"])
def test_a_store_takes_no_graph_that_wants_other_files(
    honest: Made, tmp_path: Path, place: Place, location: str
) -> None:
    content = place(location).SerializeToString()
    store = Store.open(tmp_path)
    release = msgspec.structs.replace(honest[0], graph=blob_of(content), weights=())
    with pytest.raises(ModelError, match=r"expected a graph that reads its own weights, got one that wants"):
        install(store, (release, [content]))
    assert not store.installed.models


def test_a_link_in_place_of_a_weight_is_not_followed(honest: Made, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    install(store, honest)
    weight = store.blobs / honest[0].weights[0].sha256
    (tmp_path / "outside").write_bytes(weight.read_bytes())
    weight.unlink()
    weight.symlink_to(tmp_path / "outside")
    with pytest.raises(ModelError, match="expected an ONNX graph that ONNX Runtime"):
        store.model("full")
