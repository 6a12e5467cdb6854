"""Claims about refitted heads: better where they were fitted, in float or behind an 8-bit body, and small."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from training.data.environments import under_environments
from training.data.images import ArrayImages, LabelledImages
from training.data.seen import FOLDER, seen_in_training
from training.data.sources import digits
from training.networks.refit import refit_head
from zoo.convert.head import find_head, head_difference, replace_head, with_embedding
from zoo.errors import CardError, DataError, ModelError
from zoo.files import read_verified
from zoo.models.model import EMBEDDING, Model
from zoo.models.session import open_session
from zoo.models.zoo import Zoo
from zoo.publisher.external_data import externalise


@pytest.fixture(scope="module")
def zoo(digits_zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    folder = tmp_path_factory.mktemp("refit") / "zoo"
    return Zoo.open(shutil.copytree(digits_zoo.folder, folder))


@pytest.fixture(scope="module")
def blurred() -> LabelledImages:
    return under_environments(digits(), ["blur"])


def content_of(zoo: Zoo, name: str) -> bytes:
    card = zoo.card(name)
    return read_verified(zoo.folder / card.file, card.sha256, card.size_bytes)


@pytest.mark.parametrize("name", ["tiny", "tiny-int8"])
def test_a_new_head_is_better_and_all_else_stays(zoo: Zoo, blurred: LabelledImages, name: str) -> None:
    shutil.rmtree(zoo.folder / FOLDER, ignore_errors=True)
    made = refit_head(zoo, name, blurred, "blur", progress=False)
    assert made.kept
    plain = digits()
    pixels = np.stack([plain.image(i) for i in range(len(plain))])
    other = ArrayImages(pixels, plain.classes, [f"other {one}" for one in plain.ids], plain.labels)
    seen = seen_in_training(zoo, [made.card], other)
    assert 0.3 < seen.mean() < 0.5, "what it learned from is known under other names, and only that"
    assert made.after > made.before + 0.05
    child, parent = content_of(zoo, f"{name}-blur"), content_of(zoo, name)
    card = zoo.card(f"{name}-blur")
    assert card.adapted is not None
    assert (card.parent, card.compression) == (name, zoo.card(name).compression)
    head = find_head(child, classes=10, name=name)
    assert card.adapted.changed_bytes == made.difference.changed_bytes
    assert card.adapted.changed_bytes == head.weights.nbytes + head.bias.nbytes
    before, after = (set(externalise(one).weights) for one in (parent, child))
    if name == "tiny":
        assert externalise(child).graph == externalise(parent).graph
    fresh = sum(len(blob) for blob in after - before)
    assert fresh < 0.2 * sum(map(len, after)) + 8192
    model, old = (Model(zoo.card(one), content_of(zoo, one)) for one in (f"{name}-blur", name))
    images = np.stack([blurred.image(i) for i in range(32)])
    assert np.isfinite(model.logits(images)).all()
    assert not (model.logits(images) == old.logits(images)).all()


def test_an_embedding_is_what_goes_into_the_head(zoo: Zoo, blurred: LabelledImages) -> None:
    images = np.stack([blurred.image(i) for i in range(16)])
    for name in ("tiny", "tiny-int8"):
        content = content_of(zoo, name)
        head = find_head(content, classes=10, name=name)
        extended = with_embedding(content, classes=10, name=name)
        assert with_embedding(extended, classes=10, name=name) == extended
        logits, embedding = open_session(extended, name=name).run(["logits", EMBEDDING], {"image": images})
        mine = embedding @ head.weights + head.bias
        assert np.abs(mine - logits).max() < (1e-4 if name == "tiny" else 0.5)
        again = replace_head(content, head.weights, head.bias, name=name)
        assert np.abs(open_session(again, name=name).run(None, {"image": images})[0] - mine).max() < 1e-4
        assert head_difference(content, again).changed_bytes == (0 if name == "tiny" else 4 * mine[0].size
                                                                 + head.weights.nbytes)  # fmt: skip


def test_a_product_and_a_sum_are_a_head() -> None:
    rng = np.random.default_rng(0)
    weights, bias = rng.normal(size=(3, 4)).astype(np.float32), np.arange(4, dtype=np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["wide", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(bias, "bias"),
            numpy_helper.from_array(np.array([1, 2]), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    content = model.SerializeToString()
    head = find_head(content, classes=4, name="small")
    assert (head.weights == weights).all()
    assert (head.bias == bias).all()
    new = replace_head(content, 2 * weights, bias - 1, name="small")
    onnx.checker.check_model(onnx.load_model_from_string(new))
    image = rng.integers(0, 256, (2, 3, 3, 3), dtype=np.uint8)
    found = open_session(new, name="small").run(None, {"image": image})[0]
    assert found == pytest.approx(image.mean(axis=(1, 2)) @ (2 * weights) + bias - 1, rel=1e-4)
    with pytest.raises(ModelError, match=r"expected a finite head \[3, 4\]"):
        replace_head(content, weights * np.nan, bias, name="small")


def test_what_has_no_head_or_too_few_images_is_refused(zoo: Zoo, blurred: LabelledImages) -> None:
    with pytest.raises(ModelError, match="expected logits from a last product with stored weights and 7"):
        find_head(content_of(zoo, "tiny"), classes=7, name="tiny")
    with pytest.raises(DataError, match="expected at least 100 images"):
        refit_head(zoo, "tiny", blurred.subset(np.arange(50)), "few", share=1, progress=False)
    with pytest.raises(CardError, match="expected another name for the child"):
        refit_head(zoo, "tiny", blurred, "blur", name="tiny", progress=False)
