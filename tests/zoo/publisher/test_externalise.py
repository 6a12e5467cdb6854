"""Claims about taking weights out of a graph: nothing changes in its answers, and only what differs moves."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.support.small_models import COLOURS, build_onnx
from zoo.architectures.cifar_resnet import CifarResNet
from zoo.architectures.preprocessing import Preprocessing
from zoo.convert.export import export_module
from zoo.convert.int8.compress import quantize_int8
from zoo.errors import ModelError
from zoo.files import sha256_bytes
from zoo.inputs.reference_image import reference_image
from zoo.models.session import open_session
from zoo.publisher.external_data import ALIGNMENT, SINGLE_BYTES, External, externalise
from zoo.releases.release import slot

IMAGE = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])
LOGITS = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])
RNG = np.random.default_rng(0)
HEAD: NDArray[np.float32] = RNG.normal(size=(3, 64)).astype(np.float32)
LAST: NDArray[np.float32] = RNG.normal(size=(64, 3)).astype(np.float32)


def answer(content: bytes, weights: Path | None = None) -> NDArray[np.float32]:
    images = np.stack([reference_image(24, 20), reference_image(24, 20)[::-1]])
    found: NDArray[np.float32] = open_session(content, name="m", weights=weights).run(
        ["logits"], {"image": images}
    )[0]
    return found


def opened_apart(made: External, folder: Path) -> NDArray[np.float32]:
    """What the graph answers with its weights as files in a flat folder, named by their digests."""
    graph = made.graph
    for i, content in enumerate(made.weights):
        digest = sha256_bytes(content)
        (folder / digest).write_bytes(content)
        graph = graph.replace(slot(i).encode(), digest.encode())
    return answer(graph, folder)


def model(
    nodes: list[onnx.NodeProto] | None = None,
    initializers: list[onnx.TensorProto] | None = None,
    *,
    opset: int = 21,
    domains: tuple[str, ...] = (),
    **more: Any,
) -> onnx.ModelProto:
    """Image → mean colour [N, 3] → the given nodes, which make "wide" [N, 64] of "colour" → logits."""
    if nodes is None:
        nodes = [helper.make_node("MatMul", ["colour", "head"], ["wide"])]
        initializers = [numpy_helper.from_array(HEAD, "head"), *(initializers or [])]
    before = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["colour"], keepdims=0),
    ]
    after = [helper.make_node("MatMul", ["wide", "last"], ["logits"])]
    constants = [
        numpy_helper.from_array(np.array([1, 2]), "axes"),
        numpy_helper.from_array(LAST, "last"),
        *(initializers or []),
    ]
    graph = helper.make_graph([*before, *nodes, *after], "g", [IMAGE], [LOGITS], constants)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10, **more)


def quantised_model(kind: int) -> bytes:
    """Codes of eight or four bits, with a scale and a zero point."""
    low = -8 if kind == TensorProto.INT4 else -100
    codes = RNG.integers(low, -low, (3, 64)).astype(np.int8)
    packed = helper.make_tensor("codes", kind, codes.shape, codes.flatten().tolist())
    constants = [packed, numpy_helper.from_array(np.float32(0.03), "scale")]
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "scale"], ["head"]),
        helper.make_node("MatMul", ["colour", "head"], ["wide"]),
    ]
    return bytes(model(nodes, constants).SerializeToString())


def half_model() -> bytes:
    nodes = [
        helper.make_node("Cast", ["colour"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["half", "head"], ["wide half"]),
        helper.make_node("Cast", ["wide half"], ["wide"], to=TensorProto.FLOAT),
    ]
    return bytes(model(nodes, [numpy_helper.from_array(HEAD.astype(np.float16), "head")]).SerializeToString())


def typed_model() -> bytes:
    """Weights in a list of floats instead of in bytes."""
    tensor = helper.make_tensor("head", TensorProto.FLOAT, HEAD.shape, HEAD.flatten().tolist())
    assert not tensor.raw_data
    nodes = [helper.make_node("MatMul", ["colour", "head"], ["wide"])]
    return bytes(model(nodes, [tensor]).SerializeToString())


def branching_model() -> bytes:
    """A choice between two graphs, each with weights of its own and with some of the outer graph."""

    def branch(name: str, scale: float) -> onnx.GraphProto:
        own = numpy_helper.from_array(HEAD * np.float32(scale), f"own {name}")
        nodes = [
            helper.make_node("Add", ["head", f"own {name}"], [f"both {name}"]),
            helper.make_node("MatMul", ["colour", f"both {name}"], [name]),
        ]
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 64])
        return helper.make_graph(nodes, name, [], [out], [own])

    nodes = [
        helper.make_node("ReduceMax", ["colour"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "limit"], ["bright"]),
        helper.make_node(
            "If", ["bright"], ["wide"], then_branch=branch("a", 2.0), else_branch=branch("b", 3.0)
        ),
    ]
    constants = [numpy_helper.from_array(HEAD, "head"), numpy_helper.from_array(np.float32(90), "limit")]
    return bytes(model(nodes, constants).SerializeToString())


def function_model() -> bytes:
    """A layer that is a function of the model's own."""
    body = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    layer = helper.make_function("own", "Layer", ["x", "w"], ["y"], body, [helper.make_opsetid("", 21)])
    nodes = [helper.make_node("Layer", ["colour", "head"], ["wide"], domain="own")]
    made = model(nodes, [numpy_helper.from_array(HEAD, "head")], domains=("own",), functions=[layer])
    return bytes(made.SerializeToString())


