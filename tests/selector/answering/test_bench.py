"""Claims about measuring a folder: a zoo or a bundle, installed models only, the selector beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from selector.answering.measuring.bench import (
    as_if_proven,
    measure_folder,
    measure_paths,
    speed_then,
    views_on_paths,
)
from selector.answering.selector import Selector
from selector.answering.view import View
from selector.bundle.bundle import read_bundle
from selector.bundle.source import FolderSource
from selector.drift.monitor import BLOCK_INPUTS
from selector.policies.paths import ALONE, forced, paths_of, steps_of
from tests.support.small_models import plain_image
from zoo.errors import CardError, LatencyError
from zoo.models.timing import Times

if TYPE_CHECKING:
    from tests.support.world import Kind, World

IMAGES = [plain_image("red"), plain_image("blue")]


def test_a_zoo_is_measured(world: World) -> None:
    table = measure_folder(world.zoo.folder, IMAGES, device="here", runs=20)
    assert table.costs_ms(world.zoo).keys() == {"tiny", "small", "full"}
    assert (table.device, table.image, table.selector) == ("here", (8, 8), None)


def test_a_bundle_is_measured_with_its_selector(world: World) -> None:
    table = measure_folder(world.bundles["input"], IMAGES, device="here", runs=20)
    record = read_bundle(world.bundles["input"]).selector
    assert record is not None
    assert table.selector is not None
    assert table.selector.sha256 == record.sha256
    assert table.selector.latency.p50_ms > 0
    assert measure_folder(world.bundles["cascade"], IMAGES, device="here", runs=20).selector is None


def test_only_installed_models_are_measured(world: World, tmp_path: Path) -> None:
    bundle = world.copy_bundle("cascade", tmp_path / "bundle")
    (bundle / read_bundle(bundle).card("full").file).unlink()
    assert set(measure_folder(bundle, IMAGES, device="here", runs=20).models) == {"tiny", "small"}


def test_nothing_to_measure_is_an_error(world: World, tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"expected a zoo in .*, got no zoo\.json there"):
        measure_folder(tmp_path, IMAGES, device="here")
    with pytest.raises(LatencyError, match="got 3 models and 0 images"):
        measure_folder(world.zoo.folder, [], device="here")


def test_times_of_answers_are_given_at_the_speed_of_the_models_in_the_table(world: World) -> None:
    assert speed_then({"small": 1.0, "full": 4.0}, {"small": 1.5, "full": 6.0}) == pytest.approx(1 / 1.5)
    assert speed_then({"full": 1.0}, {"full": 2.5}) == 1.0  # no busy neighbour does that
    assert speed_then({}, {}) == 1.0
    halved = Times(np.array([2.0, 4.0]), np.array([0.0, 3.0])).at_speed(0.5)
    assert halved.wall_ms.tolist() == [1.0, 2.0]
    assert halved.interrupted.tolist() == [False, True]
    selector = Selector.load(world.bundles["cascade"])
    table = measure_folder(world.bundles["cascade"], IMAGES, device="here", runs=20)
    paths = measure_paths(selector, IMAGES, models=["full"], runs=20, table=table)
    assert {path.models for path in paths if path.steps == ALONE} == {("full",)}


@pytest.mark.parametrize("kind", ["input", "cascade", "lookahead", "learned", "probe", "pool"])
def test_every_path_of_a_bundle_is_measured_as_whole_answers(world: World, kind: Kind) -> None:
    bundle = read_bundle(world.bundles[kind])
    table = measure_folder(world.bundles[kind], IMAGES, device="here", runs=20)
    steps = steps_of(bundle.policies[0])
    assert [row.models for row in table.paths if row.steps == steps] == paths_of(bundle.policies[0])
    assert [row.models for row in table.paths if row.steps == ALONE] == [(name,) for name in table.models]
    assert all(row.latency.runs + (row.latency.interrupted or 0) == 20 for row in table.paths)
    first = paths_of(bundle.policies[0])[0]
    assert table.path(steps, first) is not None
    assert table.path(steps, ["nobody"]) is table.path("other", first) is None


def test_a_timed_monitor_takes_made_up_inputs_for_ordinary_ones(world: World) -> None:
    selector = Selector.load(world.watched["cascade"])
    for view in views_on_paths(selector, watch=True).values():
        timed = Selector(view, selector.folder, threads=1)
        for _ in range(30):
            for image in IMAGES:
                timed.predict(image)
        assert timed.inputs_seen == 30 * len(IMAGES)
        assert view.watch is not None
        assert view.watch.monitor.block == BLOCK_INPUTS, "nothing speaks for a change"


def test_the_monitor_is_part_of_an_answer_where_it_watches(world: World) -> None:
    table = measure_folder(world.watched["cascade"], IMAGES, device="here", runs=200, watch=True)
    assert {row.watched for row in table.paths} == {True}, "and no alarm ended it"


@pytest.mark.parametrize("kind", ["input", "cascade", "lookahead", "learned", "probe", "pool"])
def test_a_forced_path_gives_the_answers_of_those_inputs_that_take_it_by_themselves(
    world: World, kind: Kind
) -> None:
    selector = Selector.load(world.bundles[kind])
    policy = selector.policy
    assert policy is not None
    levels, count = selector.certified_precisions, len(world.data.ids)
    seen = set()
    for level in levels[:: max(1, len(levels) // 4)]:
        for image in [world.data.image(i) for i in range(0, count, count // 6)]:
            answer = selector.predict(image, level)
            certain = forced(policy, answer.path)
            assert certain is not None
            changed = as_if_proven(selector.bundle, *certain)
            source = FolderSource(selector.folder)
            view = View(changed, source, selector.models, threads=1, before=selector._view)
            again = Selector(view, selector.folder, threads=1).predict(image)
            assert (again.path, again.label) == (answer.path, answer.label)
            np.testing.assert_array_equal(again.probabilities, answer.probabilities)
            seen.add(answer.path)
    assert seen <= set(paths_of(policy))
