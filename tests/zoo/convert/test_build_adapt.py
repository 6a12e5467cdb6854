"""Claims about children: they differ from their parent in small tensors only, and little of them moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization.shape_inference import quant_pre_process

from tests.support.small_models import build_onnx
from zoo.architectures.cifar_resnet import CifarResNet
from zoo.architectures.preprocessing import Preprocessing
from zoo.convert.exchange import changeable, choose_what, difference, exchange
from zoo.convert.export import export_module
from zoo.convert.int8.compress import quantize_int8
from zoo.convert.torch_graph import TorchGraph, stored_tensors
from zoo.errors import ModelError
from zoo.files import sha256_bytes
from zoo.publisher.external_data import externalise

CLASSES = tuple("abcdefghij")


@pytest.fixture(scope="module")
def parent() -> bytes:
    torch.manual_seed(0)
    return export_module(CifarResNet(20), Preprocessing((32, 32)), name="net", classes=CLASSES)


def shaken(parent: bytes) -> bytes:
    """A child with other normalisation and another head."""
    found = changeable(parent, classes=10, name="net")
    graph = TorchGraph(parent, name="net", learned=(*found.normalisation, *found.statistics, *found.head))
    rng = np.random.default_rng(1)
    values = {}
    for key in (*found.normalisation, *found.statistics, *found.head):
        values[key] = (graph.tensor(key) * rng.uniform(0.8, 1.2, graph.tensor(key).shape) + 0.01).astype(
            np.float32
        )
    return exchange(parent, values)


def moved(before: bytes, after: bytes) -> tuple[int, int]:
    """Bytes of the blobs of `after` that `before` does not have, and of all its blobs."""
    held, new = (
        {sha256_bytes(b): len(b) for b in (e.graph, *e.weights)} for e in map(externalise, (before, after))
    )
    return sum(size for digest, size in new.items() if digest not in held), sum(new.values())


def test_finds_normalisation_and_head_but_not_the_preprocessing(parent: bytes) -> None:
    found = changeable(parent, classes=10, name="net")
    assert len(found.normalisation) == len(found.statistics) == 2 * 19
    assert set(found.head) == {"linear.weight", "linear.bias"}
    assert not any(key.startswith("input/") for key in (*found.normalisation, *found.statistics))
    assert choose_what(found, None, name="net") == ("normalisation", "head")


def test_a_large_head_stays_unless_asked_for() -> None:
    content = export_module(
        CifarResNet(8, 200), Preprocessing((32, 32)), name="net", classes=[str(i) for i in range(200)]
    )
    found = changeable(content, classes=200, name="net")
    assert choose_what(found, None, name="net") == ("normalisation",)
    assert choose_what(found, ("head", "normalisation"), name="net") == ("normalisation", "head")


def test_where_normalisation_is_folded_biases_take_its_place(parent: bytes, tmp_path: Path) -> None:
    source, path = tmp_path / "net.onnx", tmp_path / "folded.onnx"
    source.write_bytes(parent)
    quant_pre_process(source, path, skip_symbolic_shape=True)
    found = changeable(onnx.load(path).SerializeToString(), classes=10, name="net")
    assert (len(found.normalisation), len(found.biases)) == (0, 19)
    assert choose_what(found, None, name="net") == ("biases", "head")
    with pytest.raises(ModelError, match="got normalisation; it has biases, head"):
        choose_what(found, ("normalisation",), name="net")


def test_a_model_without_anything_to_adapt_is_refused() -> None:
    found = changeable(build_onnx(), classes=99, name="m")._replace(biases=(), head=())
    with pytest.raises(ModelError, match="not folded"):
        choose_what(found, None, name="m")


def test_the_child_differs_in_nothing_else(parent: bytes) -> None:
    child = shaken(parent)
    found = changeable(parent, classes=10, name="net")
    one, two = (stored_tensors(onnx.load_model_from_string(c).graph) for c in (parent, child))
    changed = {key for key in one if one[key] != two[key]}
    assert changed == {*found.normalisation, *found.statistics, *found.head}
    assert len(child) == len(parent)
    assert difference(parent, child).share < 0.02


def test_a_float_child_moves_less_than_two_percent(parent: bytes) -> None:
    new, total = moved(parent, shaken(parent))
    assert new < 0.02 * total


def test_an_8_bit_child_shares_the_codes_of_its_kin(parent: bytes) -> None:
    images = list(np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8))
    kin = quantize_int8(parent, images, name="kin")
    child = quantize_int8(shaken(parent), images, name="child", like=kin)
    new, total = moved(kin, child)
    assert new < 0.05 * total
    assert difference(kin, child).share < 0.05


@pytest.mark.parametrize("value", [np.zeros(3, np.float32), np.full(10, np.nan, np.float32)])
def test_refuses_another_shape_and_what_is_not_finite(parent: bytes, value: np.ndarray) -> None:
    with pytest.raises(ModelError, match="expected finite values of its own shape"):
        exchange(parent, {"linear.bias": value})


def test_refuses_to_compare_two_graphs(parent: bytes) -> None:
    with pytest.raises(ModelError, match="two models of one graph"):
        difference(parent, build_onnx())
