"""Claims about findings in words: they say what was found, also when it is unwelcome."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from selector.policies.constraint import Constraint, ConstraintKind
from tests.support.world import World, fit_colours
from training.evaluation.evaluate import evaluate
from training.evaluation.findings import certified_alone, explain_uncertified, facts, notes, subtitle
from training.fitting.fitted import Fitted


def precision(level: float) -> Constraint:
    return Constraint(kind="precision", level=level)


def with_best(fitted: Fitted, accuracy: float) -> Fitted:
    """The same fit, had cross-validation seen another accuracy."""
    comparisons = tuple(
        msgspec.structs.replace(item, accuracy=accuracy) for item in fitted.record.comparisons
    )
    return dataclasses.replace(fitted, record=msgspec.structs.replace(fitted.record, comparisons=comparisons))


def test_an_uncertified_precision_is_explained_with_what_can_be_done(world: World) -> None:
    fitted = with_best(world.fits["cascade"], 0.97)
    text = explain_uncertified(fitted, precision(0.96))
    assert "Not certified with 256 certify samples: precision 0.96" in text
    assert "the highest precision that can be certified is 0.9" in text
    assert "The reference model full answers instead" in text
    assert "about " in text
    assert "certify samples would do" in text
    assert "a better model is needed" in explain_uncertified(fitted, precision(0.98))


def test_where_nothing_is_certified_that_is_said(world: World) -> None:
    fitted = world.fits["input"]
    bundle = msgspec.structs.replace(fitted.record.bundle, certificates=())
    empty = dataclasses.replace(fitted, record=msgspec.structs.replace(fitted.record, bundle=bundle))
    assert "no precision above 0.5 can" in explain_uncertified(empty, precision(0.9))


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_slower_than_a_single_model_is_not_hidden(world: World, factor: float) -> None:
    rows = [
        dataclasses.replace(row, mean_ms=row.mean_ms * factor) if row.kind == "ours" else row
        for row in evaluate(world.fits["cascade"], world.profile).rows
    ]
    text = " ".join(notes(world.fits["cascade"], rows, precision(0.9)))
    assert ("is no faster than small" in text) == (factor > 1)
    assert ("of the time of small" in text) == (factor < 1)


@pytest.mark.parametrize("level", [0.6, 0.999])
def test_a_single_model_that_is_certified_on_its_own_is_not_said_to_lack_it(
    world: World, level: float
) -> None:
    fitted = world.fits["cascade"]
    alone = {policy.models[0] for policy in fitted.record.bundle.policies if len(policy.models) == 1}
    certified = {name for name in world.zoo.names if certified_alone(fitted, precision(level), name)}
    assert certified <= alone
    assert ("full" in certified) == (level < 0.9)
    rows = [
        dataclasses.replace(row, mean_ms=row.mean_ms * 10) if row.kind == "ours" else row
        for row in evaluate(fitted, world.profile).rows
    ]
    if level < 0.9:
        assert "is certified on its own, too" in " ".join(notes(fitted, rows, precision(level)))


def test_facts_name_policy_certificate_and_times(world: World) -> None:
    for kind, fitted in world.fits.items():
        found = dict(facts(fitted, 171, precision(0.9), wall_clock=False))
        assert found["Policy"].startswith(f"{fitted.policy.kind}: tiny → small")
        assert found["Times"].startswith("added up from the latency table of bench-top: points, line")
        assert found["Certificate"].startswith("precision 0.9")
        assert "at 95% confidence (256 samples: " in found["Certificate"]
        assert ("Features + scores" in found) == (kind in ("input", "probe"))
        text = subtitle(fitted, 171, precision(0.9))
        assert "device bench-top (1 thread), asked: precision 0.9" in text


def test_what_counts_as_right_is_said(world: World) -> None:
    top = world.fit("cascade", precision=0.9, top_k=2)
    agreeing = world.fit("cascade", precision=0.9, agree_with_reference=True)
    words = [
        dict(facts(item, 9, precision(0.9), wall_clock=False))["A right answer"] for item in (top, agreeing)
    ]
    assert words == ["has the label among its 2 most probable classes", "is what full says"]
    assert "A right answer" not in dict(facts(world.fits["input"], 9, precision(0.9), wall_clock=False))


@pytest.mark.parametrize(
    ("kind", "level", "nearest"),
    [("mean_ms", 0.01, "mean of at most 0.1"), ("p95_ms", 0.01, "95th percentile of at most 0.1")],
)
def test_an_infeasible_budget_of_time_says_the_nearest_feasible_one(
    world: World, kind: ConstraintKind, level: float, nearest: str
) -> None:
    asked = Constraint(kind=kind, level=level)
    for fitted in world.fits.values():
        assert f"The nearest that is: {nearest}" in explain_uncertified(fitted, asked)
    fitted = fit_colours(world.profile, world.zoo, world.table, **{kind: level})
    assert fitted.certificate() is None
    assert f"The nearest that is: {nearest}" in explain_uncertified(fitted, asked)


def test_an_infeasible_drop_says_the_nearest_feasible_one_or_that_there_is_none(world: World) -> None:
    asked = Constraint(kind="max_drop", level=-0.2)
    text = explain_uncertified(world.fits["learned"], asked)
    level = world.fits["learned"].certified_levels("max_drop")[0]
    assert f"The nearest that is: a drop of at most {level:g} below the reference model" in text
    bundle = msgspec.structs.replace(world.fits["learned"].record.bundle, certificates=())
    empty = dataclasses.replace(
        world.fits["learned"], record=msgspec.structs.replace(world.fits["learned"].record, bundle=bundle)
    )
    assert "Nothing of that kind is" in explain_uncertified(empty, asked)
