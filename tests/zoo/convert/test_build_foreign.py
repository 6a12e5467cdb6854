"""Foreign ONNX models, made here with plain ONNX operators, wrapped into the model contract."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.support.foreign_models import CLASSES, PLAIN, foreign
from zoo.architectures.preprocessing import Preprocessing
from zoo.convert.foreign.import_onnx import wrap_foreign
from zoo.errors import ClassMismatchError, ModelError
from zoo.models.session import open_session


def wrap(model: onnx.ModelProto, preprocessing: Preprocessing = PLAIN, **how: Any) -> bytes:
    how = {"output": "p" if model.graph.output[0].name == "p" else "y", "classes": CLASSES} | how
    return wrap_foreign(model.SerializeToString(), preprocessing, name="theirs", **how)


def images(count: int = 3, size: tuple[int, int] = (8, 10)) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def answers(content: bytes, batch: np.ndarray) -> np.ndarray:
    result: np.ndarray = open_session(content, name="test").run(["logits"], {"image": batch})[0]
    return result


def by_hand(model: onnx.ModelProto, batch: np.ndarray, output: str = "y") -> np.ndarray:
    pixels = (batch / 255 - np.array(PLAIN.mean)) / np.array(PLAIN.std)
    planes = pixels.transpose(0, 3, 1, 2).astype(np.float32)
    result: np.ndarray = open_session(model.SerializeToString(), name="t").run([output], {"x": planes})[0]
    return result


def test_answers_like_the_original_behind_its_preprocessing() -> None:
    model = foreign()
    np.testing.assert_allclose(answers(wrap(model), images()), by_hand(model, images()), atol=1e-5)


def test_takes_images_of_any_size() -> None:
    content = wrap(foreign(), Preprocessing((8, 10), crop=0.8, interpolation="bicubic"))
    assert answers(content, images(2, (1, 1))).shape == (2, 3)
    assert answers(content, images(2, (61, 40))).shape == (2, 3)


def test_layout_and_pixel_scale_do_not_change_the_answers() -> None:
    expected = answers(wrap(foreign()), images())
    channels_last = answers(wrap(foreign(layout="nhwc"), layout="nhwc"), images())
    whole_pixels = answers(wrap(foreign(pixel=255.0), scale="0..255"), images())
    np.testing.assert_allclose(channels_last, expected, atol=1e-5)
    np.testing.assert_allclose(whole_pixels, expected, atol=1e-4)


def test_a_network_of_blue_green_red_answers_like_the_original() -> None:
    content = wrap(foreign(), replace(PLAIN, channels="bgr"))
    pixels = (images() / 255 - np.array(PLAIN.mean)) / np.array(PLAIN.std)
    planes = np.ascontiguousarray(pixels[..., ::-1].transpose(0, 3, 1, 2), np.float32)
    expected = open_session(foreign().SerializeToString(), name="t").run(["y"], {"x": planes})[0]
    np.testing.assert_allclose(answers(content, images()), expected, atol=1e-5)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_network_of_one_channel_sees_the_luma(layout: str) -> None:
    model = foreign(layout=layout)
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "kernel")
    kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel)[:, :1].copy(), "kernel"))
    model.graph.input[0].type.tensor_type.shape.dim[1 if layout == "nchw" else 3].dim_value = 1
    content = wrap(model, Preprocessing((8, 10), channels="gray"), layout=layout)
    luma = (images() / 255 @ np.array([0.299, 0.587, 0.114])).astype(np.float32)
    planes = np.expand_dims(luma, 1 if layout == "nchw" else 3)
    expected = open_session(model.SerializeToString(), name="t").run(["y"], {"x": planes})[0]
    np.testing.assert_allclose(answers(content, images()), expected, atol=1e-4)
    with pytest.raises(ModelError, match="--channels gray"):
        wrap(model, layout=layout)


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_converts_older_opsets(opset: int) -> None:
    expected = answers(wrap(foreign()), images())
    np.testing.assert_allclose(answers(wrap(foreign(opset=opset)), images()), expected, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 4])
def test_frees_a_fixed_batch_size(batch: int) -> None:
    content = wrap(foreign(batch=batch, built_in_batch=True))
    np.testing.assert_allclose(answers(content, images(7)), by_hand(foreign(), images(7)), atol=1e-5)


def mixed(batch: int) -> onnx.ModelProto:
    """The foreign model with a batch size that decides about the answers."""
    model = foreign(batch=batch)
    model.graph.node[-1].input[0] = "widened"
    model.graph.node.insert(len(model.graph.node) - 1, helper.make_node("Expand", ["first"], ["widened"]))
    model.graph.node[-2].input.append("one by three")
    model.graph.node.insert(
        len(model.graph.node) - 2,
        helper.make_node("ReduceMean", ["product"], ["first"], axes=[0], keepdims=1),
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 3], np.int64), "one by three"))
    model.opset_import[0].version = 17
    return model


def test_answers_one_by_one_where_a_batch_of_one_is_built_in() -> None:
    alone = [by_hand(mixed(1), images(5)[i : i + 1]) for i in range(5)]
    np.testing.assert_allclose(answers(wrap(mixed(1)), images(5)), np.concatenate(alone), atol=1e-5)


def test_refuses_another_batch_size_that_cannot_be_freed() -> None:
    with pytest.raises(ModelError, match="batch size of 4 is built into the graph and cannot be made free"):
        wrap(mixed(4))


def test_takes_float16_networks() -> None:
    expected = answers(wrap(foreign()), images())
    got = answers(wrap(foreign(half=True)), images())
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=0.02)


def test_takes_the_logarithm_of_probabilities() -> None:
    model = foreign(softmax=True)
    logits = answers(wrap(model, output_kind="probabilities"), images())
    np.testing.assert_allclose(np.exp(logits), by_hand(model, images(), "p"), atol=1e-5)


def test_notices_when_logits_and_probabilities_are_confused() -> None:
    with pytest.raises(ModelError, match="output_kind='logits'"):
        wrap(foreign(), output_kind="probabilities")
    with pytest.raises(ModelError, match="output_kind='probabilities'"):
        wrap(foreign(softmax=True), output_kind="logits")


def test_lists_the_outputs_when_none_is_named() -> None:
    with pytest.raises(ModelError, match=r"one output, got 2: 'y' float32 \[batch, 3\]; 'features'"):
        wrap(foreign(), output=None)
    with pytest.raises(ModelError, match=r"called 'z'; it has: 'y'"):
        wrap(foreign(), output="z")


def test_uses_the_output_that_is_named() -> None:
    assert answers(wrap(foreign(), output="features", classes=tuple("abcdef")), images()).shape == (3, 6)


def test_refuses_a_second_input_that_is_needed() -> None:
    with pytest.raises(ModelError, match="one input, got 2"):
        wrap(foreign(second_input=True))
    with pytest.raises(ModelError, match="also needs 'gain'"):
        wrap(foreign(second_input=True), input="x")


def test_ignores_a_second_input_that_the_output_does_not_need() -> None:
    content = wrap(foreign(second_input=True), input="x", output="features", classes=tuple("abcdef"))
    assert answers(content, images()).shape == (3, 6)


def test_refuses_the_wrong_number_of_classes() -> None:
    with pytest.raises(ClassMismatchError, match=r"\[1, 2\] for 2 classes, got \[1, 3\]"):
        wrap(foreign(), classes=("cat", "dog"))


def test_refuses_another_resolution_than_the_network_s() -> None:
    with pytest.raises(ModelError, match=r"\[N, 3, 9, 9\], got 'x' float32 \[batch, 3, 8, 10\]"):
        wrap(foreign(), Preprocessing((9, 9)))


def test_refuses_the_wrong_layout() -> None:
    with pytest.raises(ModelError, match="layout"):
        wrap(foreign(), layout="nhwc")
    with pytest.raises(ModelError, match="one of nchw, nhwc"):
        wrap(foreign(), layout="hwc")


@pytest.mark.parametrize("cut", [0, 10, 300, -1])
def test_refuses_truncated_files(cut: int) -> None:
    with pytest.raises(ModelError, match="theirs"):
        wrap_foreign(foreign().SerializeToString()[:cut], PLAIN, name="theirs", classes=CLASSES, output="y")


@pytest.mark.parametrize("content", [b"not onnx at all", bytes(1000), b"PK\x03\x04" * 50])
def test_refuses_what_is_not_onnx(content: bytes) -> None:
    with pytest.raises(ModelError, match="valid ONNX file"):
        wrap_foreign(content, PLAIN, name="theirs", classes=CLASSES)


def test_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        wrap_foreign(tmp_path / "nowhere.onnx", PLAIN, name="theirs", classes=CLASSES)


def external(folder: Path) -> Path:
    """The foreign model with its weights in a file beside it."""
    path = folder / "model.onnx"
    onnx.save_model(foreign(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_embeds_weights_that_lie_beside_the_file(tmp_path: Path) -> None:
    content = wrap_foreign(external(tmp_path), PLAIN, name="theirs", classes=CLASSES, output="y")
    np.testing.assert_allclose(answers(content, images()), answers(wrap(foreign()), images()), atol=1e-6)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "a/../../weights.bin", "link.bin"])
def test_refuses_weights_outside_the_folder(tmp_path: Path, location: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    path = external(inner)
    (inner / "weights.bin").rename(tmp_path / "weights.bin")
    (inner / "link.bin").symlink_to(tmp_path / "weights.bin")
    model = onnx.load_model(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="outside that folder"):
        wrap_foreign(path, PLAIN, name="theirs", classes=CLASSES, output="y")


def test_refuses_truncated_weights_and_weights_that_bytes_cannot_bring(tmp_path: Path) -> None:
    path = external(tmp_path)
    with pytest.raises(ModelError, match="path of the ONNX file"):
        wrap_foreign(path.read_bytes(), PLAIN, name="theirs", classes=CLASSES, output="y")
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match="truncated"):
        wrap_foreign(path, PLAIN, name="theirs", classes=CLASSES, output="y")
