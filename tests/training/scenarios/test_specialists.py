"""Claims about specialists: made once, they differ in little, and devices find them as variants of a task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selector import Selector
from selector.bundle.bundle import read_bundle
from tests.support.small_scenario import SPLITS, SmallScenario
from training.data.environments import under_environments
from training.data.sources import digits
from training.data.splits import TEST
from training.fitting.export import export_bundle
from training.fitting.fit import fit
from training.outcomes.outcomes import load_outcomes
from training.outcomes.profile import held_out_images, profile
from training.scenarios.specialists import make_specialists
from zoo.errors import DataError
from zoo.models.latency import measure
from zoo.publisher.publish import published


def test_the_variants_of_a_task_are_published_with_what_their_inputs_look_like(
    small_scenario: SmallScenario,
) -> None:
    index = published(small_scenario.published.repo)
    assert set(index.bundles) == {"objects", "objects.dark"}
    assert {one.task for one in index.bundles.values()} == {"objects"}
    assert index.bundles["objects.dark"].environment == "dark"
    for release in index.bundles.values():
        assert release.drift is not None
        bundle = read_bundle(small_scenario.published.bundles[release.environment or ""])
        assert bundle.drift is not None
        assert (release.drift.features, release.drift.alpha) == (bundle.drift.features, bundle.drift.alpha)


def test_input_features_alone_send_images_to_the_specialist_of_their_environment(
    small_scenario: SmallScenario, tmp_path: Path
) -> None:
    zoo = small_scenario.zoo.only(["tiny", "tiny-dark"])
    shown = under_environments(digits(), ["clear", "dark"], severity=1.0)
    profile(zoo, shown, tmp_path / "profile", splits=SPLITS, progress=False)
    latency = measure(zoo, [shown.image(0)], device="this-machine", runs=20)
    fitted = fit(tmp_path / "profile", zoo, latency, precision=0.65, policy="input")
    export_bundle(fitted, zoo, tmp_path / "bundle")
    certified = {item.environment for item in read_bundle(tmp_path / "bundle").certificates}
    assert certified == {None, "clear", "dark"}

    held = held_out_images(tmp_path / "profile", shown)
    selector = Selector.load(tmp_path / "bundle", watch=False)
    everything = selector.predict_batch([held.image(i) for i in range(len(held))], precision=0.65)
    right = np.array([one.label for one in everything]) == np.array([held.classes[i] for i in held.labels])
    environments = np.array(held.environments)
    for environment, specialist in (("clear", "tiny"), ("dark", "tiny-dark")):
        some = [one for one, name in zip(everything, environments, strict=True) if name == environment]
        assert np.mean([one.model == specialist for one in some]) > 0.8
        assert all(one.path == (one.model,) and one.certified for one in some)
    alone = load_outcomes(tmp_path / "profile", zoo=zoo, splits=(TEST,)).accuracy()
    assert right.mean() > max(alone.values()) + 0.1


def test_a_specialist_shares_most_of_its_bytes_with_its_parent(small_scenario: SmallScenario) -> None:
    models = published(small_scenario.published.repo).models
    parent, child = models["tiny"], models["tiny-dark"]
    assert child.graph == parent.graph
    assert child.accuracy is not None
    assert child.accuracy > 0.5


def test_made_again_everything_is_used_again(small_scenario: SmallScenario) -> None:
    before = {path: path.stat().st_mtime_ns for path in small_scenario.root.rglob("*.onnx")}
    version = published(small_scenario.published.repo)
    small_scenario.make()
    after = {path: path.stat().st_mtime_ns for path in small_scenario.root.rglob("*.onnx")}
    assert after == before
    assert published(small_scenario.published.repo) == version


def test_test_images_are_the_same_originals_in_every_environment(small_scenario: SmallScenario) -> None:
    clear, fog = (small_scenario.published.test_images(name) for name in ("clear", "rotation"))
    assert clear.groups == fog.groups
    assert set(fog.environments) == {"rotation"}


def test_environments_are_named_once(small_scenario: SmallScenario) -> None:
    material = small_scenario.published.material
    for names in ((), ("dark", "dark")):
        with pytest.raises(DataError, match="expected distinct environments"):
            make_specialists(small_scenario.root, small_scenario.zoo, material, names, precision=0.6)
