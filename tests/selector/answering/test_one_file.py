"""Claims about a selector in one file: it answers as its bundle does, and only what it was made for."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from selector import Selector
from selector.answering.selector import Prediction
from selector.commands.answer import answer_images
from tests.support.colours import KINDS, Kind
from tests.support.fresh_interpreter import HEAVY, loaded_after
from tests.support.small_models import build_onnx, plain_image
from zoo.errors import BundleError, ModelError, PrecisionError, SchemaVersionError

if TYPE_CHECKING:
    from tests.support.one_files import OneFiles

RED = plain_image("red")
PLAIN = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
image = numpy.zeros((9, 5, 3), numpy.uint8)
image[..., 0] = 220
names = [output.name for output in session.get_outputs()]
found = dict(zip(names, session.run(None, {"image": image})))
print(*(found[name].item() for name in ("label", "model", "class_index")), len(found["probabilities"]))
print(session.get_modelmeta().custom_metadata_map["classes"])
print(sorted({name.partition(".")[0] for name in sys.modules} & {"selector", "zoo", "training", "onnx"}))
"""


def said(answer: Prediction) -> tuple[object, ...]:
    return answer.label, answer.model, answer.path, answer.certified


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_answers_as_its_bundle_does(one_files: OneFiles, kind: Kind) -> None:
    bundle, file = Selector.load(one_files.world.bundles[kind]), Selector.load(one_files[kind])
    images = [one_files.world.data.image(i) for i in range(1000, 1300)]
    wanted = [bundle.predict(image) for image in images]
    assert len({answer.path for answer in wanted}) > 1
    assert [said(answer) for answer in map(file.predict, images)] == [said(answer) for answer in wanted]
    for one, other in zip(file.predict_batch(images[:50]), wanted, strict=False):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-9)
        assert one.probability == pytest.approx(other.probability, abs=1e-9)
    assert file.classes == bundle.classes
    assert set(file.models) <= set(bundle.models)


