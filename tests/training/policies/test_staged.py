"""Claims about staged policies: a device does what was simulated, for every kind of them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from selector.answering.engine import Engine
from selector.policies.input import InputPolicy
from selector.policies.rules import next_action
from selector.policies.staged import State
from tests.support.colours import COSTS_MS, SELECTOR_MS, STAGE_MS
from tests.support.world import World
from training.fitting.export import export_bundle
from training.fitting.fitted import Fitted, load_fit, save_fit
from training.outcomes.outcomes import load_outcomes
from training.outcomes.profile import held_out_images
from training.policies.base import FittedPolicy
from training.policies.input import FittedInputPolicy
from training.policies.staged import FittedStaged, PlanState, branches, follow, follow_all, staged_thresholds
from training.search.plans import RULES, StagedPlan, fit_plan

CHAIN = ("tiny", "small", "full")
Variant = tuple[bool, Literal["threshold", "price"], bool, bool]
VARIANTS: list[Variant] = [
    (probe, rule, committee, informed)
    for probe, rule, committee, informed in itertools.product(
        (False, True), RULES, (True, False), (False, True)
    )
]


def plan_of(variant: Variant, features: tuple[str, ...]) -> StagedPlan:
    probe, rule, committee, informed = variant
    return StagedPlan(CHAIN, probe, rule, committee, features if informed else ())


@pytest.fixture(scope="module")
def every(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Fitted, Path]:
    """One fit with all variants of staged policies and both rules of input policies, and its bundle."""
    base = world.fits["input"]
    graph = base.record.bundle.selector
    assert graph is not None
    development = load_outcomes(world.profile, zoo=world.zoo, splits=("fit", "tune"))
    policies: list[FittedPolicy] = [
        fit_plan(
            plan_of(variant, graph.features),
            development,
            COSTS_MS,
            overhead_ms=SELECTOR_MS if variant[3] else 0.0,
            stage_ms=STAGE_MS,
        )
        for variant in VARIANTS
    ]
    assert base.scores is not None
    for rule, among in itertools.product(RULES, ((), ("tiny", "full"))):
        costs = tuple(COSTS_MS[name] for name in among or CHAIN)
        policy = InputPolicy(order=CHAIN, among=among, rule=rule, costs_ms=costs)
        policies.append(
            FittedInputPolicy(policy, base.scores, graph.features, COSTS_MS, overhead_ms=SELECTOR_MS)
        )
    bundle = msgspec.structs.replace(
        base.record.bundle, policies=tuple(item.policy for item in policies), certificates=()
    )
    record = msgspec.structs.replace(base.record, bundle=bundle)
    fitted = Fitted(record, tuple(policies), base.graph, base.scores)
    folder = tmp_path_factory.mktemp("every") / "bundle"
    export_bundle(fitted, world.zoo, folder)
    return fitted, folder


@pytest.mark.parametrize("index", range(len(VARIANTS) + 4))
def test_a_device_does_what_was_simulated(world: World, every: tuple[Fitted, Path], index: int) -> None:
    fitted, folder = every
    policy, bundle = fitted.policies[index], fitted.record.bundle
    development = load_outcomes(world.profile, zoo=world.zoo, splits=("fit", "tune"))
    test = load_outcomes(world.profile, zoo=world.zoo, splits=("test",))
    held = held_out_images(world.profile, world.data)
    images = np.stack([held.image(i) for i in range(len(held))])
    engine = Engine(bundle, folder, bundle.policies[index], "full", threads=1)
    overhead = SELECTOR_MS if policy.overhead_ms else 0.0
    staged = isinstance(policy, FittedStaged)
    seen = set()
    for threshold in policy.thresholds(development, count=7):
        simulated = policy.simulate(test, float(threshold))
        single = [engine.run(image[None], float(threshold), answer=True)[0] for image in images]
        for found in (single, engine.run(images, float(threshold), answer=True)):
            assert [policy.models.index(item.model) for item in found] == simulated.answered_by.tolist()
            cost = [sum(COSTS_MS[m] + staged * STAGE_MS for m in item.path) + overhead for item in found]
            np.testing.assert_allclose(cost, simulated.cost_ms)
            answers = np.stack([item.answer for item in found if item.answer is not None])
            np.testing.assert_array_equal(answers.argmax(axis=1) == test.labels, simulated.right)
        seen |= {item.path for item in single}
    assert len(seen) >= 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_survives_being_stored(
    every: tuple[Fitted, Path], world: World, tmp_path: Path, variant: Variant
) -> None:
    fitted, index = every[0], VARIANTS.index(variant)
    save_fit(fitted, tmp_path)
    again = load_fit(tmp_path).policies[index]
    assert again.policy == fitted.policies[index].policy
    assert again.kind == ("probe" if variant[0] else "cascade")
    test = load_outcomes(world.profile, zoo=world.zoo, splits=("test",))
    for threshold in (0.0, 0.5, 0.9, 2.0):
        one, other = (item.simulate(test, threshold) for item in (fitted.policies[index], again))
        np.testing.assert_array_equal(one.right, other.right)
        np.testing.assert_array_equal(one.cost_ms, other.cost_ms)


def test_costs_can_be_only_those_that_are_listed(every: tuple[Fitted, Path], world: World) -> None:
    test = load_outcomes(world.profile, zoo=world.zoo, splits=("test",))
    for policy in every[0].policies:
        possible = np.array(policy.possible_costs_ms())
        for found in policy.frontier(test, policy.thresholds(test, count=9)):
            off = np.abs(found.cost_ms[:, None] - possible[None]).min(axis=1)
            assert off.max() < 1e-12


@pytest.mark.parametrize("rule", RULES)
def test_thresholds_run_from_careful_to_cheap(every: tuple[Fitted, Path], world: World, rule: str) -> None:
    test = load_outcomes(world.profile, zoo=world.zoo, splits=("test",))
    for variant, policy in zip(VARIANTS, every[0].policies, strict=False):
        if variant[1] == rule:
            frontier = policy.frontier(test, policy.thresholds(test))
            assert frontier[-1].mean_ms == pytest.approx(min(policy.possible_costs_ms()))
            if rule == "price":
                assert frontier[0].mean_ms > 1.2 * frontier[-1].mean_ms
            dear = [point.mean_ms for point in frontier]
            assert dear[0] >= dear[len(dear) // 2] >= dear[-1]


def test_estimates_are_calibrated(every: tuple[Fitted, Path], world: World) -> None:
    test = load_outcomes(world.profile, zoo=world.zoo, splits=("test",))
    for policy in every[0].policies:
        for probability, right in policy.estimates(test).values():
            assert probability.mean() == pytest.approx(right.mean(), abs=0.1)


STEPS = (
    PlanState(("a",), (("b",), ("c",)), (1.0, 3.0)),
    PlanState(("a", "b"), (), ()),
    PlanState(("a", "c"), (), ()),
)


def scores(*rows: tuple[float, ...]) -> list[NDArray[np.float64]]:
    return [np.array(rows), np.full((len(rows), 1), 0.5), np.full((len(rows), 1), 0.5)]


def test_a_probe_goes_where_its_scores_send_it() -> None:
    known = scores((0.9, 0.9, 0.9), (0.2, 0.9, 0.95), (0.2, 0.3, 0.8), (0.5, 0.4, 0.3))
    assert follow(STEPS, known, 0.7, "threshold").tolist() == [0, 1, 2, 0]
    assert follow(STEPS, known, 0.0, "price").tolist() == [0, 2, 2, 0]
    assert follow(STEPS, known, 0.1, "price").tolist() == [0, 1, 2, 0]
    assert follow(STEPS, known, 10.0, "price").tolist() == [0, 0, 0, 0]
    assert branches(STEPS[0])
    assert not branches(STEPS[1])


def test_a_cascade_can_stop_at_every_stage() -> None:
    steps = (
        PlanState(("a",), (("b",), ("b", "c")), (1.0, 3.0)),
        PlanState(("a", "b"), (("c",),), (2.0,)),
        PlanState(("a", "b", "c"), (), ()),
    )
    known = [
        np.array([[0.9, 0.9, 0.9], [0.1, 0.8, 0.9], [0.1, 0.2, 0.9]]),
        np.array([[0.0, 0.0], [0.8, 0.9], [0.3, 0.9]]),
        np.full((3, 1), 0.1),
    ]
    assert follow(steps, known, 0.7, "threshold").tolist() == [0, 1, 2]
    for rule in RULES:
        stops = [follow(steps, known, float(t), rule) for t in staged_thresholds(steps, known, rule)]
        assert [step.ran for step in (steps[int(stops[-1].max())],)] == [("a",)]


@pytest.mark.parametrize("probe", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_following_all_samples_at_once_is_following_each_by_the_rule(probe: bool, rule: str) -> None:
    steps = StagedPlan(("a", "b", "c", "d"), probe, rule, True).steps(  # type: ignore[arg-type]
        {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.5}
    )
    rng = np.random.default_rng(0)
    # few values, so that many are equal to each other and to the thresholds
    known = [rng.integers(0, 5, (400, 1 + len(step.actions))) / 4 for step in steps]
    thresholds = [0.0, 0.1, 0.125, 0.25, 0.5, 1.0, 1.5]
    place = {step.ran: i for i, step in enumerate(steps)}
    found = follow_all(steps, known, thresholds, rule)  # type: ignore[arg-type]
    for t, threshold in enumerate(thresholds):
        for row in range(400):
            state = 0
            while steps[state].actions:
                ways = 0.0, *steps[state].costs_ms
                pick = int(next_action(known[state][row : row + 1], ways, threshold, rule)[0])  # type: ignore[arg-type]
                if pick == 0:
                    break
                state = place[(*steps[state].ran, steps[state].actions[pick - 1][0])]
            assert found[t, row] == state


def test_the_state_decides_by_both_rules_as_described() -> None:
    state = State(
        ran=("a",),
        actions=(("b",), ("c",)),
        costs_ms=(1.0, 3.0),
        file="graphs/x.onnx",
        sha256="0" * 64,
        size_bytes=1,
    )
    rows = np.array([[0.6, 0.7, 0.9]])
    assert [int(next_action(rows, state.ways_ms, t, "threshold")[0]) for t in (0.5, 0.65, 0.8, 0.95)] == [
        0, 1, 2, 2,
    ]  # fmt: skip
    assert [int(next_action(rows, state.ways_ms, t, "price")[0]) for t in (0.0, 0.09, 0.105, 0.3)] == [
        2, 2, 0, 0,
    ]  # fmt: skip
