"""Claims about unmet demand: what all models together would have done, counted without any input."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from selector import Selector
from selector.answering.engine import Outcome
from selector.answering.recent import Answered, Question, Recent
from selector.bundle.bundle import Bundle
from selector.policies.constraint import Constraint
from selector.telemetry.demand import MAX_QUESTION_KINDS, AskedDemand, Demand
from selector.worth.missed import demand_of, missed
from selector.worth.value import task_worth
from tests.support.colours import KINDS, Kind
from tests.support.world_images import recent_demand, some_images, with_subset

if TYPE_CHECKING:
    from tests.support.world import World

EASY = Question(Constraint(kind="precision", level=0.9))


def answered(path: tuple[str, ...], probability: float, *, certified: bool = True) -> Answered:
    return Answered(1, EASY, certified, path, probability, None)


def lacking(bundle: Bundle, answer: Answered, installed: tuple[str, ...]) -> tuple[str, ...]:
    """What is missed where the best policy has a certificate with threshold 0.8."""
    certificate = msgspec.structs.replace(bundle.certificates[0], policy=0, threshold=0.8, accuracy=0.9)
    found = missed(answer, bundle, certificate, installed)
    return () if found is None else found.models


def test_of_an_input_policy_it_is_the_models_that_it_would_have_picked(world: World, tmp_path: Path) -> None:
    folder = with_subset(world, tmp_path / "bundle", ("tiny", "small"))
    part, whole = Selector.load(folder, models=["tiny", "small"]), Selector.load(folder)
    images = some_images(world)
    for image in images:
        part.predict(image, 0.95)
    wanted = [whole.predict(image, 0.95).model for image in images]
    assert 0 < wanted.count("full") < len(images)
    demand = recent_demand(part)
    assert demand.models == {"full": wanted.count("full")}
    assert (demand.answers, demand.window, demand.unmet) == (200, 200, wanted.count("full"))
    assert 0 < demand.shortfall < 1
    assert recent_demand(whole).models == {}


def test_batches_count_like_single_images(world: World, tmp_path: Path) -> None:
    folder = with_subset(world, tmp_path / "bundle", ("tiny", "small"))
    one, many = (Selector.load(folder, models=["tiny", "small"]) for _ in range(2))
    images = some_images(world, 90)
    for image in images:
        one.predict(image, 0.95)
    many.predict_batch(images[:50], 0.95)
    many.predict_batch(images[50:], 0.95)
    assert recent_demand(many).models == recent_demand(one).models != {}
    assert recent_demand(many).shortfall == pytest.approx(recent_demand(one).shortfall, abs=1e-6)


def test_choosing_without_answering_is_no_demand(world: World) -> None:
    selector = Selector.load(world.bundles["input"])
    selector.select(world.data.image(0))
    selector.select_batch([world.data.image(0)])
    assert recent_demand(selector).answers == 0


def test_of_a_cascade_it_is_where_it_would_have_gone_on(world: World) -> None:
    alone, whole = (Selector.load(world.bundles["cascade"], models=m) for m in (["tiny"], None))
    images = some_images(world)
    sure = [alone.predict(image, 0.79).probability for image in images]
    gone_on = sum(len(whole.predict(image, 0.9).path) > 1 for image in images)
    assert 0 < gone_on < 200
    answers = [Answered(i, EASY, True, ("tiny",), sure[i - 1], None) for i in range(1, 201)]
    demand = demand_of(answers, whole.bundle, ("tiny",), name="birds", since=0.0)
    assert demand.models == {"small": gone_on}


@pytest.mark.parametrize("kind", KINDS)
def test_with_all_models_nothing_is_missed(world: World, kind: Kind) -> None:
    selector = Selector.load(world.bundles[kind])
    for level in (selector.certified_precisions[0], 0.9, 0.999):
        selector.predict_batch(some_images(world, 20), level)
    demand = recent_demand(selector)
    assert (demand.unmet, demand.models, demand.shortfall) == (0, {}, 0.0)
    assert (demand.answers, demand.uncertified) == (60, 20)


def test_where_nothing_is_certified_the_reference_model_is_missed(world: World) -> None:
    selector = Selector.load(world.bundles["cascade"], models=["tiny", "small"])
    for image in some_images(world, 10):
        selector.predict(image, 0.999)
        selector.predict(image, 0.9)
    demand = recent_demand(selector)
    assert (demand.uncertified, demand.unmet, demand.models) == (10, 10, {"full": 10})
    assert [(one.level, one.answers, one.unmet) for one in demand.asked] == [(0.999, 10, 10), (0.9, 10, 0)]


def test_a_missing_stage_counts_when_the_chain_would_have_come_to_it(world: World) -> None:
    bundle = Selector.load(world.bundles["learned"]).bundle
    assert bundle.policies[0].models == ("tiny", "small", "full")
    sure, unsure = answered(("small",), 0.95), answered(("small",), 0.5)
    assert lacking(bundle, sure, ("small", "full")) == ("tiny",)
    assert lacking(bundle, sure, ("small",)) == ("tiny",)
    assert lacking(bundle, unsure, ("small",)) == ("tiny", "full")
    assert lacking(bundle, answered(("tiny",), 0.5), ("tiny",)) == ("small",)
    assert lacking(bundle, answered(("tiny",), 0.95), ("tiny",)) == ()
    assert lacking(bundle, answered(("tiny", "small"), 0.5), ("tiny", "small")) == ("full",)
    assert lacking(bundle, answered(("full",), float("nan")), ("full",)) == ("tiny", "small")
    assert lacking(bundle, sure, ("tiny", "small", "full")) == ()


def test_without_scores_an_unsure_answer_misses_the_next_dearer_model(world: World) -> None:
    bundle = Selector.load(world.bundles["input"]).bundle
    assert lacking(bundle, answered(("tiny",), 0.5), ("tiny",)) == ("small",)
    assert lacking(bundle, answered(("tiny",), 0.95), ("tiny",)) == ()
    assert lacking(bundle, answered(("full",), 0.5), ("full",)) == ()
    assert lacking(bundle, answered(("other",), float("nan")), ("other", "tiny")) == ("small",)


def test_what_was_missed_is_judged_by_what_is_installed_now(world: World) -> None:
    bundle = Selector.load(world.bundles["learned"]).bundle
    answers = [Answered(i, EASY, True, ("tiny",), 0.1, None) for i in range(1, 11)]
    before = demand_of(answers, bundle, ("tiny",), name="birds", since=1.0)
    after = demand_of(answers, bundle, ("tiny", "small", "full"), name="birds", since=1.0)
    assert (before.bundle, before.models, before.answers) == ("birds", {"small": 10}, 10)
    assert (after.models, after.unmet) == ({}, 0)


def test_memory_stays_the_same_however_long_it_runs() -> None:
    recent = Recent(window=50)
    outcome = Outcome("tiny", ("tiny",), 0.5, None, [0.1, 0.2])
    for _ in range(1050):
        recent.note(EASY, True, outcome)
    assert [answer.number for answer in recent.answers()] == list(range(1001, 1051))


def test_answers_of_many_threads_are_all_counted(world: World) -> None:
    selector = Selector.load(world.bundles["cascade"], models=["tiny", "small"])
    images = some_images(world, 100)
    with ThreadPoolExecutor(8) as pool:
        looking = pool.submit(lambda: [recent_demand(selector).answers for _ in range(200)])
        list(pool.map(lambda image: selector.predict(image, 0.999), images * 4))
    seen = looking.result()
    assert seen == sorted(seen)
    demand = recent_demand(selector)
    assert (demand.answers, demand.window, demand.unmet) == (400, 400, 400)


def test_the_record_is_small_and_holds_counts_alone(world: World) -> None:
    selector = Selector.load(world.bundles["cascade"], models=["tiny", "small"])
    for i in range(100):
        selector.predict(world.data.image(i), 0.5 + i / 400, environment=("clear", "dark", "noise")[i % 3])
    demand = recent_demand(selector)
    content = msgspec.json.encode(demand)
    assert len(demand.asked) == MAX_QUESTION_KINDS
    assert len(content) < 3000
    assert msgspec.json.decode(content, type=Demand) == demand


@pytest.mark.parametrize(
    "change",
    [
        {"unmet": 11},
        {"window": 11},
        {"uncertified": 11},
        {"models": {"full": 6}},
        {"since": -1},
        {"shortfall": 2},
    ],
)
def test_a_record_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    good = {"schema_version": 1, "bundle": "birds", "since": 1.0, "answers": 10, "window": 10, "unmet": 5}
    good |= {"uncertified": 2, "models": {"full": 5}}
    assert msgspec.convert(good, Demand).unmet == 5
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(good | change, Demand)
    with pytest.raises(msgspec.ValidationError, match="expected at most 3, one an answer, got 4"):
        msgspec.convert({"kind": "precision", "level": 0.9, "answers": 3, "unmet": 4}, AskedDemand)


def test_task_of_recent_answers_weighs_what_was_asked(world: World) -> None:
    bundle = Selector.load(world.bundles["cascade"]).bundle
    answers = [answered(("tiny",), 0.9)] * 3 + [
        Answered(4, Question(Constraint(kind="precision", level=0.999)), False, ("full",), 0.5, None)
    ]
    task = task_worth(bundle, answers, name="birds")
    assert {way.models: way.unserved for way in task.ways}["tiny", "small"] == 0.25