def resizing_model() -> bytes:
    """Scales of a Resize are floats, and decide about shapes."""
    nodes = [
        helper.make_node("Resize", ["colour", "", "scales"], ["stretched"], mode="nearest"),
        helper.make_node("MatMul", ["stretched", "head"], ["wide"]),
    ]
    head = RNG.normal(size=(6, 64)).astype(np.float32)
    constants = [
        numpy_helper.from_array(head, "head"),
        numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "scales"),
    ]
    return bytes(model(nodes, constants).SerializeToString())


@cache
def resnet(*, adapted: float = 0.0, name: str = "net") -> bytes:
    torch.manual_seed(0)
    network = CifarResNet(8).eval()
    with torch.no_grad():
        for part in network.modules():
            if adapted and isinstance(part, torch.nn.BatchNorm2d | torch.nn.Linear):
                for value in (*part.parameters(), *part.buffers()):
                    if value.is_floating_point():
                        value.add_(adapted * torch.rand_like(value))
    return export_module(
        network, Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3), name=name, classes=list("0123456789")
    )


@pytest.mark.parametrize(
    "content",
    [
        build_onnx(work=3),
        half_model(),
        quantised_model(TensorProto.INT8),
        quantised_model(TensorProto.UINT4),
        quantised_model(TensorProto.INT4),
        typed_model(),
        branching_model(),
        function_model(),
        resizing_model(),
        resnet(),
    ],
    ids=["plain", "half", "int8", "uint4", "int4", "typed", "branching", "function", "resizing", "resnet"],
)
def test_the_answers_are_the_same_to_the_last_bit(content: bytes, tmp_path: Path) -> None:
    made = externalise(content)
    assert made.weights
    np.testing.assert_array_equal(opened_apart(made, tmp_path), answer(content))


def test_a_compressed_model_answers_the_same(tmp_path: Path) -> None:
    images = [np.roll(reference_image(16, 16), shift, axis=0) for shift in range(8)]
    content = quantize_int8(resnet(), images, name="net")
    np.testing.assert_array_equal(opened_apart(externalise(content), tmp_path), answer(content))


def test_what_was_adapted_in_normalisation_and_head_shares_graph_and_all_other_weights() -> None:
    parent, child = externalise(resnet()), externalise(resnet(adapted=0.1, name="kitchen"))
    changed = [i for i, (a, b) in enumerate(zip(parent.weights, child.weights, strict=True)) if a != b]
    assert child.graph == parent.graph
    assert changed == [len(parent.weights) - 1]
    assert len(parent.weights[-1]) < 0.1 * sum(map(len, parent.weights))


def test_large_tensors_are_alone_and_small_ones_are_packed_on_cache_lines() -> None:
    made = externalise(resnet())
    graph = onnx.load_model_from_string(made.graph).graph
    references = [
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in graph.initializer
        if tensor.external_data
    ]
    pack = slot(len(made.weights) - 1)
    assert all(len(weights) >= SINGLE_BYTES for weights in made.weights[:-1])
    assert all(int(part["length"]) < SINGLE_BYTES for part in references if part["location"] == pack)
    for part in references:
        assert int(part["offset"]) % (ALIGNMENT if int(part["length"]) >= ALIGNMENT else 8) == 0
    assert sum(part["location"] != pack for part in references) == len(made.weights) - 1


def test_equal_tensors_are_one_blob_and_still_two_slots() -> None:
    big = RNG.normal(size=(64, 64)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["colour", "head"], ["one"]),
        helper.make_node("MatMul", ["one", "a"], ["two"]),
        helper.make_node("MatMul", ["two", "b"], ["wide"]),
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in (("a", big), ("b", big))]
    content = model(nodes, [numpy_helper.from_array(HEAD, "head"), *constants]).SerializeToString()
    made = externalise(bytes(content))
    assert made.weights[0] == made.weights[1] == big.tobytes()
    assert slot(1).encode() in made.graph


def test_what_a_session_must_know_to_load_stays_in_the_graph() -> None:
    graph = onnx.load_model_from_string(externalise(resizing_model()).graph).graph
    inside = {tensor.name for tensor in graph.initializer if not tensor.external_data}
    assert inside == {"axes", "scales"}


def test_weights_in_constant_nodes_go_out_too(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["head"], value=numpy_helper.from_array(HEAD)),
        helper.make_node("MatMul", ["colour", "head"], ["wide"]),
    ]
    content = bytes(model(nodes).SerializeToString())
    made = externalise(content)
    assert HEAD.tobytes() in made.weights[-1]
    assert HEAD.tobytes() not in made.graph
    np.testing.assert_array_equal(opened_apart(made, tmp_path), answer(content))


