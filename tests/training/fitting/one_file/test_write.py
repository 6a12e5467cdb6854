"""Claims about writing a selector in one file: it is tried and compared first, or not written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from selector import Selector
from selector.bundle.bundle import read_bundle
from selector.bundle.one_file import read_one_file
from tests.support.changed_models import change_models
from tests.support.colours import KINDS, Kind
from tests.support.command_line import CommandLine
from tests.support.small_models import COLOURS, build_onnx, plain_image
from training.fitting.one_file import write as writing
from training.fitting.one_file.parts import check_sizes
from training.fitting.one_file.trial import try_file
from training.fitting.one_file.write import write_one_file
from zoo.errors import BundleError, DigestError, NotFiniteError, ParityError, SelfTestError
from zoo.inputs.image_kind import ImageKind
from zoo.models.card import ModelCard

if TYPE_CHECKING:
    from tests.support.one_files import OneFiles

BLUE, RED = plain_image("blue"), plain_image("red")


def copy(one_files: OneFiles, kind: Kind, folder: Path) -> Path:
    return one_files.world.copy_bundle(kind, folder)


def ending_in_8_bits(_: ModelCard, content: bytes) -> bytes:
    """The model with logits that are rounded to 8 bits, as in a quantised one, and in another opset."""
    model = onnx.load_model_from_string(content)
    graph = model.graph
    for made in graph.node:
        made.output[:] = ["exact" if name == "logits" else name for name in made.output]
    graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "step"))
    graph.initializer.append(numpy_helper.from_array(np.uint8(128), "zero point"))
    graph.node.append(helper.make_node("QuantizeLinear", ["exact", "step", "zero point"], ["codes"]))
    graph.node.append(helper.make_node("DequantizeLinear", ["codes", "step", "zero point"], ["logits"]))
    model.opset_import[0].version = 21
    model.ir_version = 10
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("kind", ["probe", "cascade"])
def test_models_in_8_bits_and_of_another_opset_are_written(
    one_files: OneFiles, tmp_path: Path, kind: Kind
) -> None:
    folder = copy(one_files, kind, tmp_path / "b")
    change_models(folder, ending_in_8_bits)
    data = one_files.world.data
    written = write_one_file(folder, tmp_path / "f.onnx", images=[data.image(i) for i in range(200)])
    assert (written.record.opset, written.compared) == (21, 205)
    assert Selector.load(tmp_path / "f.onnx").predict(RED).label == "red"


@pytest.mark.parametrize("operator", ["Sqrt", "Reciprocal", "Log"])
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_that_are_none_are_no_answer(
    one_files: OneFiles, tmp_path: Path, kind: Kind, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageKind, "made", lambda _: [])  # on which these models would fail
    folder = copy(one_files, kind, tmp_path / "b")
    change_models(folder, lambda *_: build_onnx(spoiled=operator), classes=COLOURS)
    write_one_file(folder, tmp_path / "f.onnx", images=[RED])
    file = Selector.load(tmp_path / "f.onnx")
    assert file.predict(RED).certified
    with pytest.raises(NotFiniteError, match="expected a finite answer, got NaN"):
        file.predict(BLUE)


def test_a_file_that_answers_otherwise_is_not_written(
    one_files: OneFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.onnx"
    shutil.copy(one_files["learned"], path)
    before = path.read_bytes()

    def other(*arguments: object, **options: object) -> list[dict[str, object]]:
        answers = try_file(*arguments, **options)  # type: ignore[arg-type]
        return [{**one, "label": "green"} for one in answers]

    monkeypatch.setattr(writing, "try_file", other)
    with pytest.raises(ParityError, match=r"image 0: expected the file to answer .* as the bundle does"):
        write_one_file(one_files.world.bundles["cascade"], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_takes_too_much_or_crashes_is_not_written(one_files: OneFiles, tmp_path: Path) -> None:
    path = tmp_path / "f.onnx"
    with pytest.raises(SelfTestError, match="expected answers from it in a process of its own"):
        write_one_file(one_files.world.bundles["cascade"], path, memory_bytes=2**20)
    assert not list(tmp_path.iterdir())
    path.write_bytes(b"no model")
    with pytest.raises(SelfTestError, match="INVALID_PROTOBUF"):
        try_file(path, [{"image": RED}])


def test_models_that_no_single_file_holds_are_named_before_anything_is_read(one_files: OneFiles) -> None:
    cards = read_bundle(one_files.world.bundles["cascade"]).models
    large = [msgspec.structs.replace(card, size_bytes=900_000_000) for card in cards]
    with pytest.raises(
        BundleError, match=r"expected models of less than 2\.15 GB.*got 2\.70 GB: tiny 900 MB"
    ):
        check_sizes(large)


def test_a_model_that_was_changed_is_not_written(one_files: OneFiles, tmp_path: Path) -> None:
    folder = copy(one_files, "cascade", tmp_path / "b")
    card = read_bundle(folder).models[0]
    (folder / card.file).write_bytes(b"x" * card.size_bytes)
    with pytest.raises(DigestError):
        write_one_file(folder, tmp_path / "f.onnx")


def test_the_same_question_gives_the_same_bytes(one_files: OneFiles, tmp_path: Path) -> None:
    write_one_file(one_files.world.bundles["cascade"], tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == one_files["cascade"].read_bytes()


def test_weights_lie_in_the_branch_that_needs_them(one_files: OneFiles) -> None:
    graph = onnx.load(one_files["cascade"]).graph
    sizes = {tuple(tensor.dims) for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    branches = [attribute.g for node in graph.node if node.op_type == "If" for attribute in node.attribute]
    inside = {tuple(tensor.dims) for branch in branches for tensor in branch.initializer}
    assert (3, 3) in sizes  # of the first model
    assert (3, 3) in inside  # of the next


def test_the_command_writes_a_file_that_other_commands_take(
    one_files: OneFiles, tmp_path: Path, zooselect: CommandLine
) -> None:
    from PIL import Image

    bundle, image = one_files.world.bundles["cascade"], tmp_path / "red.png"
    Image.fromarray(RED).save(image)
    told = zooselect(
        "export", "--one-file", "f.onnx", "--bundle", bundle, "--precision", 0.9, "--images", image, "--json"
    ).json()
    assert (told["certified"], told["compared"], told["real_images"]) == (True, 6, 1)
    assert told["size_bytes"] == (tmp_path / "f.onnx").stat().st_size
    (row,) = map(str.strip, zooselect("predict", "f.onnx", image, "--json").out.strip().splitlines())
    assert '"label": "red"' in row or '"label":"red"' in row
    held = zooselect("inspect", "f.onnx", "--json").json()
    assert (held["kind"], held["answers_for"], len(held["certificates"])) == ("one file", "precision 0.9", 1)
    assert "answers for: precision 0.9" in zooselect("inspect", "f.onnx").out
    assert zooselect("inspect", bundle, "--json").json()["policy"] == "cascade"
    wrong = zooselect("predict", "f.onnx", image, "--max-drop", "0.3", code=1).err
    assert "expected what f.onnx was written for, precision 0.9" in wrong


def test_options_that_would_be_lost_are_refused(zooselect: CommandLine) -> None:
    told = zooselect("export", "--precision", "0.9", "--drift", code=1).err
    assert "expected --precision, --drift with --one-file FILE or --web FOLDER" in told
    assert "got both" in zooselect("export", "--one-file", "a.onnx", "--web", "page", code=1).err


def test_an_uncertified_file_is_written_with_a_warning(
    one_files: OneFiles, zooselect: CommandLine, tmp_path: Path
) -> None:
    command = ["export", "--one-file", "f.onnx", "--bundle", one_files.world.bundles["cascade"]]
    told = zooselect(*command, "--precision", "0.9999", "--require-certified", code=3)
    assert "precision 0.9999 is not certified (not proven); the file answers with full alone" in told.err
    assert read_one_file(tmp_path / "f.onnx")[0].threshold is None
