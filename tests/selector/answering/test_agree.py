"""Claims about other execution providers: no certificate counts there that agreement has not earned."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from selector import Selector
from selector.answering.measuring.agree import agree
from selector.bundle.agreement import Agreement, agreed, read_agreement, save_agreement, upper_bound
from selector.bundle.bundle import read_bundle, valid_certificates
from selector.bundle.source import FolderSource
from tests.support.colours import KINDS, Kind, StoredWorld
from tests.support.command_line import CommandLine
from tests.support.small_models import plain_image
from zoo.errors import BundleError, CardError, ProviderError
from zoo.models.card import ModelCard
from zoo.models.model import Model
from zoo.providers import CPU, Provider, available

# what the CPU computes, under another name: as a provider whose answers all agree
OTHER = Provider(CPU.name, (("arena_extend_strategy", "kSameAsRequested"),))
RED = plain_image("red")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> StoredWorld:
    return StoredWorld(tmp_path_factory.mktemp("colours"))


def images(colours: StoredWorld, count: int) -> list[np.ndarray]:
    return [colours.data.image(i) for i in range(count)]


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    assert upper_bound(0, 500, 0.01) == pytest.approx(1 - 0.01 ** (1 / 500), abs=1e-9)
    assert upper_bound(89, 90, 0.2) == pytest.approx(0.8 ** (1 / 90), abs=1e-9)
    assert upper_bound(7, 7, 0.01) == 1
    for count, samples, level in ((3, 500, 0.01), (40, 90, 0.05)):
        share = upper_bound(count, samples, level)
        terms = (math.comb(samples, i) * share**i * (1 - share) ** (samples - i) for i in range(count + 1))
        assert sum(terms) == pytest.approx(level, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_certificates_count_with_what_may_differ_taken_off(
    colours: StoredWorld, tmp_path: Path, kind: Kind
) -> None:
    folder = colours.copy_bundle(kind, tmp_path / "b")
    before = Selector.load(folder, providers=OTHER)
    assert (before.provider, before.certificates) == (OTHER, ())
    answer = before.predict(RED)
    assert (answer.certified, answer.reason) == (False, "other provider")
    found = agree(folder, images(colours, 60), OTHER)
    assert {(row.other_labels, row.other_paths) for row in found.rows} == {(0, 0)}
    save_agreement(found, folder, OTHER)
    after, on_cpu = Selector.load(folder, providers=OTHER), Selector.load(folder)
    less = upper_bound(0, 60, 0.01)
    if on_cpu.certified_precisions:
        highest = on_cpu.certified_precisions[-1]
        assert after.certified_precisions[-1] == pytest.approx(highest - less)
        assert after.predict(RED, highest - less - 0.001).certified
        assert not after.predict(RED, highest).certified
    kinds = {proof.constraint.kind for proof in after.certificates}
    assert kinds <= {"precision", "max_drop"}
    assert {round(proof.confidence, 9) for proof in after.certificates} <= {0.94, 0.93}


def test_a_provider_that_answers_otherwise_is_worth_less(
    colours: StoredWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, opened = colours.copy_bundle("cascade", tmp_path / "b"), FolderSource.model

    def turned(source: FolderSource, card: ModelCard, *, threads: int) -> Model:
        model = opened(source, card, threads=threads)
        run = model.run

        def sometimes_wrong(batch: np.ndarray) -> np.ndarray:
            return np.roll(run(batch), int(batch.sum()) % 4 == 0, axis=1)

        if source.provider == OTHER:
            monkeypatch.setattr(model, "run", sometimes_wrong)
        return model

    monkeypatch.setattr(FolderSource, "model", turned)
    found = agree(folder, images(colours, 200), OTHER)
    worst = max(row.other_labels for row in found.rows)
    assert 20 < worst < 80
    proofs = valid_certificates(read_bundle(folder), 0)
    count = agreed(proofs, found)
    levels = [proof.constraint.level for proof in count if proof.constraint.kind == "precision"]
    assert max(levels, default=0) < 1 - worst / 200


def test_an_agreement_counts_for_what_it_was_made_with_alone(
    colours: StoredWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = colours.copy_bundle("cascade", tmp_path / "b")
    found = agree(folder, images(colours, 40), OTHER, confidence=0.9)
    path = save_agreement(found, folder, OTHER)
    proofs = valid_certificates(read_bundle(folder), 0)
    assert agreed(proofs, found)
    assert not agreed(proofs, msgspec.structs.replace(found, environment="fog"))
    moved = [msgspec.structs.replace(proof, threshold=proof.threshold + 1e-6) for proof in proofs]
    other = [msgspec.structs.replace(proof, subject_sha256="0" * 64) for proof in proofs]
    assert not agreed([*moved, *other], found)
    assert read_agreement(folder, Provider(CPU.name, (("a", "b"),))) is None
    monkeypatch.setattr(onnxruntime, "__version__", "1.99.0")
    assert read_agreement(folder, OTHER) is None
    monkeypatch.undo()
    path.write_text('{"schema_version": 1}')
    with pytest.raises(CardError, match="not a valid Agreement record"):
        Selector.load(folder, providers=OTHER)


def test_what_cannot_be_compared_is_refused(colours: StoredWorld, tmp_path: Path) -> None:
    bundle = colours.bundles["cascade"]
    with pytest.raises(
        ProviderError, match="expected another execution provider than that of the certificates"
    ):
        agree(bundle, [RED], CPU)
    with pytest.raises(BundleError, match="expected at least 20 images to compare on, got 3"):
        agree(bundle, [RED] * 3, OTHER)
    with pytest.raises(BundleError, match="expected a certificate for models that are on this device"):
        agree(bundle, [RED] * 30, OTHER, environment="fog")


def test_the_commands_take_a_provider(colours: StoredWorld, tmp_path: Path, zooselect: CommandLine) -> None:
    folder = colours.copy_bundle("cascade", tmp_path / "b")
    shown = tmp_path / "shown"
    shown.mkdir()
    for i, image in enumerate(images(colours, 30)):
        Image.fromarray(image).save(shown / f"{i}.png")
    before = zooselect("predict", folder, shown, "--provider", str(OTHER), "--json")
    assert f"on {OTHER}, which 'zooselect agree' compares with" in before.err
    told = zooselect("agree", folder, "--provider", str(OTHER), "--images", shown)
    assert "of 30 images at most 0 with another label (0.00%), 0 by other models" in told.out
    assert f"counts on {OTHER}" in told.out
    again: dict[str, Any] = zooselect(
        "agree", folder, "--provider", str(OTHER), "--images", shown, "--json"
    ).json()
    assert msgspec.convert(again, Agreement) == read_agreement(folder, OTHER)
    zooselect("predict", folder, shown, "--provider", str(OTHER), "--precision", "0.6", "--json")
    table = zooselect("bench", folder, "--provider", str(OTHER), "--runs", 20, "--json").json()
    assert table["provider"] == str(OTHER)
    assert "got 'Abacus'" in zooselect("bench", folder, "--provider", "Abacus", code=1).err


@pytest.mark.skipif(
    "OpenVINOExecutionProvider" not in available(),
    reason="needs onnxruntime-openvino in place of onnxruntime",
)
@pytest.mark.parametrize("kind", KINDS)
def test_openvino_agrees_with_the_cpu(colours: StoredWorld, tmp_path: Path, kind: Kind) -> None:
    provider, folder = Provider.of("OpenVINO:device_type=CPU"), colours.copy_bundle(kind, tmp_path / "b")
    found = agree(folder, images(colours, 100), provider)
    assert max(row.other_labels for row in found.rows) == 0
    save_agreement(found, folder, provider)
    assert Selector.load(folder, providers=provider).certificates