def test_onnx_runtime_alone_opens_it(one_files: OneFiles) -> None:
    command = [sys.executable, "-I", "-c", PLAIN, str(one_files["probe"])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    first, classes, loaded = done.stdout.splitlines()
    assert first == "red tiny 0 3"
    assert classes == '["red","green","blue"]'
    assert loaded == "[]"


def test_a_device_opens_it_without_anything_heavy(one_files: OneFiles) -> None:
    program = (
        "import sys; import numpy as np; from selector import Selector; "
        "Selector.load(sys.argv[1]).predict(np.zeros((4, 4, 3), np.uint8))"
    )
    assert not loaded_after(program, str(one_files["cascade"])) & set(HEAVY)


def test_a_file_answers_for_its_constraint_and_for_laxer_ones_alone(one_files: OneFiles) -> None:
    file = Selector.load(one_files["cascade"])
    fixed = file.bundle.default
    assert fixed.kind == "precision"
    assert file.predict(RED, precision=fixed.level - 0.1).certified
    assert file.certified_precisions == (file.certificate().constraint.level,)  # type: ignore[union-attr]
    for asked in ({"precision": 0.9999}, {"max_drop": 0.02}, {"mean_ms": 5.0}):
        for _ in range(2):  # also what was asked before
            with pytest.raises(
                PrecisionError, match=r"expected what cascade.onnx was written for, precision"
            ):
                file.predict(RED, **asked)  # type: ignore[arg-type]
    with pytest.raises(BundleError, match="it cannot answer with some of its models"):
        Selector.load(one_files["cascade"], models=["tiny"])


def test_where_nothing_is_certified_the_reference_model_is_the_file(
    one_files: OneFiles, tmp_path: Path
) -> None:
    from training.fitting.one_file.write import write_one_file

    written = write_one_file(one_files.world.bundles["pool"], tmp_path / "f.onnx", 0.9999)
    assert written.reason == "not proven"
    file = Selector.load(tmp_path / "f.onnx")
    answer = file.predict(RED)
    assert (answer.model, answer.certified, answer.reason, answer.probability) == (
        "full",
        False,
        "not proven",
        None,
    )


def test_a_watched_file_notices_what_its_bundle_notices(
    one_files: OneFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Selector.load(one_files.world.watched["cascade"], watch=True)
    file = Selector.load(one_files.watched("cascade"), watch=True)
    data = one_files.world.data
    for selector in (bundle, file):
        for i in range(1, 400, 3):  # in the dark
            answer = selector.predict(data.image(i))
    assert bundle.drifted
    assert file.drifted
    assert (answer.certified, answer.reason) == (False, "drift")
    Image.fromarray(RED).save(tmp_path / "red.png")
    for selector, words in ((bundle, "the reference model full answered"), (file, "nothing was certified")):
        answer_images(selector, [tmp_path / "red.png"], {}, as_json=True)
        assert words in capsys.readouterr().err
    with pytest.raises(BundleError, match="expected a file with the drift features"):
        Selector.load(one_files["cascade"], watch=True)


def test_what_is_no_such_file_is_refused_with_what_to_do(one_files: OneFiles, tmp_path: Path) -> None:
    plain, cut, text = tmp_path / "plain.onnx", tmp_path / "cut.onnx", tmp_path / "text.onnx"
    plain.write_bytes(build_onnx())
    content = one_files["cascade"].read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    text.write_text("not a model")
    with pytest.raises(BundleError, match="got an ONNX file without the record of one"):
        Selector.load(plain)
    for path in (cut, text):
        with pytest.raises(BundleError, match="expected an ONNX file, got something else"):
            Selector.load(path)


def test_a_file_whose_graph_is_another_is_refused(one_files: OneFiles, tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    from selector.bundle.one_file import RECORD

    record = next(prop.value for prop in onnx.load(one_files["cascade"]).metadata_props if prop.key == RECORD)
    other = onnx.load_model_from_string(build_onnx())
    helper.set_model_props(other, {RECORD: record})
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(ModelError, match=r"expected image uint8 \[H, W, 3\] → probabilities"):
        Selector.load(tmp_path / "other.onnx")


def test_an_onnx_runtime_that_is_too_old_is_named(
    one_files: OneFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.9.0")
    with pytest.raises(SchemaVersionError, match=r"expected ONNX Runtime 1\.24 or newer.*got 1\.9\.0"):
        Selector.load(one_files["cascade"])


def test_a_copy_for_this_device_answers_the_same_and_is_made_again_when_damaged(
    one_files: OneFiles, tmp_path: Path
) -> None:
    path, copies = one_files["probe"], tmp_path / "copies"
    images = [one_files.world.data.image(i) for i in range(1000, 1040)]
    wanted = [said(answer) for answer in map(Selector.load(path).predict, images)]
    for _ in range(2):  # made, then found
        file = Selector.load(path, cache=copies)
        assert [said(answer) for answer in map(file.predict, images)] == wanted
        (copy,) = copies.glob("*.ort")
    before = copy.read_bytes()
    copy.write_bytes(b"x" + before[1:])
    assert said(Selector.load(path, cache=copies).predict(images[0])) == wanted[0]
    (again,) = copies.glob("*.ort")
    assert len(list(copies.glob("[!.]*"))) == 2
    assert again.read_bytes() != b"x" + before[1:]
    with pytest.raises(BundleError, match="expected a selector in one file"):
        Selector.load(one_files.world.bundles["probe"], cache=copies)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ModelError, match="expected to write a copy to"):
        Selector.load(path, cache=tmp_path / "file")


def test_programs_that_begin_together_share_one_copy(one_files: OneFiles, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        loaded = pool.map(lambda _: Selector.load(one_files["cascade"], cache=tmp_path), range(4))
        assert [file.predict(RED).label for file in loaded] == ["red"] * 4
    assert sorted(path.suffix for path in tmp_path.glob("[!.]*")) == [".json", ".ort"]


def test_images_of_any_size_are_answered(one_files: OneFiles) -> None:
    file = Selector.load(one_files["learned"])
    for size in ((1, 1), (3, 50), (300, 200)):
        assert file.predict(plain_image("blue", size)).label == "blue"
    file.warm_up(20, 30)
    assert file.select(RED).model == file.predict(RED).model
    assert np.isclose(file.predict(RED).probabilities.sum(), 1)
