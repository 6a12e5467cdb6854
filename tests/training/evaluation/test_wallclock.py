"""Claims about wall-clock results: real answers, the same as simulated, every call timed."""

from __future__ import annotations

import numpy as np
import pytest

from selector import Selector
from selector.policies.constraint import Constraint
from tests.support.colours import KINDS, Kind
from tests.support.world import World
from training.data.images import ArrayImages
from training.evaluation.evaluate import evaluate, other_settings, our_name
from training.evaluation.wallclock import run_wall_clock, time_bundle
from training.outcomes.outcomes import load_outcomes
from training.outcomes.profile import held_out_images
from zoo.errors import ClassMismatchError

ASKED = Constraint(kind="precision", level=0.9)


@pytest.mark.parametrize("kind", KINDS)
def test_timed_answers_are_those_that_were_simulated(world: World, kind: Kind) -> None:
    images = held_out_images(world.profile, world.data)
    others = other_settings(world.fits[kind], ASKED)
    timed = time_bundle(
        world.bundles[kind], ASKED, images, name=our_name(ASKED), others=others, rounds=2, progress=False
    )
    by_name = {item.name: item for item in timed}
    assert set(by_name) == {"zooselect 0.9", "tiny", "small", "full", *others}
    test = load_outcomes(world.profile, splits=("test",))
    for j, name in enumerate(test.models):
        np.testing.assert_array_equal(by_name[name].right, test.right[:, j])
        assert by_name[name].certified is None
    ours = by_name["zooselect 0.9"]
    assert ours.certified is True
    simulated = evaluate(world.fits[kind], world.profile).ours
    assert simulated is not None
    assert ours.accuracy == simulated.accuracy
    assert ours.answered_by == pytest.approx(dict(simulated.shares))
    assert ours.all_times_ms.shape == (2 * len(images),)
    assert ours.times_ms.shape == (len(images),)
    assert (ours.all_times_ms > 0).all()
    judged = evaluate(world.fits[kind], world.profile, timed=timed)
    assert all(row.wall_clock for row in judged.rows if row.kind != "oracle")
    assert judged.ours is not None
    assert judged.ours.mean_ms == pytest.approx(ours.latency.mean_ms)
    (curve,) = judged.curves
    assert curve.wall_clock
    assert set(curve.points) == {
        (by_name[name].latency.mean_ms, by_name[name].accuracy) for name in (our_name(ASKED), *others)
    }
    for name, one in others.items():
        certificate = world.fits[kind].certificate(one)
        assert certificate is not None
        again = world.fits[kind].policy.simulate(test, certificate.threshold)
        np.testing.assert_array_equal(by_name[name].right, again.right)
    assert ours.labels is not None
    assert ours.waited is not None
    simulation, real = (evaluate(world.fits[kind], world.profile, timed=one).breakdown for one in ((), timed))
    assert simulation == real


def test_a_budget_of_time_can_be_asked_for(world: World) -> None:
    selector = Selector.load(world.bundles["learned"])
    images = held_out_images(world.profile, world.data)
    asked = Constraint(kind="mean_ms", level=0.3)
    timed = run_wall_clock({"ours": (selector, asked)}, images, singles={}, progress=False)
    assert timed[0].certified is True
    certificate = world.fits["learned"].certificate(asked)
    assert certificate is not None
    test = load_outcomes(world.profile, zoo=world.zoo, splits=("test",))
    simulated = world.fits["learned"].policy.simulate(test, certificate.threshold)
    assert timed[0].accuracy == simulated.accuracy


def test_an_uncertified_precision_is_timed_as_such(world: World) -> None:
    selector = Selector.load(world.bundles["cascade"])
    images = held_out_images(world.profile, world.data).subset(range(10))
    timed = run_wall_clock(
        {"ours": (selector, Constraint(kind="precision", level=0.999))}, images, singles={}, progress=False
    )
    assert [item.certified for item in timed] == [False]
    assert timed[0].answered_by == {"full": 1.0}


def test_images_of_other_classes_are_refused(world: World) -> None:
    images = world.data.images[:2]
    other = ArrayImages(images, ("red", "violet"), ["a", "b"], [0, 1])
    with pytest.raises(ClassMismatchError, match="does not know 'violet'"):
        run_wall_clock({"ours": (Selector.load(world.bundles["input"]), ASKED)}, other, singles={})


def test_some_models_can_be_compared_with(world: World) -> None:
    images = world.data.subset(range(2))
    timed = time_bundle(world.bundles["input"], ASKED, images, name="ours", singles=["full"], progress=False)
    assert [item.name for item in timed] == ["ours", "full"]
