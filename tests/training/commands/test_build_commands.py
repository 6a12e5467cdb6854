"""The commands zoo add, zoo compress and zoo list, run as the command line runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.support.foreign_models import foreign_means
from tests.support.small_tensors import network, table_of
from tests.support.zoo_commands import add_onnx, make_folder, run
from zoo.architectures.preprocessing import Preprocess, Preprocessing
from zoo.architectures.torchvision_models import torchvision_model
from zoo.errors import ZooError
from zoo.models.zoo import Zoo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


def test_adds_compresses_and_lists(folder: Path) -> None:
    added = add_onnx(folder, "--mean", "0.5,0.5,0.5", "--crop", "0.9")
    assert added.exit_code == 0, added.output
    compressed = run(
        "compress", "net", "--data", folder / "images", "--zoo", folder / "zoo", "--images", 10, "--share", 1
    )
    assert compressed.exit_code == 0, compressed.output
    cards = json.loads(run("list", "--zoo", folder / "zoo", "--json").stdout)
    assert [card["name"] for card in cards] == ["net", "net-int8"]
    assert cards[1]["parent"] == "net"
    assert "net-int8" in run("list", "--zoo", folder / "zoo").stdout


def test_replaces_a_model_only_when_told(folder: Path) -> None:
    add_onnx(folder)
    assert add_onnx(folder).exit_code == 0  # the same one
    before = json.loads(run("list", "--zoo", folder / "zoo", "--json").stdout)
    with pytest.raises(ZooError, match=r"different model 'net' already: .*--name .*--force"):
        add_onnx(folder, "--mean", "0.5,0.5,0.5")
    assert json.loads(run("list", "--zoo", folder / "zoo", "--json").stdout) == before
    assert add_onnx(folder, "--mean", "0.5,0.5,0.5", "--force").exit_code == 0
    assert json.loads(run("list", "--zoo", folder / "zoo", "--json").stdout) != before


def test_compression_replaces_a_model_only_when_told(folder: Path) -> None:
    add_onnx(folder)
    command = (
        "compress",
        "net",
        "--data",
        folder / "images",
        "--zoo",
        folder / "zoo",
        "--images",
        10,
        "--share",
        1,
    )
    assert run(*command).exit_code == 0
    assert run(*command).exit_code == 0  # the same result
    add_onnx(folder, "--mean", "0.5,0.5,0.5", "--force")
    with pytest.raises(ZooError, match="different model 'net-int8' already"):
        run(*command)
    assert run(*command, "--force").exit_code == 0


def test_renames_and_removes(folder: Path) -> None:
    add_onnx(folder)
    zoo = ("--zoo", folder / "zoo")
    run("compress", "net", "--data", folder / "images", "--images", 10, "--share", 1, *zoo)
    assert "net is called large now" in run("rename", "net", "large", *zoo).stdout
    cards = json.loads(run("list", "--json", *zoo).stdout)
    assert [(card["name"], card.get("parent")) for card in cards] == [("large", None), ("net-int8", "large")]
    assert "still in the zoo: net-int8." in run("remove", "large", *zoo).stdout
    assert [card["name"] for card in json.loads(run("list", "--json", *zoo).stdout)] == ["net-int8"]


def linear() -> bytes:
    """A network whose last layer is a product with stored weights."""
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.normal(size=(3, 3)).astype(np.float32), "weights")]
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["n", 3, 8, 10]), ("y", ["n", 3]))
    ]
    graph = helper.make_graph(nodes, "linear", ends[:1], ends[1:], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def test_an_embedding_replaces_a_model_without_only_when_told(folder: Path) -> None:
    zoo = ("--zoo", folder / "zoo")
    (folder / "net.onnx").write_bytes(linear())
    add_onnx(folder)
    plain = run("list", "--json", *zoo).stdout
    with pytest.raises(ZooError, match="different model 'net' already"):
        add_onnx(folder, "--embedding")
    assert run("list", "--json", *zoo).stdout == plain
    assert add_onnx(folder, "--embedding", "--force").exit_code == 0
    extended = run("list", "--json", *zoo).stdout
    assert add_onnx(folder, "--embedding").exit_code == 0  # the same one
    assert plain != run("list", "--json", *zoo).stdout == extended
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    assert len(Zoo.open(folder / "zoo").model("net").embedded(pixels)[1]) == 2


def test_training_with_an_embedding_replaces_a_model_without_only_when_told(folder: Path) -> None:
    zoo = ("--zoo", folder / "zoo")
    train = ("train", "--data", folder / "images", "--sizes", "tiny", "--epochs", 1, "--share", 1, *zoo)
    run(*train)
    plain = run("list", "--json", *zoo).stdout
    with pytest.raises(ZooError, match=r"'tiny' to give its embedding as well.*--force"):
        run(*train, "--embedding")
    assert run("list", "--json", *zoo).stdout == plain
    run(*train, "--embedding", "--force")
    extended = run("list", "--json", *zoo).stdout
    run(*train, "--embedding")
    assert plain != run("list", "--json", *zoo).stdout == extended


def test_a_check_warns_of_channels_in_reverse_and_adds_the_model(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(foreign_means((8, 8)))
    (tmp_path / "names.txt").write_text("blue\ngreen\nred\n", encoding="utf-8")
    command = (
        *("add", "--onnx", tmp_path / "net.onnx", "--classes", tmp_path / "names.txt", "--size", "8"),
        *("--zoo", tmp_path / "zoo", "--check", pictures),
    )
    wrong = run(*command)
    assert wrong.exit_code == 0
    assert "net: right on " in wrong.stdout
    assert "may have been added wrongly. Add it again with --channels bgr and --force." in wrong.stderr
    assert Zoo.open(tmp_path / "zoo").names == ("net",)
    right = json.loads(run(*command, "--channels", "bgr", "--force", "--json").stdout)
    assert (right["name"], right["check"]["better"], right["check"]["near_chance"]) == ("net", [], False)


def test_a_check_takes_what_models_of_arrays_take(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(network(tokens=True))
    (tmp_path / "names.txt").write_text("minus\nplus\n", encoding="utf-8")
    data = table_of(300)
    rows = data.kind.feeds(data.kind.stack([data.image(i) for i in range(300)]))
    np.savez(tmp_path / "rows.npz", label=np.array(data.classes)[data.labels], **rows)
    added = run(
        *("add", "--onnx", tmp_path / "net.onnx", "--classes", tmp_path / "names.txt", "--tensors"),
        *("--length", 12, "--zoo", tmp_path / "zoo", "--check", tmp_path / "rows.npz", "--json"),
    )
    check = json.loads(added.stdout)["check"]
    assert (check["accuracy"] > 0.9, check["better"]) == (True, [])


def test_images_to_check_with_are_looked_for_first(folder: Path) -> None:
    with pytest.raises(ZooError, match="folder of class folders"):
        add_onnx(folder, "--check", folder / "nowhere")
    assert not (folder / "zoo").exists()


def test_prints_the_card_as_json(folder: Path) -> None:
    result = run(
        *("add", "--cifar-resnet", 8, "--weights", folder / "resnet8.npz"),
        *("--name", "eight", "--zoo", folder / "zoo", "--json"),
    )
    assert json.loads(result.stdout)["name"] == "eight"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add"], "expected one of --cifar-resnet"),
        (["add", "--cifar-resnet", "20", "--torchvision", "resnet18"], "got --cifar-resnet, --torchvision"),
        (["add", "--cifar-resnet", "20"], "--weights"),
        (["add", "--torchvision", "resnet18"], "either --pretrained or --weights"),
        (
            ["add", "--timm", "resnet18", "--pretrained", "--weights", "w.pth"],
            "either --pretrained or --weights",
        ),
        (["add", "--timm", "resnet18", "--weights", "w.pth", "--scale", "0..1"], "got --scale. Leave it"),
        (["add", "--huggingface", "net", "--weights", "w.pth"], "got --weights. Leave it"),
        (["add", "--huggingface", "net"], "expected the folder of a snapshot, got net"),
        (["add", "--efficientnet-lite", "0"], "--classes"),
        (["add", "--onnx", "net.onnx"], "--classes"),
        (["add", "--onnx", "net.onnx", "--classes", "none.txt"], "one class name a line"),
        (["add", "--torchvision", "resnet18", "--pretrained", "--layout", "nhwc"], "got --layout. Leave it"),
        (["add", "--cifar-resnet", "20", "--weights", "w.npz", "--output", "y"], "got --output. Leave it"),
        (["add", "--efficientnet-lite", "0", "--mean", "0,0,0", "--std", "1"], "got --mean, --std. Leave"),
        (["add", "--onnx", "net.onnx", "--pretrained"], "got --pretrained. Leave it out"),
        (["list", "--zoo", "nowhere"], "expected a zoo"),
    ],
)
def test_says_what_is_missing(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZooError, match=message):
        run(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_torchvision_network_sees_what_the_options_say(folder: Path) -> None:
    torch.manual_seed(0)
    network, _, _ = torchvision_model("squeezenet1_1", classes=3)
    torch.save(network.state_dict(), folder / "w.pt")
    result = run(
        *("add", "--torchvision", "squeezenet1_1", "--weights", folder / "w.pt", "--zoo", folder / "zoo"),
        *("--classes", folder / "names.txt", "--size", "48x64", "--crop", "0.5", "--mean", "0.5,0.4,0.3"),
        *("--std", "0.25", "--interpolation", "bicubic", "--channels", "bgr"),
    )
    assert result.exit_code == 0, result.output
    seen = Preprocessing((48, 64), (0.5, 0.4, 0.3), (0.25,) * 3, 0.5, "bicubic", "bgr")
    images = np.random.default_rng(0).integers(0, 256, (2, 90, 100, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = torch.nn.Sequential(Preprocess(seen), network)(torch.from_numpy(images)).numpy()
    got = Zoo.open(folder / "zoo").model("squeezenet1-1").logits(images)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


def test_a_snapshot_sees_what_its_files_and_the_options_say(folder: Path) -> None:
    snapshot = folder / "snapshot"
    snapshot.mkdir()
    (folder / "net.onnx").rename(snapshot / "model.onnx")
    labels = {"id2label": {"0": "cat", "1": "dog", "2": "emu"}}
    (snapshot / "config.json").write_text(json.dumps(labels), encoding="utf-8")
    facts = {"size": {"height": 8, "width": 10}, "resample": 1}
    (snapshot / "preprocessor_config.json").write_text(json.dumps(facts), encoding="utf-8")
    command = ("add", "--huggingface", snapshot, "--zoo", folder / "zoo", "--output", "y")
    added = run(*command)
    assert "bicubic here; the snapshot says lanczos" in added.stderr
    assert "snapshot: 183 parameters" in added.stdout
    assert "lanczos" not in run(*command, "--interpolation", "bilinear", "--name", "other").stderr


def test_a_timm_network_takes_its_classes_from_the_options(folder: Path) -> None:
    timm = pytest.importorskip("timm", reason="needs zooselect[timm]")
    torch.manual_seed(0)
    network = timm.create_model("test_byobnet", num_classes=3).eval()
    torch.save(network.state_dict(), folder / "w.pth")
    command = ("add", "--timm", "test_byobnet", "--weights", folder / "w.pth", "--zoo", folder / "zoo")
    with pytest.raises(ZooError, match="expected the names of its 3 classes"):
        run(*command)
    result = run(*command, "--classes", folder / "names.txt", "--size", 32)
    assert result.exit_code == 0, result.output
    card = Zoo.open(folder / "zoo").card("test-byobnet")
    assert (card.classes, card.resolution) == (("cat", "dog", "emu"), (32, 32))
    assert card.source == "timm test_byobnet, w.pth"


def test_refuses_numbers_that_are_none(folder: Path) -> None:
    with pytest.raises(ZooError, match="--mean: expected three numbers"):
        add_onnx(folder, "--mean", "0.5,0.5")
    with pytest.raises(ZooError, match="--size"):
        add_onnx(folder, "--size", "big")


def test_refuses_too_few_calibration_images(folder: Path) -> None:
    add_onnx(folder)
    for path in sorted((folder / "images").rglob("*.png"))[3:]:
        path.unlink()
    with pytest.raises(ZooError, match="expected"):
        run("compress", "net", "--data", folder / "images", "--zoo", folder / "zoo")


@pytest.mark.parametrize("command", ["add", "compress", "list", "rename", "remove"])
def test_help_shows_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "zooselect zoo" in " ".join(result.stdout.split())
