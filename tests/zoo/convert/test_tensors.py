"""Claims about foreign networks of named arrays: all of a zoo take the same ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from tests.support.command_line import CommandLine
from tests.support.small_tensors import CLASSES, KIND, network, tensor_zoo
from zoo import Zoo
from zoo.convert.add import add_tensors
from zoo.convert.foreign.import_tensors import tensors_of
from zoo.errors import ModelError
from zoo.inputs.kinds import kind_of
from zoo.inputs.tensors import Array, Tensors
from zoo.models.session import open_session


def test_networks_of_other_types_lengths_and_arrays_take_what_the_zoo_takes(tmp_path: Path) -> None:
    zoo = tensor_zoo(tmp_path)
    short = network(tokens=True, type=TensorProto.INT32, length=4)
    add_tensors(zoo, "short", short, CLASSES)
    rng = np.random.default_rng(0)
    batch = KIND.stack([KIND.random((1, 14), rng) for _ in range(3)])
    feeds = KIND.feeds(batch)
    wanted = open_session(short, name="short").run(
        None, {"tokens": feeds["tokens"][:, :4].astype(np.int32), "row": feeds["row"]}
    )[0]
    np.testing.assert_allclose(zoo.model("short").logits(batch), wanted, atol=1e-6)
    small = zoo.model("small").logits(batch)
    np.testing.assert_allclose(small[:, 1], 3 * feeds["row"].sum(axis=1), atol=1e-5)
    assert kind_of(zoo.card("short").kind.record) == KIND


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_an_estimator_of_scikit_learn_is_added_by_command(zooselect: CommandLine, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80, 3)).astype(np.float32)
    fitted = LogisticRegression().fit(rows, rows[:, 0] > 0)
    content = to_onnx(fitted, rows[:1], target_opset=18).SerializeToString()
    (tmp_path / "lr.onnx").write_bytes(content)
    (tmp_path / "names.txt").write_text("no\nyes\n")
    added = zooselect(
        *("zoo", "add", "--onnx", "lr.onnx", "--tensors", "--classes", "names.txt", "--probabilities"),
        *("--zoo", "z", "--json"),
    ).json()
    assert added["input"]["settings"]["arrays"] == [
        {"name": "X", "type": "float32", "shape": [3], "pad": None}
    ]
    logits = Zoo.open("z").model("lr").logits(rows)
    np.testing.assert_allclose(np.exp(logits), fitted.predict_proba(rows), atol=1e-5)
    failed = zooselect("zoo", "add", "--onnx", "lr.onnx", "--tensors", "--size", "8", code=1)
    assert "expected only options that apply to it" in failed.err


def test_what_a_zoo_cannot_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Say how long that axis may be with --length"):
        tensors_of(network(tokens=True), name="m")
    zoo = tensor_zoo(tmp_path)
    with pytest.raises(ModelError, match=r"inputs among those of the zoo, tokens int64 \[1 to 12\]; row"):
        add_tensors(zoo, "long", network(tokens=True, length=13), CLASSES)
    with pytest.raises(ValueError, match="expected a letter"):
        Array("logits", "float32")
    with pytest.raises(ValueError, match="of distinct names"):
        Tensors((Array("a", "float32"), Array("a", "int64")))
