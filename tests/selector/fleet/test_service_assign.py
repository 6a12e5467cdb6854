"""Assignments: what a group is to hold follows what it asks, within its budget, and does not flap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selector.fleet.decide import by_importance, decide, published, size_of
from selector.fleet.groups import Groups, Rule, read_groups, withdraw
from selector.fleet.tally import GroupDemand, Received, Tally
from selector.worth.best_set import TaskWorth, Way
from tests.support.small_releases import index_of
from tests.support.small_service import demand, report
from zoo.errors import CardError, ModelNotFoundError
from zoo.releases.release import Assignment, Index

SIZES = {"small": {"s": 90}, "middle": {"m": 290}, "big": {"b": 990}}
INDEX = index_of(SIZES, {"birds": ("small", "middle", "big"), "signs": ("small",)})
BIRDS = TaskWorth(
    name="birds",
    ways=(Way(models=("small", "big"), gain=1.6), Way(models=("small", "middle"), gain=1.4)),
    singles={"big": 0.9, "middle": 0.8, "small": 0.5},
    answers=100,
)
RULE = Rule()


def asked(
    answers: int = 1000, devices: int = 4, budget: int | None = 2000, bundle: str = "birds"
) -> GroupDemand:
    """The demand of a group whose devices were asked so often in all."""
    tally = Tally()
    for i in range(devices):
        own = (demand(bundle, answers // devices, 0),)
        tally.add(Received(at=1.0, report=report(i, demand=own, budget_bytes=budget)))
    return tally.demand("cameras", since=0)


def with_assignment(
    models: tuple[str, ...], bundles: tuple[str, ...] = ("birds",), index: Index = INDEX
) -> Index:
    """What is published, with an assignment of the group."""
    one = Assignment(schema_version=1, version=3, group="cameras", bundles=bundles, models=models)
    return msgspec.structs.replace(index, assignments={"cameras": one})


def test_a_group_gets_what_gains_most_within_its_budget() -> None:
    for budget, models in ((2000, ("big", "small")), (500, ("middle", "small")), (120, ("small",))):
        found = decide(asked(budget=budget), [BIRDS], INDEX, RULE)
        assert found.changed
        assert found.assignment is not None
        assert (found.assignment.models, found.assignment.bundles) == (models, ("birds",))
        assert found.size_bytes <= budget


def test_without_a_limit_of_any_device_all_that_helps_is_assigned() -> None:
    found = decide(asked(budget=None), [BIRDS], INDEX, RULE)
    assert found.budget_bytes is None
    assert found.gain == pytest.approx(1.6)


def test_the_operator_sets_the_budget() -> None:
    found = decide(asked(budget=10**6), [BIRDS], INDEX, Rule(budget_bytes=500))
    assert found.assignment is not None
    assert found.assignment.models == ("middle", "small")


def test_a_gain_within_the_noise_changes_nothing() -> None:
    held = with_assignment(("middle", "small"))
    few, many = (
        decide(asked(20), [BIRDS], held, Rule(least_answers=0)),
        decide(asked(1000), [BIRDS], held, RULE),
    )
    assert (few.changed, few.assignment) == (False, held.assignments["cameras"])
    assert "at least 0.22" in few.reason
    assert many.changed
    assert many.assignment is not None
    assert many.assignment.version == 4


def test_what_is_decided_once_stays_decided() -> None:
    first = decide(asked(), [BIRDS], INDEX, RULE).assignment
    assert first is not None
    again = decide(asked(), [BIRDS], with_assignment(first.models, first.bundles), RULE)
    assert not again.changed


def test_what_no_longer_fits_or_exists_is_changed_at_once() -> None:
    over = decide(asked(budget=500), [BIRDS], with_assignment(("big", "small")), RULE)
    gone = decide(asked(budget=500), [BIRDS], with_assignment(("retired", "middle", "small")), RULE)
    assert "budget is 500" in over.reason
    assert "not published" in gone.reason
    for found in (over, gone):
        assert found.changed
        assert found.assignment is not None
        assert found.assignment.models == ("middle", "small")


def test_few_answers_decide_nothing() -> None:
    found = decide(asked(50), [BIRDS], INDEX, RULE)
    assert (found.changed, found.assignment) == (False, None)
    assert "100 are needed" in found.reason


def test_a_budget_that_nothing_fits_leaves_the_devices_as_they_are() -> None:
    held = with_assignment(("small",))
    found = decide(asked(budget=10), [BIRDS], held, RULE)
    assert (found.changed, found.assignment) == (False, held.assignments["cameras"])
    assert not decide(asked(), [], INDEX, RULE).changed


def test_what_the_operator_fixes_overrides_demand() -> None:
    fixed = decide(asked(), [BIRDS], INDEX, Rule(models=("middle",)))
    assert fixed.assignment is not None
    assert (fixed.assignment.models, fixed.assignment.bundles) == (("middle",), ("birds",))
    again = decide(
        asked(), [BIRDS], with_assignment(("middle",)), Rule(models=("middle",), bundles=("birds",))
    )
    assert not again.changed
    with pytest.raises(ModelNotFoundError, match=r"groups\.json, got 'huge'"):
        decide(asked(), [BIRDS], INDEX, Rule(models=("huge",)))


def test_what_the_operator_withdraws_is_taken_away_once() -> None:
    rule = Rule(assigned=False)
    gone = decide(asked(), [BIRDS], with_assignment(("middle",)), rule)
    assert (gone.assignment, gone.changed) == (None, True)
    assert not decide(asked(), [BIRDS], INDEX, rule).changed


def test_withdrawing_keeps_what_the_file_says_of_others(tmp_path: Path) -> None:
    text = '{"schema_version": 1, "groups": {"cameras": {"models": ["a"], "budget_bytes": 5}, "phones": {}}}'
    (tmp_path / "groups.json").write_text(text)
    withdraw(tmp_path, "cameras")
    groups = read_groups(tmp_path)
    assert groups.rule("cameras") == Rule(assigned=False, budget_bytes=5)
    assert groups.rule("phones") == groups.others == Rule()


def test_a_bundle_that_is_asked_more_gets_the_room() -> None:
    signs = TaskWorth(name="signs", ways=(), singles={"small": 1.0}, answers=1.0)
    often = msgspec.structs.replace(signs, answers=1000.0)
    budget = 320
    rare = decide(asked(budget=budget), [BIRDS, signs], INDEX, RULE)
    much = decide(asked(budget=budget), [BIRDS, often], INDEX, RULE)
    assert rare.assignment is not None
    assert much.assignment is not None
    assert rare.assignment.models == ("middle",)
    assert much.assignment.models == ("small",)


def test_among_equals_the_model_that_was_missed_comes_first() -> None:
    task = TaskWorth(name="birds", ways=(), singles={"big": 0.5, "middle": 0.5, "small": 0.5})
    tally = Tally()
    tally.add(
        Received(at=1.0, report=report(demand=(demand("birds", 10, 4, models={"small": 4, "big": 1}),)))
    )
    missed = tally.demand("cameras", since=0)
    assert by_importance(("big", "middle", "small"), [task], missed) == ("small", "big", "middle")


@given(st.integers(0, 3000), st.sampled_from([0, 100, 10_000]), st.sampled_from([None, ("small",), ("big",)]))
def test_an_assignment_fits_is_published_and_never_gains_less(
    budget: int, answers: int, before: tuple[str, ...] | None
) -> None:
    index = INDEX if before is None else with_assignment(before)
    found = decide(asked(answers, budget=budget), [BIRDS], index, RULE)
    if not found.changed:
        return
    assert found.assignment is not None
    assert published(found.assignment, INDEX)
    assert size_of(found.assignment.models, found.assignment.bundles, INDEX) == found.size_bytes <= budget
    over = size_of(before or (), ("birds",), INDEX) > budget
    assert over or found.gain > found.gain_before


def test_settings_are_read_from_a_file_and_checked(tmp_path: Path) -> None:
    assert read_groups(tmp_path) == Groups(schema_version=2)
    text = '{"schema_version": 1, "groups": {"cameras": {"budget_bytes": 5}}, "others": {"quantile": 0.5}}'
    (tmp_path / "groups.json").write_text(text)
    groups = read_groups(tmp_path)
    assert (groups.rule("cameras").budget_bytes, groups.rule("phones").quantile) == (5, 0.5)
    wrong: Any
    both = '{"schema_version": 2, "groups": {"cameras": {"models": ["a"], "assigned": false}}}'
    for wrong in ('{"schema_version": 1, "groups": {"cameras": {"budget": 5}}}', both, "{"):
        (tmp_path / "groups.json").write_text(wrong)
        with pytest.raises(CardError, match=r"groups\.json"):
            read_groups(tmp_path)
