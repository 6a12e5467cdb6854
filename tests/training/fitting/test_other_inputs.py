"""Claims about inputs that are no images: every step from labelled inputs to answers works for each kind."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from benchmarks.distribution.network import serving
from selector import Selector
from selector.answering.measuring.bench import measure_folder
from selector.commands.answer import answer_images
from selector.device.device import Device
from selector.serving.questions import Limits, question_of
from selector.serving.served import open_served
from tests.support.colours import latency_table
from tests.support.inference_client import inference
from tests.support.small_publisher import colour_publisher
from tests.support.small_signals import CLASSES, WIDTHS, signal_zoo, signals
from tests.support.small_tensors import KIND, table_of, tensor_zoo
from tests.support.toy_kind import Pair, pair_zoo, pairs
from tests.support.world import COLOUR_SPLITS, fit_colours
from training.data.environments import under_environments
from training.data.images import LabelledImages
from training.data.splits import Splits
from training.fitting.export import check_bundle, export_bundle
from training.fitting.one_file.page import write_page
from training.fitting.one_file.write import write_one_file
from training.outcomes.outcomes import load_outcomes, load_pixels
from training.outcomes.profile import profile
from zoo import Zoo
from zoo.convert.foreign.add_remote import add_remote
from zoo.errors import BundleError, CardError, DataError, InputError, PrecisionError
from zoo.inputs.kind import InputKind
from zoo.inputs.signal import Signal
from zoo.models.model import Model, read_graph
from zoo.models.zoo import add_again
from zoo.remote.protocol import InferRequest, Tensor, encode_infer_request

COSTS_MS = {"small": 0.1, "large": 1.0}
BYTES, SOUND = Signal(), Signal("int16", 8000)


def made_bundle(folder: Path, kind: InputKind, zoo: Zoo, data: LabelledImages) -> Path:
    """A bundle, by way of a profile and a fit."""
    profile(zoo, data, folder / "profile", splits=COLOUR_SPLITS, progress=False)
    policy = "input" if kind == BYTES else "cascade"
    table = latency_table(zoo, COSTS_MS)
    fitted = fit_colours(folder / "profile", zoo, table, precision=0.8, policy=policy, watch=True)
    export_bundle(fitted, zoo, folder / "bundle")
    assert fitted.certificate() is not None
    assert check_bundle(folder / "bundle", fitted, [data.image(i) for i in range(20)], zoo) == 20
    return folder / "bundle"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, LabelledImages]]:
    """A bundle of each kind, and its data."""
    root = tmp_path_factory.mktemp("kinds")
    found: dict[str, tuple[Path, LabelledImages]] = {}
    for name, kind in (("bytes", BYTES), ("sound", SOUND)):
        data: LabelledImages = signals(kind)
        zoo = signal_zoo(root / name / "zoo", kind)
        found[name] = made_bundle(root / name, kind, zoo, data), data
    rows = table_of()
    found["tensors"] = made_bundle(root / "tensors", KIND, tensor_zoo(root / "tensors" / "zoo"), rows), rows
    toy = pairs()
    found["toy"] = made_bundle(root / "toy", Pair(), pair_zoo(root / "toy" / "zoo"), toy), toy
    return found


@pytest.mark.parametrize("name", ["bytes", "sound", "tensors", "toy"])
def test_a_bundle_answers_one_input_and_many_alike(
    bundles: dict[str, tuple[Path, LabelledImages]], name: str
) -> None:
    bundle, data = bundles[name]
    selector = Selector.load(bundle, watch=True)
    assert selector.kind == data.kind
    items = [data.image(i) for i in range(40)]
    together = selector.predict_batch(items, 0.8)
    selector.reset_drift()
    alone = [selector.predict(item, 0.8) for item in items]
    assert [one.label for one in together] == [one.label for one in alone]
    assert all(one.certified for one in together)
    right = [one.label == data.classes[data.labels[i]] for i, one in enumerate(together)]
    assert np.mean(right) > 0.7
    assert {one.model for one in together} == {"small", "large"}


@pytest.mark.parametrize("name", ["bytes", "sound", "tensors", "toy"])
def test_a_bundle_of_other_inputs_says_which_and_images_stay_unnamed(
    bundles: dict[str, tuple[Path, LabelledImages]], name: str
) -> None:
    bundle, data = bundles[name]
    record = json.loads((bundle / "bundle.json").read_text())
    assert record["schema_version"] == 7
    assert data.kind.record is not None
    assert all(card["input"]["kind"] == data.kind.record.kind for card in record["models"])
    assert record["drift"]["features"]
    manifest = json.loads((bundle.parent / "zoo" / "zoo.json").read_text())
    assert manifest["schema_version"] == 4


@pytest.mark.parametrize("name", ["bytes", "sound", "tensors", "toy"])
def test_a_selector_in_one_file_answers_as_its_bundle_does(
    bundles: dict[str, tuple[Path, LabelledImages]], tmp_path: Path, name: str
) -> None:
    bundle, data = bundles[name]
    items = [data.image(i) for i in range(60)]
    written = write_one_file(bundle, tmp_path / "f.onnx", images=items[:20], drift=True)
    assert written.compared > 20
    file, whole = Selector.load(tmp_path / "f.onnx", watch=True), Selector.load(bundle)
    wanted = [whole.predict(item) for item in items]
    assert {one.model for one in wanted} == {"small", "large"}
    for found in ([file.predict(item) for item in items], file.predict_batch(items)):
        assert [(one.label, one.path) for one in found] == [(one.label, one.path) for one in wanted]
        assert all(one.certified for one in found)
    plain = onnxruntime.InferenceSession(tmp_path / "f.onnx", providers=["CPUExecutionProvider"])
    feeds = data.kind.feeds(data.kind.stack(items[:1]))
    (label,) = plain.run(["label"], {key: value.reshape(value.shape[1:]) for key, value in feeds.items()})
    assert label.item() == wanted[0].label


def test_an_array_called_like_an_output_goes_into_no_file(
    bundles: dict[str, tuple[Path, LabelledImages]], tmp_path: Path
) -> None:
    record = (bundles["tensors"][0] / "bundle.json").read_text()
    (tmp_path / "bundle.json").write_text(record.replace('"name": "row"', '"name": "path"'))
    with pytest.raises(BundleError, match="other names than the outputs of a file, got path"):
        write_one_file(tmp_path, tmp_path / "f.onnx")


def test_a_page_takes_images_alone(bundles: dict[str, tuple[Path, LabelledImages]], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"expected a bundle for images.*signal.*--one-file"):
        write_page(bundles["sound"][0], tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_a_file_and_its_bytes_are_one_input(
    bundles: dict[str, tuple[Path, LabelledImages]], tmp_path: Path
) -> None:
    bundle, data = bundles["bytes"]
    selector, content = Selector.load(bundle), data.image(0).tobytes()
    (tmp_path / "any.file").write_bytes(content)
    said = [selector.predict(one) for one in (content, tmp_path / "any.file", str(tmp_path / "any.file"))]
    assert len({one.label for one in said}) == 1
    with pytest.raises(InputError, match="expected several signals, got one signal"):
        selector.predict_batch(content)
    with pytest.raises(InputError, match="signal 1: expected at least one sample, got an empty signal"):
        selector.predict_batch([content, b""])


def test_sound_is_answered_from_files_of_its_rate_alone(
    bundles: dict[str, tuple[Path, LabelledImages]], tmp_path: Path
) -> None:
    bundle, data = bundles["sound"]
    for rate in (8000, 44100):
        with wave.open(str(tmp_path / f"{rate}.wav"), "wb") as file:
            file.setparams((1, 2, rate, 0, "NONE", ""))
            file.writeframes(data.image(0).astype("<i2").tobytes())
    selector = Selector.load(bundle)
    assert selector.predict(tmp_path / "8000.wav").label == selector.predict(data.image(0)).label
    with pytest.raises(InputError, match=r"expected 8,000 samples a second, got 44,100\. Resample"):
        selector.predict(tmp_path / "44100.wav")


def test_a_profile_keeps_what_features_read(bundles: dict[str, tuple[Path, LabelledImages]]) -> None:
    folder = bundles["sound"][0].parent
    outcomes = load_outcomes(folder / "profile")
    assert "band_1_energy" in outcomes.feature_names
    assert load_pixels(folder / "profile").dtype == np.int16
    assert load_pixels(folder / "profile").shape == (len(outcomes), 2048)


def test_signals_of_different_lengths_are_profiled_together(
    bundles: dict[str, tuple[Path, LabelledImages]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo, data = Zoo.open(bundles["bytes"][0].parent / "zoo"), signals(BYTES, 64)
    assert len({len(data.image(i)) for i in range(64)}) > 1
    runs: list[tuple[int, ...]] = []
    run = Model.run_wide
    monkeypatch.setattr(Model, "run_wide", lambda model, batch: runs.append(batch.shape) or run(model, batch))
    profile(zoo, data, tmp_path / "p", splits=Splits(fit=1, tune=0, certify=0, test=0), progress=False)
    assert runs == [(64, max(WIDTHS.values()))] * 2
    logits = load_outcomes(tmp_path / "p").logits
    alone = np.stack([zoo.model("large").logits(BYTES.one(data.image(i)))[0] for i in range(64)])
    np.testing.assert_allclose(logits[:, zoo.names.index("large")], alone, rtol=1e-5, atol=1e-5)


def test_a_bench_times_whole_answers_on_inputs_of_the_kind(
    bundles: dict[str, tuple[Path, LabelledImages]],
) -> None:
    bundle, data = bundles["bytes"]
    table = measure_folder(bundle, [data.image(i) for i in range(3)], device="here", runs=20, watch=True)
    assert table.image == (1, len(data.image(0)))
    assert table.selector is not None


def test_models_and_data_of_two_kinds_are_not_mixed(
    bundles: dict[str, tuple[Path, LabelledImages]], tmp_path: Path
) -> None:
    zoo = Zoo.open(bundles["bytes"][0].parent / "zoo")
    with pytest.raises(DataError, match="expected what the models of the zoo take, signal"):
        profile(zoo, bundles["sound"][1], tmp_path / "p", progress=False)
    other = Zoo.open(bundles["sound"][0].parent / "zoo")
    card = other.card("small")
    with pytest.raises(CardError, match="expected one that takes what the others of the zoo take"):
        zoo.add(
            "loud",
            (other.folder / card.file).read_bytes(),
            classes=CLASSES,
            resolution=(1, 6),
            parameters=1,
            macs=1,
            kind=card.kind,
        )


def test_signals_are_shown_in_their_own_environments() -> None:
    data = under_environments(signals(SOUND, 4))
    assert set(data.environments) == {"clear", "noise", "clipping", "band", "truncation"}
    again = under_environments(signals(SOUND, 4))
    for i in range(len(data)):
        np.testing.assert_array_equal(data.image(i), again.image(i))
        assert data.image(i).dtype == np.int16
    assert len(data.image(4)) < len(data.image(0))


@pytest.mark.parametrize("name", ["bytes", "tensors"])
def test_a_device_fetches_tests_and_answers_with_models_of_other_inputs(
    bundles: dict[str, tuple[Path, LabelledImages]], tmp_path: Path, name: str
) -> None:
    bundle, data = bundles[name]
    made = colour_publisher(tmp_path / "p", Zoo.open(bundle.parent / "zoo"), bundles={"files": bundle})
    with serving(made.folder) as server, Device.set_up(tmp_path / "d", server.url, made.root) as device:
        device.install("files")
        installed = {item.release.name: item.release for item in device.store.installed.models}
        assert set(installed) <= {"small", "large"}
        assert {release.schema_version for release in installed.values()} == {3}
        wanted = Selector.load(bundle, models=sorted(installed)).predict(data.image(0), 0.8)
        given = data.image(0).tobytes() if name == "bytes" else data.image(0)
        assert device.predict(given, 0.8).label == wanted.label


@pytest.mark.parametrize("name", ["sound", "tensors"])
def test_a_server_takes_other_inputs_as_requests(
    bundles: dict[str, tuple[Path, LabelledImages]], name: str
) -> None:
    bundle, data = bundles[name]
    (served,) = open_served(bundle, name="answers").values()
    forms = [(one.name, one.datatype, one.shape) for one in served.takes]
    asked = [("tokens", "INT64", (12,)), ("row", "FP32", (2,))]
    assert forms == (asked if name == "tensors" else [("signal", "INT16", (-1,))])
    items = [item for item in map(data.image, range(30)) if item.shape == data.image(0).shape][:3]
    feeds = data.kind.feeds(data.kind.stack(items))
    request = InferRequest(tuple(Tensor(*one) for one in feeds.items()), parameters={"precision": 0.8})
    message = encode_infer_request(request)
    asked_for = question_of(message.body, str(message.header_length), served, Limits())
    rows = served.answer(asked_for.images, asked_for.asked)
    wanted = Selector.load(bundle).predict_batch(items, 0.8)
    assert [label.decode() for label in rows["label"].tolist()] == [one.label for one in wanted]


@pytest.mark.parametrize("name", ["bytes", "tensors"])
def test_a_server_is_a_stage_for_other_inputs_and_without_it_the_device_answers(
    bundles: dict[str, tuple[Path, LabelledImages]], tmp_path: Path, name: str
) -> None:
    bundle, data = bundles[name]
    home, zoo = Zoo.open(bundle.parent / "zoo"), Zoo.create(tmp_path / "zoo")
    add_again(zoo, home.card("small"), read_graph(home.card("small"), home.folder))
    items = [data.image(i) for i in range(40)]
    with inference(home.folder) as server:
        remote = add_remote(zoo, server.url, "large")
        profile(zoo, data, tmp_path / "profile", splits=COLOUR_SPLITS, progress=False)
        asked = {"precision": 0.8} if name == "bytes" else {"mean_uplink_kb": 0.3}
        table = latency_table(zoo, COSTS_MS)
        fitted = fit_colours(tmp_path / "profile", zoo, table, policy="cascade", **asked)
        assert fitted.certificate() is not None
        export_bundle(fitted, zoo, tmp_path / "bundle")
        assert json.loads((tmp_path / "bundle" / "bundle.json").read_text())["schema_version"] == 9
        selector = Selector.load(tmp_path / "bundle")
        there = selector.predict_batch(items)
        assert {one.model for one in there} == {"small", "large"}
        assert all(one.certified for one in there)
        assert selector.predict(items[0], never_remote=True).model == "small"
        if name == "tensors":
            made = colour_publisher(tmp_path / "p", zoo, bundles={"rows": tmp_path / "bundle"})
            with (
                serving(made.folder) as files,
                Device.set_up(tmp_path / "d", files.url, made.root, servers=[server.url]) as device,
            ):
                device.install("rows")
                assert [device.predict(item).model for item in items] == [one.model for one in there]
    used = selector._view.reach.used()
    assert used.inputs == sum(one.model == "large" for one in there)
    assert used.sent_bytes > used.inputs * min(100, remote.remote.uplink_bytes)
    gone = selector.predict(items[next(i for i, one in enumerate(there) if one.model == "large")])
    assert (gone.model, gone.certified) == ("small", False)
    assert "server" in gone.reason
    if name == "bytes":
        with pytest.raises(PrecisionError, match="signals are sent in the length that they come in"):
            fit_colours(tmp_path / "profile", zoo, table, policy="cascade", mean_uplink_kb=0.3)


def test_a_command_answers_files_and_names_what_it_cannot_read(
    bundles: dict[str, tuple[Path, LabelledImages]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, data = bundles["bytes"]
    (tmp_path / "a.bin").write_bytes(data.image(0).tobytes())
    (tmp_path / "b.bin").write_bytes(b"")
    answered = answer_images(Selector.load(bundle), [tmp_path], {"precision": 0.8}, as_json=True)
    row = json.loads(capsys.readouterr().out)
    assert row["signal"] == str(tmp_path / "a.bin")
    assert row["label"] == Selector.load(bundle).predict(data.image(0), 0.8).label
    assert "b.bin: expected at least one sample" in answered.unread[0]


def test_tensors_are_answered_as_arrays_by_name_and_from_files(
    bundles: dict[str, tuple[Path, LabelledImages]], tmp_path: Path
) -> None:
    bundle, data = bundles["tensors"]
    selector, given = Selector.load(bundle), KIND.feeds(data.image(0)[np.newaxis])
    one = {"tokens": given["tokens"][0, :3], "row": given["row"][0]}
    np.savez(tmp_path / "a.npz", **one)
    said = [selector.predict(item, 0.8).probabilities for item in (one, tmp_path / "a.npz")]
    np.testing.assert_array_equal(*said)
    together = selector.predict_batch({"tokens": given["tokens"][:, :3], "row": given["row"]}, 0.8)
    np.testing.assert_allclose(together[0].probabilities, said[0], atol=1e-6)
    assert selector.predict_batch({"tokens": given["tokens"][:0], "row": given["row"][:0]}) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tokens": np.arange(3.0)}, r"'tokens' of the type int64, got float64 \[3\]. Convert it"),
        ({"tokens": np.arange(13)}, r"tokens int64 \[1 to 12\] for one input, got the shape \[13\]"),
        ({"tokens": np.zeros((2, 3), np.int64)}, "A batch goes to predict_batch"),
        ({"row": np.array([1, np.nan], np.float32)}, "expected finite numbers in 'row'"),
        ({"rows": np.zeros(2, np.float32)}, "expected the arrays tokens, row, got tokens, row, rows"),
    ],
    ids=["type", "long", "batch", "gap", "name"],
)
def test_tensors_of_another_type_or_shape_are_refused(changed: dict[str, object], message: str) -> None:
    given = {"tokens": np.arange(3), "row": np.zeros(2, np.float32)}
    with pytest.raises(InputError, match=message):
        KIND.item(given | changed)
