"""Claims about profiling: nothing is run twice, nothing stale is used, nothing is lost when it is killed."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from selector import Selector, read_bundle
from selector.answering.measuring.agree import agree
from selector.bundle.agreement import save_agreement
from selector.policies.rules import confidence
from tests.support.colours import colour_zoo, latency_table
from tests.support.moments import moments_of
from tests.support.small_models import COLOURS, add_colours, build_onnx
from tests.support.world import CANDIDATES, COLOUR_SPLITS, World, colour_images, fit_colours
from training.data.images import ArrayImages, LabelledImages
from training.data.splits import Splits
from training.fitting.export import export_bundle
from training.outcomes import profile as profiling
from training.outcomes.outcomes import ALL_SPLITS, Outcomes, load_outcomes
from training.outcomes.parts import read_profile_record
from training.outcomes.profile import held_out_images, profile
from zoo import Zoo
from zoo.errors import (
    CardError,
    ClassMismatchError,
    DataError,
    LatencyError,
    ModelError,
    ProviderError,
    SchemaVersionError,
    StaleError,
    ZooError,
)
from zoo.models.card import TrainedOn
from zoo.providers import CPU, Provider

ROOT = Path(__file__).resolve().parents[3]


class MixedSizes(LabelledImages):
    """Colour images cut to different sizes."""

    def __init__(self, whole: ArrayImages) -> None:
        super().__init__(whole.classes, whole.ids, whole.labels)
        self._whole = whole

    def image(self, index: int) -> NDArray[np.uint8]:
        return self._whole.image(index)[: 3 + index % 5, : 4 + index % 3]

    def _digest(self) -> str:
        return "a" * 64


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "PART_ROWS", 32)


def run(zoo: Zoo, data: LabelledImages, folder: Path, **options: Any) -> Outcomes:
    profile(zoo, data, folder, splits=options.pop("splits", COLOUR_SPLITS), progress=False, **options)
    return load_outcomes(folder, zoo=zoo, splits=ALL_SPLITS)


def parts(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.glob("outputs/*/part-*.parquet"))}


def assert_same(one: Outcomes, other: Outcomes) -> None:
    for name in ("ids", "labels", "environments", "groups", "splits", "logits", "features"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_outcomes_are_what_the_models_answer(world: World) -> None:
    outcomes = load_outcomes(world.profile, zoo=world.zoo, splits=ALL_SPLITS)
    index = {name: i for i, name in enumerate(world.data.ids)}
    for row in range(0, len(outcomes), 97):
        image = world.data.image(index[outcomes.ids[row]])[np.newaxis]
        for j, name in enumerate(outcomes.models):
            card = world.zoo.card(name)
            logits = world.zoo.model(name).logits(image)[:, [card.classes.index(c) for c in COLOURS]]
            np.testing.assert_allclose(outcomes.logits[row, j], logits[0], atol=1e-4)
            assert outcomes.log_odds[row, j] == pytest.approx(confidence(logits)[0][0], abs=1e-3)
    assert (outcomes.right == (outcomes.logits.argmax(2) == outcomes.labels[:, None])).all()


def test_certify_and_test_hold_one_environment_of_each_original(world: World) -> None:
    outcomes = load_outcomes(world.profile, splits=("certify", "test"))
    assert len(set(outcomes.groups)) == len(outcomes)
    assert set(outcomes.environments) == {"clear", "dark", "noise"}
    development = load_outcomes(world.profile, splits=("fit", "tune"))
    assert not set(development.groups) & set(outcomes.groups)
    assert len(development) == 3 * len(set(development.groups))


def test_a_second_run_computes_nothing(world: World, tmp_path: Path, small_parts: None) -> None:
    data = colour_images(60)
    first = run(world.zoo, data, tmp_path)
    before = parts(tmp_path)
    assert len(before) > 8
    assert_same(run(world.zoo, data, tmp_path), first)
    assert parts(tmp_path) == before


def test_only_a_replaced_or_added_model_is_run_again(tmp_path: Path, small_parts: None) -> None:
    data = colour_images(60)
    zoo = colour_zoo(tmp_path / "zoo")
    run(zoo, data, tmp_path / "profile")
    before = parts(tmp_path / "profile")
    add_colours(zoo, "tiny", build_onnx(noise=0.4, seed=5))
    add_colours(zoo, "new", build_onnx(noise=0.2, seed=6))
    with pytest.raises(
        StaleError, match=r"stale; models changed: tiny; added: new\. Run 'zooselect profile'"
    ):
        load_outcomes(tmp_path / "profile", zoo=zoo)
    outcomes = run(zoo, data, tmp_path / "profile")
    after = parts(tmp_path / "profile")
    kept = {path for path in before if not path.parent.name.startswith("tiny-")}
    assert {path: after[path] for path in kept} == {path: before[path] for path in kept}
    assert {path.parent.name.rsplit("-", 1)[0] for path in set(after) - set(before)} == {"tiny", "new"}
    assert not [path for path in before if path not in kept and path.exists()]
    fresh = run(zoo, data, tmp_path / "fresh")
    assert outcomes.classes != fresh.classes  # the first model is another one now
    assert outcomes.ids.tolist() == fresh.ids.tolist()
    np.testing.assert_array_equal(outcomes.right, fresh.right)


def test_other_images_or_splits_are_refused_unless_started_over(world: World, tmp_path: Path) -> None:
    data = colour_images(60)
    run(world.zoo, data, tmp_path)
    before = (tmp_path / "profile.json").read_bytes()
    with pytest.raises(StaleError, match=r"holds a profile of other images\. .*--restart"):
        run(world.zoo, colour_images(60, seed=1), tmp_path)
    with pytest.raises(StaleError, match="holds a profile of other splits"):
        run(world.zoo, data, tmp_path, splits=Splits(seed=5))
    assert (tmp_path / "profile.json").read_bytes() == before
    load_outcomes(tmp_path, zoo=world.zoo)
    other = colour_images(60, seed=1)
    assert_same(
        run(world.zoo, other, tmp_path, restart=True), run(world.zoo, other, tmp_path.parent / "fresh")
    )


def test_killed_at_any_moment_the_same_call_continues(
    world: World, tmp_path: Path, small_parts: None
) -> None:
    data, whole = colour_images(60), tmp_path / "whole"
    moments = moments_of(lambda: run(world.zoo, data, whole, threads=1), whole, tmp_path / "killed")
    expected = load_outcomes(whole, zoo=world.zoo, splits=ALL_SPLITS)
    killed = moments[::7]
    assert len(killed) >= 8
    kept = 0
    for folder in killed:
        finished = (folder / "profile.json").exists()
        if not finished:
            with pytest.raises(DataError, match="or finish one that was interrupted"):
                load_outcomes(folder)
        before = parts(folder)
        kept += 0 < len(before) < len(parts(whole))
        assert_same(run(world.zoo, data, folder), expected)
        after = parts(folder)
        assert {path: after[path] for path in before} == before
    assert kept >= 4


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.support.moments import watch
from tests.support.world import COLOUR_SPLITS, colour_images
from training.fitting.export import export_bundle
from training.outcomes import profile as profiling
from zoo import Zoo
profiling.PART_ROWS = 32
zoo, target = Zoo.open(sys.argv[2]), Path(sys.argv[3])
watch(target, lambda number: number == 60 and os.kill(os.getpid(), signal.SIGKILL))
profiling.profile(zoo, colour_images(60), target, splits=COLOUR_SPLITS, threads=1, progress=False)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_in_earnest_the_same_call_continues(world: World, tmp_path: Path, small_parts: None) -> None:
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(ROOT), str(world.zoo.folder)]
    done = subprocess.run([*command, str(tmp_path / "killed")], capture_output=True, text=True, timeout=100)
    assert done.returncode == -signal.SIGKILL, done.stderr
    before = parts(tmp_path / "killed")
    whole = run(world.zoo, colour_images(60), tmp_path / "whole")
    assert 0 < len(before) < len(parts(tmp_path / "whole"))
    assert_same(run(world.zoo, colour_images(60), tmp_path / "killed"), whole)
    assert before.items() <= parts(tmp_path / "killed").items()


def test_a_profile_may_be_made_twice_at_once(world: World, tmp_path: Path, small_parts: None) -> None:
    data = colour_images(60)
    with ThreadPoolExecutor(4) as pool:
        several = list(pool.map(lambda _: run(world.zoo, data, tmp_path), range(8)))
    for outcomes in several:
        assert_same(outcomes, several[0])


def test_a_profile_that_another_process_finishes_meanwhile_is_no_error(
    world: World, tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, read = colour_images(60), profiling.read_record
    expected = run(world.zoo, data, tmp_path)
    marker = tmp_path / profiling.UNFINISHED_FILE
    shutil.copy(tmp_path / profiling.PROFILE_FILE, marker)

    def finished_meanwhile(path: Path, *arguments: Any, **options: Any) -> Any:
        marker.unlink(missing_ok=True)
        return read(path, *arguments, **options)

    monkeypatch.setattr(profiling, "_class_order", lambda folder, classes: expected.classes)
    monkeypatch.setattr(profiling, "read_record", finished_meanwhile)
    (tmp_path / profiling.PROFILE_FILE).rename(tmp_path / "away.json")
    profile(world.zoo, data, tmp_path, splits=COLOUR_SPLITS, progress=False)
    monkeypatch.undo()
    assert_same(load_outcomes(tmp_path, zoo=world.zoo, splits=ALL_SPLITS), expected)


def test_on_a_full_disk_what_was_finished_stays_and_the_same_call_continues(
    world: World, tmp_path: Path, small_parts: None
) -> None:
    data, sync, left = colour_images(60), os.fsync, 9

    def full(handle: int) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ZooError, match=r"cannot write .*: No space left on device\. What was finished"):
            run(world.zoo, data, tmp_path)
    before = parts(tmp_path)
    assert before
    assert not list(tmp_path.rglob("*.tmp"))
    outcomes = run(world.zoo, data, tmp_path)
    assert {path: parts(tmp_path)[path] for path in before} == before
    assert_same(outcomes, run(world.zoo, data, tmp_path.parent / "whole"))


def test_a_damaged_part_is_named(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.profile, tmp_path / "profile")
    part = next((tmp_path / "profile").glob("outputs/small-*/part-00001.parquet"))
    content = part.read_bytes()
    for damage in (b"", content[:100], content[: len(content) // 2], b"x" * 500):
        part.write_bytes(damage)
        with pytest.raises(DataError, match=r"part-00001\.parquet: expected a Parquet file.*Delete it"):
            load_outcomes(tmp_path / "profile", zoo=world.zoo)
    shutil.copy(part.with_name("part-00000.parquet"), part)
    with pytest.raises(DataError, match=r"part-00001\.parquet: expected \d+ rows, got 1024"):
        load_outcomes(tmp_path / "profile", zoo=world.zoo)
    part.unlink()
    with pytest.raises(DataError, match=r"part-00001\.parquet: expected a Parquet file"):
        load_outcomes(tmp_path / "profile", zoo=world.zoo)
    profile(world.zoo, world.data, tmp_path / "profile", splits=COLOUR_SPLITS, progress=False)
    assert part.read_bytes() == content


def test_a_model_that_answers_nan_is_named_with_the_sample(tmp_path: Path) -> None:
    zoo = Zoo.create(tmp_path / "zoo")
    add_colours(zoo, "good", build_onnx())
    add_colours(zoo, "broken", build_onnx(bias=(np.nan, 0, 0)))
    with pytest.raises(
        ModelError, match=r"'broken' returned NaN or infinite values for sample '\d{4}-clear'"
    ):
        run(zoo, colour_images(60), tmp_path / "profile")
    run(zoo.only(["good"]), colour_images(60), tmp_path / "profile")


def test_images_of_different_sizes_are_answered_in_order(world: World, tmp_path: Path) -> None:
    data = MixedSizes(colour_images(60))
    outcomes = run(world.zoo, data, tmp_path, batch_size=17)
    index = {name: i for i, name in enumerate(data.ids)}
    model = world.zoo.model("full")
    for row in range(0, len(outcomes), 5):
        logits = model.logits(data.image(index[outcomes.ids[row]])[np.newaxis])
        np.testing.assert_allclose(outcomes.logits[row, outcomes.models.index("full")], logits[0], atol=1e-4)


def test_training_images_are_left_out(world: World, tmp_path: Path) -> None:
    data = colour_images(90)
    zoo = Zoo.create(tmp_path / "zoo")
    trained = TrainedOn(data_sha256=data.sha256, share=0.5, seed=7)
    zoo.add("m", build_onnx(), classes=COLOURS, resolution=(8, 8), parameters=1, macs=1, trained_on=trained)
    outcomes = run(zoo, data, tmp_path / "profile")
    seen = set(Splits(seed=7, train=0.5).training_part(data).groups)
    assert seen
    assert not seen & set(outcomes.groups)
    assert read_profile_record(tmp_path / "profile").splits.seed == 7


def test_classes_must_agree_by_name(world: World, tmp_path: Path) -> None:
    data = colour_images(60)
    renamed = ArrayImages(data.images, ("red", "green", "violet"), data.ids, data.labels)
    with pytest.raises(ClassMismatchError, match="does not know 'violet' of the data set"):
        run(world.zoo, renamed, tmp_path)
    with pytest.raises(CardError, match="got an empty zoo"):
        run(Zoo.open_or_create(tmp_path / "zoo"), data, tmp_path)
    assert not list(tmp_path.iterdir())


def test_held_out_images_are_those_of_the_profile(world: World) -> None:
    test = load_outcomes(world.profile, splits=("test",))
    assert held_out_images(world.profile, world.data).ids == test.ids.tolist()
    with pytest.raises(StaleError, match="was made from other images"):
        held_out_images(world.profile, colour_images(60))


def test_a_profile_of_a_newer_version_is_refused(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.profile, tmp_path / "profile")
    path = tmp_path / "profile" / "profile.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 4'))
    with pytest.raises(SchemaVersionError, match="expected schema version 3 or older, got 4"):
        load_outcomes(tmp_path / "profile")


def test_large_images_get_a_finer_grid(world: World, tmp_path: Path) -> None:
    data = colour_images(30, size=(100, 120))
    assert profile(world.zoo, data, tmp_path, splits=COLOUR_SPLITS, progress=False).grid == 64
    assert read_profile_record(world.profile).grid == 32


def test_nothing_but_training_images_is_no_profile(tmp_path: Path) -> None:
    data = colour_images(60)
    zoo = Zoo.create(tmp_path / "zoo")
    trained = TrainedOn(data_sha256=data.sha256, share=0.999999, seed=0)
    zoo.add("m", build_onnx(), classes=COLOURS, resolution=(8, 8), parameters=1, macs=1, trained_on=trained)
    with pytest.raises(DataError, match=r"too few|no model was trained on"):
        run(zoo, data, tmp_path / "profile")


def test_a_profile_is_of_one_provider_and_fitted_with_times_of_it(world: World, tmp_path: Path) -> None:
    other = Provider(CPU.name, (("arena_extend_strategy", "kSameAsRequested"),))
    record = profile(world.zoo, world.data, tmp_path, splits=COLOUR_SPLITS, provider=other, progress=False)
    assert (record.schema_version, record.provider) == (3, str(other))
    with pytest.raises(StaleError, match=f"answers of {other}, not of {CPU}"):
        run(world.zoo, world.data, tmp_path)
    with pytest.raises(ProviderError, match="expected the CPU's execution provider on a cluster"):
        profile(world.zoo, world.data, tmp_path, provider=other, ray="local", progress=False)
    table = msgspec.structs.replace(latency_table(world.zoo), provider=str(CPU))
    with pytest.raises(LatencyError, match="expected times of the provider that answered the samples"):
        fit_colours(tmp_path, world.zoo, table)
    table = msgspec.structs.replace(table, provider=str(other))
    fitted = fit_colours(tmp_path, world.zoo, table, only=CANDIDATES["cascade"], precision=0.7)
    export_bundle(fitted, world.zoo, tmp_path / "bundle")
    here, there = (Selector.load(tmp_path / "bundle", providers=one) for one in (CPU, other))
    assert there.predict(world.data.image(0)).certified
    assert here.predict(world.data.image(0)).reason == "other provider"
    assert read_bundle(tmp_path / "bundle").schema_version == 8
    agreement = agree(tmp_path / "bundle", [world.data.image(i) for i in range(60)], CPU)
    assert agreement.beside == str(other)
    save_agreement(agreement, tmp_path / "bundle", CPU)
    assert Selector.load(tmp_path / "bundle").predict(world.data.image(0), 0.6).certified
