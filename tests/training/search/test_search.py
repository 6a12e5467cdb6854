"""Claims about the search: all chains, honest scores, and what is fitted is what was compared."""

from __future__ import annotations

import numpy as np
import pytest

from selector.policies.staged import StagedPolicy
from tests.support.colours import COSTS_MS, STAGE_MS
from tests.support.world import World
from training.outcomes.folds import grouped_folds
from training.outcomes.outcomes import Outcomes, load_outcomes
from training.search.plans import (
    RULES,
    FoldedScores,
    StagedPlan,
    chain_states,
    evenly,
    fit_plan,
    folded_frontier,
    part_to_compare,
    part_to_fit,
    plans,
    probe_states,
    rows_for,
)
from zoo.errors import DataError

NAMES = ("tiny", "small", "full")


@pytest.fixture(scope="module")
def development(world: World) -> Outcomes:
    return load_outcomes(world.profile, zoo=world.zoo, splits=("fit", "tune"))


def test_every_chain_of_two_to_four_models_is_planned_with_both_rules() -> None:
    costs = {name: float(i + 1) for i, name in enumerate("abcde")}
    cascades, probes = (plans("ecabd", costs, probe=probe) for probe in (False, True))
    assert len(cascades) == len(set(cascades)) == 4 * (10 + 10 + 5)
    assert len(probes) == len(set(probes)) == 4 * (10 + 5)
    for plan in (*cascades, *probes):
        assert list(plan.chain) == sorted(plan.chain)
    assert {plan.rule for plan in cascades} == set(RULES)


def test_states_of_cascades_and_probes() -> None:
    assert chain_states(("a", "b", "c")) == [("a",), ("a", "b"), ("a", "b", "c")]
    assert probe_states(("a", "b", "c")) == [("a",), ("a", "b"), ("a", "c")]
    costs = {"a": 1.0, "b": 2.0, "c": 5.0}
    cascade = StagedPlan(("a", "b", "c"), False, "price", True).steps(costs)
    assert cascade[0].actions == (("b",), ("b", "c"))
    assert cascade[0].costs_ms == (2.0, 7.0)
    assert (cascade[1].actions, cascade[2].actions) == ((("c",),), ())
    probe = StagedPlan(("a", "b", "c"), True, "price", True).steps(costs)
    assert probe[0].actions == (("b",), ("c",))
    assert probe[0].costs_ms == (2.0, 5.0)
    assert (probe[1].actions, probe[2].actions) == ((), ())


def test_variants_of_one_original_never_fall_into_two_folds(development: Outcomes) -> None:
    folds = grouped_folds(development.groups)
    assert sorted(np.concatenate([held for _, held in folds]).tolist()) == list(range(len(development)))
    for rest, held in folds:
        assert not set(development.groups[rest]) & set(development.groups[held])
    one = development.rows(development.groups == development.groups[0])
    with pytest.raises(DataError, match=r"expected at least two originals to fit on, got 1\. Give more"):
        grouped_folds(one.groups)


def test_scores_out_of_fold_do_not_depend_on_the_sample_itself(development: Outcomes) -> None:
    from dataclasses import replace

    folds = grouped_folds(development.groups)
    held = folds[0][1]
    labels = development.labels.copy()
    labels[held] = (labels[held] + 1) % 3
    turned = replace(development, labels=labels)
    step = StagedPlan(NAMES, False, "price", True).steps(COSTS_MS)[0]
    one, other = (FoldedScores(item, folds).scores(step, True) for item in (development, turned))
    np.testing.assert_array_equal(one[held], other[held])
    assert not np.array_equal(one, other)


def test_scores_are_shared_only_where_they_mean_the_same(development: Outcomes) -> None:
    folds = grouped_folds(development.groups)
    shared = FoldedScores(development, folds)
    for committee in (True, False):
        for plan in plans(NAMES, COSTS_MS, probe=False) + plans(NAMES, COSTS_MS, probe=True):
            for step in plan.steps(COSTS_MS):
                alone = FoldedScores(development, folds)
                np.testing.assert_allclose(
                    shared.scores(step, committee), alone.scores(step, committee), rtol=0, atol=1e-9
                )
                np.testing.assert_array_equal(
                    shared.right(step.ran, committee), alone.right(step.ran, committee)
                )


