"""Claims about publishing: devices get exactly the zoo, nothing is stored twice, nothing unfit goes out."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper

import zoo.publisher.prepare
from tests.support.small_models import COLOURS, add_colours, build_onnx, plain_image
from tests.support.small_repo import blobs, files
from tests.support.standard_client import StandardClient, served
from zoo import Zoo
from zoo.errors import (
    DigestError,
    KeysError,
    MissingExtraError,
    ModelError,
    ModelNotFoundError,
    ParityError,
    PublishError,
    TrustError,
)
from zoo.extras import install_command
from zoo.files import sha256_bytes, sha256_file
from zoo.inputs.reference_image import reference_image
from zoo.models.model import Model
from zoo.publisher.keys import Keys, create_keys
from zoo.publisher.peak_memory import Measured, measure_peak, peak_bytes
from zoo.publisher.publish import publish, published, remove
from zoo.publisher.signing import Signing
from zoo.publisher.targets import put, read_index
from zoo.releases.catalogue import read_blob
from zoo.releases.release import ModelRelease, fill

pytestmark = pytest.mark.usefixtures("quick_peak")


def opened(root: Path, release: ModelRelease, folder: Path) -> Model:
    """The model as a device has it: verified blobs in a flat folder, slots filled."""
    folder.mkdir(exist_ok=True)
    for blob in release.weights:
        (folder / blob.sha256).write_bytes(read_blob(root, blob))
    return Model(release.card, fill(read_blob(root, release.graph), release), weights=folder)


def test_a_device_gets_exactly_the_models_of_the_zoo(
    small_zoo: Zoo, repo: Path, keys: Keys, tmp_path: Path
) -> None:
    publish(repo, small_zoo, keys=keys)
    images = np.stack([plain_image(colour) for colour in COLOURS])
    index = published(repo)
    for name in small_zoo.names:
        release = index.models[name]
        assert release.card == small_zoo.card(name)
        model = opened(repo, release, tmp_path / "flat")
        np.testing.assert_array_equal(model.logits(images), small_zoo.model(name).logits(images))


def test_every_blob_is_what_its_name_says(small_zoo: Zoo, repo: Path, keys: Keys) -> None:
    publish(repo, small_zoo, keys=keys)
    wanted = {digest for release in published(repo).models.values() for digest in release.blobs}
    assert blobs(repo) == wanted
    for path in (repo / "blobs").rglob("*"):
        if path.is_file():
            assert (sha256_file(path), path.parent.name) == (path.name, path.name[:2])
    assert not list(repo.glob(".staging-*"))


def test_a_standard_client_reads_the_same_releases(
    small_zoo: Zoo, repo: Path, keys: Keys, tmp_path: Path
) -> None:
    publish(repo, small_zoo, keys=keys)
    root = (repo / "metadata" / "1.root.json").read_bytes()
    with served(repo) as url:
        device = StandardClient(tmp_path / "device", root, url)
        assert {name: device.model(name) for name in small_zoo.names} == published(repo).models


def test_a_release_says_what_a_device_has_to_know(
    small_zoo: Zoo, repo: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo.publisher.prepare, "measure_peak", measure_peak)
    times = {"phone": {"tiny": 0.5, "full": 2.0}, "camera": {"tiny": 3.0}}
    publish(repo, small_zoo, keys=keys, accuracy={"tiny": 0.4}, latency_ms=times)
    release = published(repo).models["tiny"]
    expected = small_zoo.model("tiny").logits(reference_image(8, 8)[None])[0]
    assert release.selftest.logits == tuple(map(float, expected))
    assert 0 < release.selftest.tolerance < 0.2 * np.ptp(expected)
    assert (release.opset, release.min_onnxruntime) == (18, "1.24")
    assert 10e6 < release.peak_memory_bytes < 500e6
    assert (release.accuracy, release.latency_ms) == (0.4, {"phone": 0.5, "camera": 3.0})
    assert published(repo).models["small"].accuracy is None


def test_what_has_not_changed_is_not_written_again(
    small_zoo: Zoo, repo: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(repo, small_zoo, keys=keys, accuracy={"tiny": 0.4})
    before = files(repo)
    monkeypatch.setattr(zoo.publisher.prepare, "offer", None)  # nothing is measured either
    done = publish(repo, small_zoo, keys=keys)
    assert not done.changed
    assert {item.version for item in done.items} == {1}
    assert files(repo) == before


def test_new_facts_about_the_same_file_are_a_new_version_without_new_blobs(
    small_zoo: Zoo, repo: Path, keys: Keys
) -> None:
    publish(repo, small_zoo, keys=keys, latency_ms={"phone": {"tiny": 0.5}})
    done = publish(repo, small_zoo, keys=keys, accuracy={"tiny": 0.4})
    assert [(item.name, item.version) for item in done.items if item.changed] == [("tiny", 2)]
    assert done.new_bytes == 0
    assert published(repo).models["tiny"].latency_ms == {"phone": 0.5}


def test_going_back_is_a_higher_version_and_stores_nothing(small_zoo: Zoo, repo: Path, keys: Keys) -> None:
    first = publish(repo, small_zoo, keys=keys)
    assert first.new_bytes == sum(len(content) for name, content in files(repo).items() if "blobs" in name)
    add_colours(small_zoo, "full", build_onnx(noise=0.1))
    changed = publish(repo, small_zoo, keys=keys)
    assert 0 < changed.new_bytes < first.new_bytes
    add_colours(small_zoo, "full", build_onnx(work=6))
    back = publish(repo, small_zoo, keys=keys)
    assert {item.name: item.version for item in back.items} == {"tiny": 1, "small": 1, "full": 3}
    assert back.new_bytes == 0
    assert published(repo).models["full"].card == small_zoo.card("full")


def test_named_models_are_published_and_the_others_stay(small_zoo: Zoo, repo: Path, keys: Keys) -> None:
    publish(repo, small_zoo, keys=keys, models=["tiny"])
    assert set(published(repo).models) == {"tiny"}
    publish(repo, small_zoo, keys=keys, models=["full"])
    assert set(published(repo).models) == {"tiny", "full"}
    with pytest.raises(ModelNotFoundError):
        publish(repo, small_zoo, keys=keys, models=["huge"])


def test_a_lost_blob_is_published_again(small_zoo: Zoo, repo: Path, keys: Keys) -> None:
    publish(repo, small_zoo, keys=keys)
    lost = published(repo).models["full"].weights[0]
    (repo / lost.path).unlink()
    publish(repo, small_zoo, keys=keys)
    assert sha256_bytes(read_blob(repo, lost)) == lost.sha256


def test_versions_count_on_after_a_model_was_removed(small_zoo: Zoo, repo: Path, keys: Keys) -> None:
    publish(repo, small_zoo, keys=keys)
    kept = blobs(repo)
    left = remove(repo, keys=keys, models=["tiny"])
    assert set(left.models) == set(published(repo).models) == {"small", "full"}
    assert blobs(repo) == kept
    done = publish(repo, small_zoo, keys=keys)
    assert {item.name: item.version for item in done.items} == {"tiny": 2, "small": 1, "full": 1}
    assert done.new_bytes == 0


def test_only_what_is_there_can_be_removed(small_zoo: Zoo, repo: Path, keys: Keys) -> None:
    publish(repo, small_zoo, keys=keys)
    before = files(repo)
    with pytest.raises(PublishError, match=r"model, got 'huge'\. Published: full, small, tiny"):
        remove(repo, keys=keys, models=["huge"])
    with pytest.raises(PublishError, match=r"bundle, got 'birds'\. Published: none"):
        remove(repo, keys=keys, bundles=["birds"])
    remove(repo, keys=keys)
    assert files(repo) == before


def replace_model(zoo_: Zoo, name: str, content: bytes) -> None:
    """Put other bytes into a zoo past its checks, as if it had come from elsewhere."""
    card = zoo_.card(name)
    record = json.loads((zoo_.folder / "zoo.json").read_text())
    for entry in record["models"]:
        if entry["name"] == name:
            entry.update(sha256=sha256_bytes(content), size_bytes=len(content))
    (zoo_.folder / card.file).write_bytes(content)
    (zoo_.folder / "zoo.json").write_text(json.dumps(record))


def endless() -> bytes:
    """Answers with numbers that are none."""
    return build_onnx(bias=(float("nan"), 0.0, 0.0))


def attacking() -> bytes:
    found = onnx.load_model_from_string(build_onnx())
    found.graph.node[0].domain = "evil"
    found.opset_import.append(helper.make_opsetid("evil", 1))
    return bytes(found.SerializeToString())


@pytest.mark.parametrize(
    "content",
    [endless(), attacking(), build_onnx()[:-40], build_onnx(output_name="other"), b"no model"],
    ids=["nan", "custom", "truncated", "contract", "garbage"],
)
def test_one_unfit_model_and_nothing_is_written(
    small_zoo: Zoo, repo: Path, keys: Keys, content: bytes
) -> None:
    publish(repo, small_zoo, keys=keys, models=["tiny"])
    before = files(repo)
    replace_model(small_zoo, "full", content)
    with pytest.raises(ModelError, match="full"):
        publish(repo, Zoo.open(small_zoo.folder), keys=keys)
    assert files(repo) == before


def test_a_damaged_zoo_is_refused(small_zoo: Zoo, repo: Path, keys: Keys) -> None:
    path = small_zoo.folder / small_zoo.card("small").file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DigestError):
        publish(repo, small_zoo, keys=keys)
    assert files(repo) == {}


@pytest.mark.parametrize("facts", [{"accuracy": {"tiny": 1.5}}, {"latency_ms": {"No Name": {"tiny": 1.0}}}])
def test_odd_facts_are_refused(small_zoo: Zoo, repo: Path, keys: Keys, facts: dict[str, dict]) -> None:
    with pytest.raises(PublishError, match="model 'tiny' cannot be published"):
        publish(repo, small_zoo, keys=keys, **facts)
    assert files(repo) == {}


def test_a_model_that_answers_differently_from_its_parts_is_refused(
    small_zoo: Zoo, repo: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo.publisher.prepare, "measure_peak", lambda *_, **__: Measured(1, (0.0, 0.0, 0.0)))
    with pytest.raises(ParityError):
        publish(repo, small_zoo, keys=keys)
    assert files(repo) == {}


def test_memory_is_that_of_the_model_and_not_of_who_measures(tmp_path: Path) -> None:
    content = build_onnx()
    here = bytearray(os.urandom(2**20)) * 300  # what the parent holds does not count
    measured = measure_peak(content, tmp_path, (8, 8), name="tiny")
    assert peak_bytes() > len(here)
    assert measured.peak_bytes < len(here)
    with pytest.raises(ModelError, match="It cannot be published"):
        measure_peak(content[:-40], tmp_path, (8, 8), name="tiny")


def test_a_model_that_never_answers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.publisher.peak_memory.TIMEOUT_S", 0.01)
    with pytest.raises(ModelError, match="seconds, got none"):
        measure_peak(build_onnx(), tmp_path, (8, 8), name="tiny")


def test_a_newer_opset_asks_for_the_runtime_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = helper.make_model(helper.make_graph([], "g", [], []), opset_imports=[helper.make_opsetid("", 99)])
    monkeypatch.setattr("onnxruntime.__version__", "1.99.3")
    assert zoo.publisher.prepare.needed_runtime(proto) == "1.99"


def test_without_a_key_nothing_is_written(small_zoo: Zoo, repo: Path, keys: Keys, tmp_path: Path) -> None:
    publish(repo, small_zoo, keys=keys, models=["tiny"])
    before = files(repo)
    next((tmp_path / "keys").glob("targets-*.pem")).unlink()
    with pytest.raises(KeysError, match="'targets'"):
        publish(repo, small_zoo, keys=Keys.open(tmp_path / "keys"))
    after = files(repo)
    assert {name: after[name] for name in before} == before
    assert not any(name.startswith("metadata") for name in set(after) - set(before))


def test_an_edited_record_is_noticed(small_zoo: Zoo, repo: Path, keys: Keys) -> None:
    publish(repo, small_zoo, keys=keys)
    path = next((repo / "targets" / "models").glob("*.tiny.json"))
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":9'))
    with pytest.raises(DigestError):
        publish(repo, small_zoo, keys=keys)


def test_a_folder_that_cannot_be_written_is_named(small_zoo: Zoo, keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PublishError, match="cannot write in"):
        publish(tmp_path / "file", small_zoo, keys=keys)


def test_others_targets_are_not_taken_for_records(small_zoo: Zoo, repo: Path, keys: Keys) -> None:
    from zoo.publisher.metadata import TargetFile
    from zoo.publisher.signing import Signing

    publish(repo, small_zoo, keys=keys)
    signing = Signing(repo, keys)
    signing.targets.signed.targets["x/y/z.json"] = TargetFile.from_data("x/y/z.json", b"{}", ["sha256"])
    signing.commit("targets")
    with pytest.raises(TrustError, match="models/NAME"):
        remove(repo, keys=keys, models=["tiny"])


def test_without_onnx_the_way_to_get_it_is_named(
    small_zoo: Zoo, repo: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zoo.publisher.prepare", None)
    with pytest.raises(MissingExtraError, match=re.escape(install_command("publish"))):
        publish(repo, small_zoo, keys=keys)


def test_published_anew_nothing_that_is_there_is_believed(tmp_path: Path, small_zoo: Zoo) -> None:
    keys = create_keys(tmp_path / "keys")
    root = tmp_path / "published"
    publish(root, small_zoo, keys=keys)
    signing = Signing(root, keys)
    honest = read_index(root, signing).models["tiny"]
    lenient = msgspec.structs.replace(honest.selftest, tolerance=1e9)
    put(root, signing, msgspec.structs.replace(honest, version=2, selftest=lenient))
    signing.commit("targets")
    publish(root, small_zoo, keys=keys)
    assert published(root).models["tiny"].selftest.tolerance == 1e9
    publish(root, small_zoo, keys=keys, anew=True)
    assert published(root).models["tiny"].selftest == honest.selftest
    assert published(root).models["tiny"].version == 3


def test_where_nothing_says_what_a_model_takes_it_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(PublishError, match="expected Linux or macOS to publish models on"):
        measure_peak(b"", tmp_path, (8, 8), name="tiny")
