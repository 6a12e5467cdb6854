"""Quantisation to 8 bits: it keeps the answers, the contract and the disk clean."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from zoo.architectures.convnet import ConvNet
from zoo.architectures.preprocessing import Preprocessing
from zoo.convert.export import export_module
from zoo.convert.int8.compress import quantize_int8
from zoo.errors import DataError, ImageError, ModelError
from zoo.models.session import open_session

CLASSES = ("cat", "dog", "emu")


@pytest.fixture(scope="module")
def model() -> bytes:
    torch.manual_seed(0)
    return export_module(
        ConvNet((16, 32), (1, 1), 3), Preprocessing((16, 16), crop=0.9), name="net", classes=CLASSES
    )


def images(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (20 + i % 3, 24, 3), dtype=np.uint8) for i in range(count)]


@pytest.fixture(scope="module")
def quantised(model: bytes) -> bytes:
    return quantize_int8(model, images(32), name="net-int8")


def test_stays_close_to_the_float_model(model: bytes, quantised: bytes) -> None:
    batch = np.stack(images(64, seed=1)[::3])
    expected = open_session(model, name="f").run(["logits"], {"image": batch})[0]
    got = open_session(quantised, name="q").run(["logits"], {"image": batch})[0]
    assert np.abs(got - expected).max() < 0.1 * np.abs(expected).max()


def test_keeps_the_contract_and_a_float_front(quantised: bytes) -> None:
    graph = onnx.load_model_from_string(quantised).graph
    assert [value.name for value in graph.input] == ["image"]
    assert [value.name for value in graph.output] == ["logits"]
    kinds = {node.op_type for node in graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Resize", "Slice"} <= kinds
    before = graph.node[: [node.op_type for node in graph.node].index("QuantizeLinear")]
    assert "Resize" in {node.op_type for node in before}


def test_folds_normalisation_behind_the_first_layer_and_shrinks_the_weights(
    model: bytes, quantised: bytes
) -> None:
    nodes = onnx.load_model_from_string(quantised).graph.node
    kinds = [node.op_type for node in nodes if not node.name.startswith("input/")]
    assert kinds.count("BatchNormalization") == 1
    assert kinds.index("Conv") + 1 == kinds.index("BatchNormalization")
    assert len(quantised) < 0.6 * len(model)


def test_layers_stay_in_float_where_that_is_faster(quantised: bytes) -> None:
    graph = onnx.load_model_from_string(quantised).graph
    weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
    layers = [node.input[1] for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    in_float = [weights.get(name) == onnx.TensorProto.FLOAT for name in layers]
    assert in_float == [True, *[False] * (len(layers) - 2), True]


def test_a_heavy_last_layer_is_quantised() -> None:
    torch.manual_seed(0)
    sees = Preprocessing((16, 16))
    heavy = export_module(ConvNet((8,), (1,), 60), sees, name="net", classes=[str(i) for i in range(60)])
    graph = onnx.load_model_from_string(quantize_int8(heavy, images(8), name="q")).graph
    assert graph.node[-1].op_type in ("DequantizeLinear", "Gemm")
    last = [node for node in graph.node if node.op_type == "Gemm"][-1]
    assert last.input[1] not in {tensor.name for tensor in graph.initializer}


def test_equal_input_gives_equal_bytes(model: bytes, quantised: bytes) -> None:
    assert quantize_int8(model, images(32), name="net-int8") == quantised


def test_is_silent_and_cleans_up(
    model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    content = quantize_int8(model, images(8), name="q")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert str(tmp_path).encode() not in content


def test_refuses_bad_calibration_images(model: bytes) -> None:
    with pytest.raises(DataError, match="at least 8 calibration images, got 3"):
        quantize_int8(model, images(3), name="q")
    with pytest.raises(ImageError, match="grayscale"):
        quantize_int8(model, [*images(8), np.zeros((5, 5), np.uint8)], name="q")


def test_refuses_what_is_quantised_already(quantised: bytes) -> None:
    with pytest.raises(ModelError, match="already"):
        quantize_int8(quantised, images(8), name="q")


def test_refuses_what_is_no_model() -> None:
    with pytest.raises(ModelError, match="'q'"):
        quantize_int8(b"nothing", images(8), name="q")