@pytest.mark.parametrize("probe", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_what_is_fitted_does_what_the_comparison_promised(
    world: World, development: Outcomes, probe: bool, rule: str
) -> None:
    plan = StagedPlan(NAMES, probe, rule, True)  # type: ignore[arg-type]
    folded = FoldedScores(development, grouped_folds(development.groups))
    promised = folded_frontier(plan, folded, COSTS_MS, stage_ms=STAGE_MS)
    fitted = fit_plan(plan, development, COSTS_MS, stage_ms=STAGE_MS)
    assert isinstance(fitted.policy, StagedPolicy)
    assert (fitted.policy.rule, fitted.policy.committee, fitted.models) == (rule, True, NAMES)
    test = load_outcomes(world.profile, zoo=world.zoo, splits=("test",))
    middle = promised[len(promised) // 2]
    found = fitted.simulate(test, middle.threshold)
    assert found.accuracy == pytest.approx(middle.accuracy, abs=0.06)
    assert found.mean_ms == pytest.approx(middle.mean_ms, rel=0.35)


def test_more_samples_than_needed_are_drawn_from(
    development: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert part_to_compare(development, 0) is development
    monkeypatch.setattr("training.search.plans.SEARCH_ROWS", 100)
    part, again, other = (part_to_compare(development, seed) for seed in (0, 0, 1))
    assert len(part) == 100
    assert len(set(part.ids.tolist())) == 100
    np.testing.assert_array_equal(part.ids, again.ids)
    assert set(part.ids.tolist()) != set(other.ids.tolist())
    assert part_to_fit(development, 0) is development
    monkeypatch.setattr("training.search.plans.FIT_ROWS", 120)
    assert len(part_to_fit(development, 0)) == 120


def test_the_fewer_chains_there_are_the_more_samples_compare_them() -> None:
    most = [rows_for(models) for models in range(1, 10)]
    assert most == sorted(most, reverse=True)
    assert most[0] > 10 * most[-1]
    assert most[-1] == most[-2]


def with_fewer_variants(outcomes: Outcomes) -> Outcomes:
    """Half of the originals in one environment only."""
    _, original = np.unique(outcomes.groups, return_inverse=True)
    return outcomes.rows(
        np.flatnonzero((original % 2 == 0) | (outcomes.environments == outcomes.environments[0]))
    )


def test_originals_count_alike_where_some_have_more_variants(development: Outcomes) -> None:
    assert evenly(development, 0) is development
    uneven = with_fewer_variants(development)
    part, other = evenly(uneven, 0), evenly(uneven, 1)
    assert sorted(part.groups.tolist()) == sorted(set(uneven.groups.tolist()))
    assert set(part.ids.tolist()) != set(other.ids.tolist())


def test_scores_that_see_features_learn_from_every_variant_and_are_judged_on_one(
    development: Outcomes,
) -> None:
    uneven = with_fewer_variants(development)
    compared = evenly(uneven, 0)
    names = development.feature_names[:2]
    folded = FoldedScores.informed(compared, grouped_folds(compared.groups), names, uneven)
    assert len(folded.outcomes) == len(uneven) > len(compared)
    np.testing.assert_array_equal(folded.judged.ids, compared.ids)
    plan = StagedPlan(NAMES, False, "price", False, names)
    for point in folded_frontier(plan, folded, COSTS_MS):
        assert len(point.right) == len(compared)


def test_equal_plans_give_equal_graphs(development: Outcomes) -> None:
    plan = StagedPlan(NAMES, True, "price", True)
    one, other = (fit_plan(plan, development, COSTS_MS) for _ in range(2))
    assert one.policy == other.policy
    assert one.graphs == other.graphs
