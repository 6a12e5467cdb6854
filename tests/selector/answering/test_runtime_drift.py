"""A watched Selector: after an alarm nothing is certified and the reference model answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from selector import Selector
from selector.answering.following import StoreSelector
from selector.drift.monitor import DriftStatus
from tests.support.colours import KINDS, Kind, edit_bundle
from tests.support.small_models import build_onnx
from tests.support.small_store import Shelf
from tests.support.world_images import environment_images
from zoo.errors import DigestError, ModelError, PrecisionError
from zoo.files import sha256_bytes

if TYPE_CHECKING:
    from tests.support.world import World

all_kinds = pytest.mark.parametrize("kind", KINDS)


def status(selector: Selector) -> DriftStatus:
    found = selector.drift
    assert found is not None
    return found


@all_kinds
def test_stays_quiet_while_images_are_like_those_of_the_calibration(world: World, kind: Kind) -> None:
    selector = Selector.load(world.watched[kind], watch=True)
    for image in environment_images(world, "clear"):
        assert selector.predict(image).certified
    assert status(selector).seen == len(environment_images(world, "clear")) > 40


@all_kinds
@pytest.mark.parametrize("environment", ["dark", "noise"])
def test_notices_another_environment_within_a_hundred_images(
    world: World, kind: Kind, environment: str
) -> None:
    selector = Selector.load(world.watched[kind], watch=True)
    found = [selector.predict(image) for image in environment_images(world, environment, 100)]
    assert [answer.certified for answer in found] == sorted((a.certified for a in found), reverse=True)
    assert (found[-1].certified, found[-1].reason) == (False, "drift")
    assert found[-1].path == (selector.reference,)
    assert status(selector).moved


def test_after_an_alarm_no_certificate_counts_until_it_is_reset(world: World) -> None:
    selector = Selector.load(world.watched["cascade"], watch=True)
    before = selector.certificates
    for image in environment_images(world, "dark", 100):
        selector.predict(image)
    assert selector.certificates == selector.certified_precisions == ()
    assert selector.certificate() is None
    assert not selector.select(environment_images(world, "clear", 1)[0]).certified
    selector.reset_drift()
    assert selector.certificates == before
    assert selector.predict(environment_images(world, "clear", 1)[0]).certified


@all_kinds
def test_a_batch_counts_image_by_image_and_is_answered_alike(world: World, kind: Kind) -> None:
    one, many = (Selector.load(world.watched[kind], watch=True) for _ in range(2))
    clear = environment_images(world, "clear")
    for image in clear:
        one.predict(image)
    many.predict_batch(clear)
    first, second = status(one), status(many)
    assert (first.seen, first.alarm) == (second.seen, second.alarm)
    assert first.log_evidence == pytest.approx(second.log_evidence, abs=1e-3)
    np.testing.assert_allclose(first.recent, second.recent, atol=1e-4)
    assert not any(answer.certified for answer in many.predict_batch(environment_images(world, "dark", 100)))


def test_confidence_counts_where_one_model_sees_every_image(world: World) -> None:
    kinds = ("cascade", "learned", "probe")
    for kind in kinds:
        selector = Selector.load(world.watched[kind], watch=True)
        for image in environment_images(world, "clear", 5):
            selector.predict(image)
        policy = selector.policy
        assert policy is not None
        first = selector.predict(environment_images(world, "clear", 1)[0]).path[0]
        assert f"confidence {first}" in status(selector).evidence


def test_images_wait_to_be_looked_at_together_and_may_be_changed_meanwhile(world: World) -> None:
    changed, kept = (Selector.load(world.watched["cascade"], watch=True) for _ in range(2))
    for image in environment_images(world, "clear", 5):
        mine = image.copy()
        changed.predict(mine)
        mine[:] = 0
        kept.predict(image)
    assert changed.inputs_seen == kept.inputs_seen == 5
    assert status(changed).recent == status(kept).recent
    assert status(changed).seen == 5
    changed.reset_drift()
    assert (changed.inputs_seen, status(changed).recent) == (0, ())


def test_images_of_other_sizes_are_watched_too(world: World) -> None:
    selector = Selector.load(world.watched["cascade"], watch=True)
    selector.predict_batch([np.zeros((5, 300, 3), np.uint8), np.zeros((1, 1, 3), np.uint8)])
    assert status(selector).seen == 2


def test_repeated_images_void_nothing_unless_watching_was_asked_for(world: World) -> None:
    selector = Selector.load(world.watched["cascade"])
    assert all(selector.predict(image).certified for image in environment_images(world, "dark", 1) * 100)
    assert (selector.drift, selector.drifted, selector.inputs_seen) == (None, False, 0)


@pytest.mark.parametrize("watch", [True, False])
def test_without_a_reference_or_unwatched_there_is_no_state(world: World, watch: bool) -> None:
    selector = Selector.load((world.bundles if watch else world.watched)["cascade"], watch=watch)
    for image in environment_images(world, "dark", 60):
        assert selector.predict(image, 0.8).certified == (selector.certificate(0.8) is not None)
    assert selector.drift is None
    selector.reset_drift()


def test_a_store_carries_the_reference_and_the_state_over(world: World, tmp_path: Path) -> None:
    shelf = Shelf(world.watched["cascade"], tmp_path)
    bundle = Selector.load(world.watched["cascade"]).bundle
    names = [card.name for card in bundle.models]
    shelf.install(*names)
    selector = StoreSelector(shelf.store, shelf.name)
    for image in environment_images(world, "dark", 100):
        selector.predict(image)
    shelf.install(bundle.reference)
    assert selector.update()
    assert status(selector).alarm


def test_a_graph_that_is_damaged_or_of_other_ends_is_refused(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.watched["cascade"], tmp_path / "bundle")
    bundle = tmp_path / "bundle"
    file = json.loads((bundle / "bundle.json").read_text())["drift"]["file"]
    content = build_onnx()
    (bundle / file).write_bytes(content)
    image = environment_images(world, "clear", 1)[0]
    with pytest.raises(DigestError):
        Selector.load(bundle, watch=True).predict(image)
    edit_bundle(
        bundle, lambda record: record["drift"].update(sha256=sha256_bytes(content), size_bytes=len(content))
    )
    with pytest.raises(
        ModelError, match=r"drift graph: expected image tensor\(uint8\) → features \[\d+\], got"
    ):
        Selector.load(bundle, watch=True).predict(image)
    assert Selector.load(bundle).predict(image).label


def test_the_environment_of_the_calibration_needs_no_certificates_of_its_own(world: World) -> None:
    selector = Selector.load(world.watched["cascade"], watch=True)
    assert selector.certificate(environment="clear") == selector.certificate() is not None
    with pytest.raises(PrecisionError, match=r"got 'dark'\. This bundle knows: clear"):
        selector.certificate(environment="dark")
    assert selector.certified_levels("precision", "clear") == selector.certified_precisions


def test_only_samples_of_the_environment_are_counted(world: World) -> None:
    record = Selector.load(world.watched["cascade"]).bundle
    clear = world.outcomes.environment("clear")
    assert record.calibration.environment == "clear"
    assert record.drift is not None
    sizes = [len(clear.split(name)) for name in ("fit", "tune", "certify")]
    assert sizes == [record.calibration.fit, record.calibration.tune, record.calibration.certify]
    assert {sum(feature.counts) for feature in record.drift.features} == {sizes[2]}