def test_weights_beside_a_file_are_taken_along(tmp_path: Path) -> None:
    content = model()
    onnx.save_model(
        onnx.ModelProto.FromString(content.SerializeToString()),
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    made = externalise(tmp_path / "m.onnx")
    assert made == externalise(bytes(content.SerializeToString()))


def test_a_model_without_small_or_without_any_weights_is_one_too(tmp_path: Path) -> None:
    old = onnx.load_model_from_string(typed_model())
    old.ir_version = 3  # then initializers are inputs, which may be overridden
    old.opset_import[0].version = 13
    nodes = [helper.make_node("ReduceMean", ["float"], ["colour"], axes=[1, 2], keepdims=0)]
    old.graph.node[1].CopyFrom(nodes[0])
    del old.graph.initializer[0]
    for tensor in old.graph.initializer:
        old.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    content = bytes(old.SerializeToString())
    made = externalise(content)
    assert made.weights == []
    np.testing.assert_array_equal(opened_apart(made, tmp_path), answer(content))


def elsewhere(location: str) -> bytes:
    content = model()
    tensor = content.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return bytes(content.SerializeToString())


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "a/../../b", "", "c:\\x"])
def test_weights_outside_the_folder_of_a_file_are_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "m.onnx").write_bytes(elsewhere(location))
    with pytest.raises(ModelError, match=r"outside that folder|valid ONNX"):
        externalise(tmp_path / "m.onnx")


def with_dims(*dims: int) -> bytes:
    content = model()
    content.graph.initializer[1].dims[:] = dims
    return bytes(content.SerializeToString())


def custom() -> bytes:
    nodes = [helper.make_node("Attack", ["colour", "head"], ["wide"], domain="evil")]
    return bytes(model(nodes, [numpy_helper.from_array(HEAD, "head")], domains=("evil",)).SerializeToString())


def custom_in_a_branch() -> bytes:
    found = onnx.load_model_from_string(branching_model())
    found.graph.node[-2].attribute[0].g.node[0].domain = "evil"
    found.opset_import.append(helper.make_opsetid("evil", 1))
    return bytes(found.SerializeToString())


def sparse() -> bytes:
    content = model()
    values = numpy_helper.from_array(np.ones(2, np.float32), "sparse")
    places = numpy_helper.from_array(np.array([1, 5]), "places")
    content.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [64]))
    return bytes(content.SerializeToString())


def sparse_constant() -> bytes:
    values = numpy_helper.from_array(np.ones(2, np.float32), "sparse")
    places = numpy_helper.from_array(np.array([1, 5]), "places")
    constant = helper.make_node(
        "Constant", [], ["head"], sparse_value=helper.make_sparse_tensor(values, places, [3, 64])
    )
    nodes = [constant, helper.make_node("MatMul", ["colour", "head"], ["wide"])]
    return bytes(model(nodes).SerializeToString())


def elsewhere_in_a_function() -> bytes:
    """Where a search of the graph alone does not look."""
    found = onnx.load_model_from_string(function_model())
    hidden = numpy_helper.from_array(HEAD, "hidden")
    node = helper.make_node("Constant", [], ["unused"], value=hidden)
    tensor = node.attribute[0].t
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    found.functions[0].node.append(node)
    return bytes(found.SerializeToString())


def named_like_a_slot() -> bytes:
    content = model()
    content.graph.node[0].name = slot(7)
    return bytes(content.SerializeToString())


def typed_liar() -> bytes:
    content = onnx.load_model_from_string(typed_model())
    content.graph.initializer[-1].dims[:] = [2**20, 2**20]
    return bytes(content.SerializeToString())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (elsewhere("w.bin"), "inside the ONNX bytes"),
        (elsewhere_in_a_function(), "Embed the weights|inside the ONNX bytes|valid ONNX"),
        (with_dims(2**40, 3), "expected"),
        (with_dims(64, -3), "expected"),
        (with_dims(64, 4), "expected"),
        (typed_liar(), "expected"),
        (custom(), "evil:Attack"),
        (custom_in_a_branch(), "evil:"),
        (sparse(), "sparse"),
        (sparse_constant(), "sparse"),
        (named_like_a_slot(), "zooselect-slot"),
        (b"", "valid ONNX"),
        (b"PK\x03\x04 not a model", "valid ONNX"),
    ],
    ids=[
        *("outside", "function", "huge", "negative", "larger", "typed", "custom", "inner", "sparse"),
        *("sparse constant", "slot", "empty", "zip"),
    ],
)
def test_what_devices_cannot_be_expected_to_open_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        externalise(content)


def test_a_truncated_file_is_refused_wherever_it_ends() -> None:
    content = build_onnx(COLOURS)
    for end in range(0, len(content), 7):
        with pytest.raises(ModelError):
            externalise(content[:end])
