"""Claims about what models are worth: certified first, then the time or the accuracy that they bring."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from selector import Selector
from selector.answering.recent import Answered, Question
from selector.policies.constraint import Constraint
from selector.worth.value import task_worth
from tests.support.world_images import expected_gain, recent_task, some_images, with_subset

if TYPE_CHECKING:
    from tests.support.world import World


def test_a_way_gains_its_certificate_and_the_time_that_it_saves(world: World) -> None:
    selector = Selector.load(world.bundles["cascade"])
    task = task_worth(selector.bundle, name="birds")
    certificate = selector.certificate(0.9)
    assert certificate is not None
    assert selector.policy is not None
    assert task.ways[0].models == selector.policy.models
    assert task.ways[0].gain == pytest.approx(2 - certificate.mean_ms)  # the reference model takes 1 ms
    assert task.ways[0].unserved == 0
    assert task.gain(("full",)) == pytest.approx(1.0)


def test_where_time_is_bounded_accuracy_is_gained(world: World) -> None:
    selector = Selector.load(world.bundles["cascade"])
    level = selector.certified_levels("mean_ms")[-1]
    question = Question(Constraint(kind="mean_ms", level=level))
    task = task_worth(selector.bundle, [Answered(1, question, True, ("tiny",), 0.9, None)], name="birds")
    certificate = selector.certificate(mean_ms=level)
    assert certificate is not None
    assert task.ways[0].gain == pytest.approx(1 + certificate.accuracy)


def test_without_a_certificate_the_best_single_model_counts(world: World) -> None:
    bundle = Selector.load(world.bundles["cascade"]).bundle
    hard = Question(Constraint(kind="precision", level=0.999))
    task = task_worth(bundle, [Answered(1, hard, False, ("full",), 0.9, None)], name="birds")
    judged = {one.policy: one.accuracy for one in bundle.certificates if one.environment is None}
    alone = {p.models[0]: judged[i] for i, p in enumerate(bundle.policies) if len(p.models) == 1}
    assert list(task.singles) == ["full", "small", "tiny"]
    assert task.gain(("tiny", "small")) == alone["small"] < task.gain(("tiny", "full")) == alone["full"]
    learned = Selector.load(world.bundles["learned"]).bundle
    assert task_worth(learned, name="x").singles == {"full": 0, "small": 0, "tiny": 0}
    assert task_worth(learned, name="x", known={"tiny": 0.5}).gain(("tiny",)) == 0.5


def test_recent_inputs_tell_what_a_policy_on_the_input_saves_now(world: World, tmp_path: Path) -> None:
    folder = with_subset(world, tmp_path / "bundle", ("tiny", "small"))
    selector = Selector.load(folder)
    images = [image for image in some_images(world, 480) if image.mean() < 45]  # only the dark ones
    assert len(images) > 64
    for image in images:
        selector.predict(image, 0.95)
    costs = [selector.select(image, 0.95).cost_ms for image in images]
    certificate = selector.certificate(0.95)
    assert certificate is not None
    assert recent_task(selector).ways[0].gain == pytest.approx(2 - np.mean(costs))
    assert abs(np.mean(costs) - certificate.mean_ms) > 1e-3
    few = task_worth(selector.bundle, selector._view.recent.answers()[:10], name="birds")
    assert few.ways[0].gain == pytest.approx(2 - certificate.mean_ms)
    assert 0.5 < recent_task(selector).singles["full"] <= 1


def test_a_missing_model_is_worth_what_it_would_gain(world: World) -> None:
    part = Selector.load(world.bundles["cascade"], models=["tiny"])
    assert expected_gain(part, ("tiny",)) == 0
    before = expected_gain(part, ("tiny", "small"))
    assert before > 0.5  # nothing is certified for 0.9 with the tiny model alone
    for image in some_images(world, 20):
        part.predict(image, 0.79)
    assert expected_gain(part, ("tiny", "small")) < 0.1 < before  # for 0.79 it is enough
