"""Claims about one ONNX model: it answers under the contract, or says why not."""

from __future__ import annotations

import concurrent.futures
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.small_models import COLOURS, build_onnx, plain_image
from zoo import Model, ModelCard, Zoo
from zoo.errors import ImageError, ModelError
from zoo.files import sha256_bytes
from zoo.models.session import open_session

GOOD = build_onnx()


def card(content: bytes = GOOD, classes: tuple[str, ...] = COLOURS) -> ModelCard:
    return ModelCard(
        name="tiny",
        classes=classes,
        resolution=(8, 8),
        file="models/tiny.onnx",
        sha256=sha256_bytes(content),
        size_bytes=len(content) or 1,
        parameters=12,
        macs=9,
    )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (5, 31), (480, 640)])
def test_answers_images_of_any_size(size: tuple[int, int], threads: int) -> None:
    model = Model(card(), GOOD, threads=threads)
    logits = model.logits(np.stack([plain_image(colour, size) for colour in COLOURS]))
    assert logits.dtype == np.float32
    assert logits.shape == (3, 3)
    assert logits.argmax(axis=1).tolist() == [0, 1, 2]


def test_a_batch_gets_the_answers_of_its_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 6, 7, 3), dtype=np.uint8)
    model = Model(card(), GOOD)
    alone = np.concatenate([model.logits(image[np.newaxis]) for image in images])
    np.testing.assert_allclose(model.logits(images), alone, atol=1e-5)


def test_takes_images_that_are_not_contiguous() -> None:
    images = np.stack([plain_image(colour, (8, 6)) for colour in COLOURS])
    model = Model(card(), GOOD)
    turned = images[:, ::-2].transpose(0, 2, 1, 3)
    np.testing.assert_allclose(model.logits(turned), model.logits(turned.copy()))


def test_answers_from_many_threads_at_once() -> None:
    model = Model(card(), GOOD)
    images = [plain_image(COLOURS[i % 3])[np.newaxis] for i in range(60)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = [int(logits.argmax()) for logits in pool.map(model.logits, images)]
    assert found == [i % 3 for i in range(60)]


def test_warms_up_with_images_of_its_own_choice() -> None:
    model = Model(card(), GOOD)
    model.warm_up(plain_image("red")[np.newaxis], runs=2)
    with pytest.raises(ImageError, match="expected a uint8 array"):
        model.warm_up(plain_image("red"))


def test_opens_the_file_of_a_card(small_zoo: Zoo) -> None:
    model = Model.open(small_zoo.card("full"), small_zoo.folder, threads=2)
    assert model.threads == 2
    assert int(model.logits(plain_image("blue")[np.newaxis]).argmax()) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_name": "input"}, r"expected inputs image uint8 \[N, H, W, 3\], got input uint8"),
        ({"input_type": onnx.TensorProto.FLOAT}, r"expected inputs image uint8 .* got image float32"),
        ({"input_type": onnx.TensorProto.INT8}, r"expected inputs image uint8 .* got image int8"),
        ({"input_shape": (1, "H", "W", 3)}, r"got image uint8 \[1, 'H', 'W', 3\]"),
        ({"input_shape": ("N", 8, 8, 3)}, r"got image uint8 \['N', 8, 8, 3\]"),
        ({"input_shape": ("N", 3, "H", "W")}, r"got image uint8 \['N', 3, 'H', 'W'\]"),
        ({"extra_input": True}, r"got image uint8 .*; extra float32 \[1\]"),
        ({"output_name": "scores"}, r"expected outputs logits float32 \[N, 3\], got scores float32"),
        ({"classes": ("cat", "dog")}, r"expected outputs logits float32 \[N, 3\], got .*\['N', 2\]"),
    ],
)
def test_refuses_a_graph_with_another_contract(change: dict[str, Any], message: str) -> None:
    content = build_onnx(**change)
    with pytest.raises(ModelError, match=f"(?s)model 'tiny': .*{message}.*Foreign ONNX files are wrapped"):
        Model(card(content), content)


def test_refuses_a_graph_without_outputs_that_it_names() -> None:
    graph = onnx.load_from_string(GOOD)
    graph.graph.output.add().CopyFrom(onnx.helper.make_empty_tensor_value_info("colour"))
    with pytest.raises(ModelError, match=r"expected outputs logits float32 \[N, 3\], got logits .*; colour"):
        Model(card(), graph.SerializeToString())


@pytest.mark.parametrize("length", [0, 1, 50, len(GOOD) // 2, len(GOOD) - 1])
def test_refuses_a_truncated_file(length: int) -> None:
    with pytest.raises(
        ModelError, match=r"expected an ONNX graph that ONNX Runtime .* can run, got: .*corrupt"
    ):
        Model(card(), GOOD[:length])


@given(st.binary(max_size=300))
def test_refuses_random_bytes(content: bytes) -> None:
    with pytest.raises(ModelError, match="model 'junk'"):
        open_session(content, name="junk")


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "{folder}/weights.bin"])
def test_refuses_weights_that_no_digest_covers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(bytes(36))
    graph = onnx.load_from_string(GOOD)
    weights = next(item for item in graph.graph.initializer if item.name == "weights")
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location.format(folder=tmp_path), "length": "36"}.items():
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    with pytest.raises(ModelError, match="Embed the weights in the ONNX file"):
        Model(card(), graph.SerializeToString())


def test_says_when_a_graph_fails_on_the_images() -> None:
    content = build_onnx(only_batch=1)
    model = Model(card(content), content)
    model.logits(plain_image("red")[np.newaxis])
    with pytest.raises(ModelError, match=r"'tiny' failed on images \[2, 8, 8, 3\]: .*Add the model again"):
        model.logits(np.stack([plain_image("red")] * 2))


def test_says_when_card_and_file_do_not_belong_together() -> None:
    content = build_onnx(only_batch=0)
    model = Model(card(content, classes=("cat", "dog")), content)
    with pytest.raises(ModelError, match=r"expected logits \[1, 2\], got \[1, 3\]\. Its card and its file"):
        model.logits(plain_image("red")[np.newaxis])
