"""Kinds of foreign networks: added with the answers of the original, or refused for the true reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.foreign_models import CLASSES, foreign
from tests.support.kinds_of_networks import (
    NETWORKS,
    add_weights,
    branches,
    classifier_map,
    dynamic_scales,
    end_in,
    one_output,
    takes,
    training_mode,
    whole,
)
from zoo.architectures.preprocessing import Preprocessing
from zoo.convert.add import add_foreign
from zoo.convert.count import count_facts
from zoo.convert.foreign.import_onnx import wrap_foreign
from zoo.convert.int8.add_int8 import add_int8
from zoo.errors import ClassMismatchError, ModelError
from zoo.models.zoo import Zoo

SEEN = Preprocessing((8, 10))
TYPES = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(double)": np.float64}
TYPES |= {"tensor(uint8)": np.uint8, "tensor(int32)": np.int32}


def session(content: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def wrap(model: onnx.ModelProto, classes: tuple[str, ...] = CLASSES, **how: Any) -> bytes:
    return wrap_foreign(model.SerializeToString(), SEEN, name="theirs", classes=classes, **how)


def images(count: int = 3) -> np.ndarray:
    """Images of different brightness, so that what is computed over a batch shows."""
    drawn = np.random.default_rng(1).integers(0, 256, (count, 8, 10, 3))
    return (drawn // np.arange(1, count + 1)[:, None, None, None]).astype(np.uint8)


def answers(content: bytes, count: int = 3) -> np.ndarray:
    result: np.ndarray = session(content).run(["logits"], {"image": images(count)})[0]
    return result


def by_hand(model: onnx.ModelProto, count: int = 3) -> list[Any]:
    """What ONNX Runtime answers to each image alone, from the file as it is but for a batch size of 0."""
    for axis in model.graph.input[0].type.tensor_type.shape.dim:
        if axis.dim_value == 0 and axis.HasField("dim_value"):
            axis.dim_param = "N"
    opened = session(model.SerializeToString())
    source = opened.get_inputs()[0]
    dtype = TYPES[source.type]
    found = []
    for image in images(count):
        planes = image.transpose(2, 0, 1) if dtype().dtype.kind in "ui" else image.transpose(2, 0, 1) / 255
        planes = np.ascontiguousarray(planes, dtype)
        feed = planes if len(source.shape) == 3 else planes[np.newaxis]
        found.append(opened.run([opened.get_outputs()[0].name], {source.name: feed})[0])
    return found


@pytest.mark.parametrize("kind", NETWORKS)
def test_answers_in_a_batch_like_the_original_alone(kind: str) -> None:
    expected = np.stack([answer.reshape(-1) for answer in by_hand(NETWORKS[kind]())])
    content = wrap(NETWORKS[kind]())
    half = "half" in kind
    np.testing.assert_allclose(answers(content), expected, atol=0.01 if half else 1e-5, rtol=0)
    assert count_facts(content, (8, 10), name=kind).macs >= 6 * 27 * 20 + 18


def test_an_output_in_maps_answers_like_the_original() -> None:
    expected = [[row[name] for name in "abc"] for (row,) in by_hand(classifier_map())]
    content = wrap(classifier_map(), output_kind="probabilities")
    np.testing.assert_allclose(np.exp(answers(content)), expected, atol=1e-6)


def test_sigmoids_become_log_odds() -> None:
    model = end_in(one_output(), helper.make_node("Sigmoid", ["y"], ["z"]))
    content = wrap(model, output_kind="probabilities")
    np.testing.assert_allclose(answers(content), np.concatenate(by_hand(one_output())), atol=1e-4)
    scores = answers(wrap(model))  # as they are, where nobody says what they are
    np.testing.assert_allclose(scores, np.concatenate(by_hand(model)), atol=1e-6)


def single(sigmoid: bool, flat: bool = False) -> onnx.ModelProto:
    """The network with one output."""
    model = one_output()
    add_weights(model, first=np.array([0]) if not flat else np.array(0))
    nodes = [helper.make_node("Gather", ["y", "first"], ["one"], axis=1)]
    if sigmoid:
        nodes.append(helper.make_node("Sigmoid", ["one"], ["p"]))
    return end_in(model, *nodes)


@pytest.mark.parametrize("flat", [False, True])
def test_one_output_for_two_classes_is_that_of_the_second(flat: bool) -> None:
    odds = np.reshape(by_hand(single(False)), -1)
    second = np.reshape(by_hand(single(True)), -1)
    probable = answers(wrap(single(True, flat), ("no", "yes"), output_kind="probabilities")).astype(
        np.float64
    )
    softmax = np.exp(probable) / np.exp(probable).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax, np.stack([1 - second, second], axis=1), atol=1e-5)
    logits = answers(wrap(single(False, flat), ("no", "yes")))
    np.testing.assert_allclose(logits, np.stack([0 * odds, odds], axis=1), atol=1e-5)
    with pytest.raises(ModelError, match="--probabilities"):
        wrap(single(True, flat), ("no", "yes"))
    with pytest.raises(ClassMismatchError, match="two for a network with one output"):
        wrap(single(True), output_kind="probabilities")


def foreign_domain(domain: str, *, imported: bool = True) -> onnx.ModelProto:
    model = end_in(one_output(), helper.make_node("Fancy", ["y"], ["z"], domain=domain))
    if imported:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def sequence() -> onnx.ModelProto:
    model = end_in(one_output(), helper.make_node("SequenceConstruct", ["y"], ["z"]))
    model.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("z", TensorProto.FLOAT, None))
    return model


def chosen() -> onnx.ModelProto:
    node = helper.make_node("ArgMax", ["y"], ["z"], axis=1)
    return end_in(one_output(), node, kind=TensorProto.INT64)


def newer() -> onnx.ModelProto:
    model = one_output()
    model.opset_import[0].version = 99
    return model


REFUSED = {
    "custom domain": (foreign_domain("acme.ai"), "'Fancy' of the domain 'acme.ai'"),
    "not imported": (foreign_domain("acme.ai", imported=False), "'acme.ai', which the file does not import"),
    "layout": (foreign_domain("com.microsoft.nchwc"), "memory layout .* not 'all'"),
    "sequence": (sequence(), "a list or a map"),
    "chosen class": (chosen(), "int64: the chosen class"),
    "vector": (takes(TensorProto.FLOAT, ["N", 768]), "a vector of 768 numbers, not an image"),
    "whole vector": (takes(TensorProto.INT32, ["N", "L"]), "a vector of numbers, not an image"),
    "five axes": (takes(TensorProto.FLOAT, ["N", 3, 4, 8, 10]), "no images but another form of data"),
    "truth values": (takes(TensorProto.BOOL), "such values cannot be added"),
    "newer opset": (newer(), "got opset 99"),
    "changing answers": (training_mode(offset=0.0), "same answer to the same image each time"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refuses_for_the_true_reason(kind: str) -> None:
    model, reason = REFUSED[kind]
    with pytest.raises(ModelError, match=reason) as told:
        wrap(model)
    assert "corrupt" not in str(told.value)
    assert "batch" not in str(told.value)


def test_whole_pixels_are_from_0_to_255() -> None:
    with pytest.raises(ModelError, match="Leave --scale out"):
        wrap(whole(TensorProto.UINT8), scale="0..1")


def test_whole_pixels_are_rounded_and_kept_in_range() -> None:
    content = wrap_foreign(
        whole(TensorProto.INT8).SerializeToString(),
        Preprocessing((8, 10), mean=(0.5, 0.5, 0.5)),
        name="theirs",
        classes=CLASSES,
    )
    planes = np.clip(np.round(images().transpose(0, 3, 1, 2) - 127.5), -128, 127).astype(np.int8)
    original = whole(TensorProto.INT8).SerializeToString()
    expected = session(original).run(["y"], {"given": planes})[0]
    np.testing.assert_allclose(answers(content), expected, atol=1e-5)


def test_a_model_that_answers_each_image_alone_says_so(tmp_path: Path) -> None:
    zoo = Zoo.create(tmp_path / "zoo")
    model = foreign()
    del model.graph.output[1:]
    card = add_foreign(zoo, "alone", dynamic_scales().SerializeToString(), SEEN, CLASSES)
    assert card.source == "foreign ONNX, each image alone"
    assert add_foreign(zoo, "inside", branches().SerializeToString(), SEEN, CLASSES).source == "foreign ONNX"
    model = end_in(model, helper.make_node("Squeeze", ["y"], ["z"]), shape=[3])
    add_foreign(zoo, "squeezed", model.SerializeToString(), SEEN, CLASSES)
    with pytest.raises(ModelError, match="answers each image alone"):
        add_int8(zoo, "squeezed", list(images(8)))
    with pytest.raises(ModelError, match="quantised already"):
        add_int8(zoo, "alone", list(images(8)))


def cached(folder: Path) -> Path:
    """A file and its weights in a content-addressed cache, with the links that name them."""
    blobs, named = folder / "blobs", folder / "snapshots" / "main"
    for each in (blobs, named):
        each.mkdir(parents=True)
    model = one_output()
    onnx.save_model(model, named / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    for name, digest in (("m.onnx", "1f2e"), ("m.data", "9a8b")):
        (named / name).rename(blobs / digest)
        (named / name).symlink_to(Path("../../blobs") / digest)
    return named / "m.onnx"


def beside(folder: Path) -> Path:
    """A link to a file whose weights lie beside the file, not beside the link."""
    (folder / "real").mkdir()
    real = folder / "real" / "m.onnx"
    onnx.save_model(one_output(), real, save_as_external_data=True, location="m.data", size_threshold=0)
    (folder / "link.onnx").symlink_to(real)
    return folder / "link.onnx"


@pytest.mark.parametrize("layout", [cached, beside])
def test_follows_links_to_a_file_and_to_weights_beside_it(layout: Any, tmp_path: Path) -> None:
    content = wrap_foreign(layout(tmp_path), SEEN, name="theirs", classes=CLASSES)
    np.testing.assert_array_equal(answers(content), answers(wrap(one_output())))


def test_a_link_gives_no_way_to_other_folders(tmp_path: Path) -> None:
    path = cached(tmp_path)
    (tmp_path / "secret").write_bytes((path.parent / "m.data").read_bytes())
    (path.parent / "m.data").unlink()
    (path.parent / "m.data").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="outside that folder"):
        wrap_foreign(path, SEEN, name="theirs", classes=CLASSES)
    (path.parent / "m.data").unlink()
    (path.parent / "m.data").mkdir()
    with pytest.raises(ModelError, match="no file"):
        wrap_foreign(path, SEEN, name="theirs", classes=CLASSES)


def test_weights_that_are_read_again_and_again_have_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = one_output()
    for i in range(40):
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(1000, np.float32), f"more {i}"))
    path = tmp_path / "m.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    monkeypatch.setattr("zoo.convert.foreign.import_file.MAX_BYTES", 100_000)
    with pytest.raises(ModelError, match="less than 2 GB with all weights"):
        wrap_foreign(path, SEEN, name="theirs", classes=CLASSES)
