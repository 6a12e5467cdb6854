"""Claims about whole answers in a fit: timed on this machine, taken from a table of another, or unknown."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from selector.answering.selector import Selector
from selector.policies.constraint import Constraint
from selector.policies.paths import paths_of, steps_of
from tests.support.small_models import plain_image
from tests.support.world import World
from training.evaluation.evaluate import simulate_at
from training.evaluation.findings import explain_uncertified
from training.fitting.export import export_bundle
from training.fitting.fitted import load_fit, save_fit
from zoo.models.latency import Latency, LatencyTable, PathLatency, summarise
from zoo.models.machine import machine

BUDGET = Constraint(kind="mean_ms", level=1.0)


def on_this_machine(table: LatencyTable) -> LatencyTable:
    return msgspec.structs.replace(table, machine=machine(), clock="thread")


@pytest.mark.parametrize("kind", ["cascade", "input", "probe"])
def test_on_the_machine_of_the_table_whole_answers_are_timed_and_charged(
    world: World, kind: str, tmp_path: Path
) -> None:
    here = dataclasses.replace(world, table=on_this_machine(world.table))
    fitted = here.fit(kind, precision=0.9)  # type: ignore[arg-type]
    first = fitted.policy
    costs = fitted.record.bundle.costs_ms()
    rows = [costs.path(steps_of(first.policy), path) for path in paths_of(first.policy)]
    assert {row.source for row in rows if row} == {"measured"}
    assert [row.mean_ms for row in rows if row] == first.possible_costs_ms()
    assert first.possible_costs_ms() != world.fits[kind].policy.possible_costs_ms()  # type: ignore[index]
    save_fit(fitted, tmp_path / "fit")
    again = load_fit(tmp_path / "fit")
    assert [one.possible_costs_ms() for one in again.policies] == [
        one.possible_costs_ms() for one in fitted.policies
    ]


def test_a_table_of_another_machine_is_estimated_and_says_so(world: World) -> None:
    rows = world.fits["cascade"].record.bundle.costs_ms().paths
    assert {row.source for row in rows} == {"estimated"}
    assert {row.runs for row in rows} == {500}


def test_paths_of_a_measured_bundle_are_what_the_next_fit_charges(world: World, tmp_path: Path) -> None:
    policy = world.fits["cascade"].policy.policy
    paths = tuple(
        PathLatency(steps="cascade", models=path, latency=summarise([1.0 + 2 * i] * 400))
        for i, path in enumerate(paths_of(policy))
    )
    table = msgspec.structs.replace(world.table, paths=paths)
    fitted = dataclasses.replace(world, table=table).fit("cascade", precision=0.9)
    costs = fitted.policy.possible_costs_ms()
    assert costs == [1.0 + 2 * i for i in range(len(costs))]
    export_bundle(fitted, world.zoo, tmp_path / "bundle")
    found = Selector.load(tmp_path / "bundle").select(plain_image("red"), 0.9)
    assert found.cost_ms in costs


def test_a_table_without_single_runs_certifies_no_budget_and_says_what_to_do(world: World) -> None:
    def old(latency: Latency) -> Latency:
        return msgspec.structs.replace(latency, times_ms=(), p99_ms=None, interrupted=None)

    rows = {
        name: msgspec.structs.replace(row, latency=old(row.latency))
        for name, row in world.table.models.items()
    }
    table = msgspec.structs.replace(world.table, models=rows)
    fitted = dataclasses.replace(world, table=table).fit("cascade", mean_ms=BUDGET.level)
    assert fitted.certificate() is None
    assert fitted.certified_levels("precision"), "accuracy does not depend on times"
    assert not fitted.certified_levels("mean_ms")
    assert "zooselect bench" in explain_uncertified(fitted, BUDGET)


def test_an_impossible_budget_is_answered_by_the_fastest_model_everywhere(world: World) -> None:
    asked = Constraint(kind="p95_ms", level=1e-6)
    fitted = world.fits["cascade"]
    assert fitted.certificate(asked) is None
    test = world.outcomes.split("test")
    simulated = simulate_at(fitted, test, asked)
    assert simulated.accuracy == test.right[:, test.models.index("tiny")].mean()
    assert simulated.mean_ms == pytest.approx(world.table.models["tiny"].latency.mean_ms)
    selector = Selector.load(world.bundles["cascade"])
    answer = selector.predict(plain_image("red"), p95_ms=asked.level)
    assert (answer.path, answer.certified, answer.reason) == (("tiny",), False, "not proven")
    assert selector.predict(plain_image("red"), precision=0.9999).path == ("full",)
    some = Selector.load(world.bundles["cascade"], models=["small", "full"])
    assert some.predict(plain_image("red"), mean_ms=1e-6).path == ("small",)
    assert "The fastest model tiny answers instead" in explain_uncertified(fitted, asked)


def test_what_answers_take_beside_their_parts_is_charged_on_every_path(world: World) -> None:
    policy = world.fits["cascade"].policy
    parts = policy.possible_costs_ms()
    whole, path = summarise([parts[0] + 0.25] * 400), paths_of(policy.policy)[0]
    paths = (PathLatency(steps=steps_of(policy.policy), models=path, latency=whole),)
    fitted = dataclasses.replace(world, table=msgspec.structs.replace(world.table, paths=paths)).fit(
        "cascade", precision=0.9
    )
    assert fitted.policy.possible_costs_ms() == pytest.approx([cost + 0.25 for cost in parts])
    costs = fitted.record.bundle.costs_ms()
    rows = [costs.path(steps_of(fitted.policy.policy), one) for one in paths_of(fitted.policy.policy)]
    assert [row.source for row in rows if row] == ["measured"] + ["estimated"] * (len(parts) - 1)


@pytest.mark.parametrize(("lost", "certified"), [(400 // 9, True), (400, False)])
def test_no_budget_is_certified_with_answers_of_a_busy_machine(
    world: World, lost: int, certified: bool, tmp_path: Path
) -> None:
    policy = world.fits["cascade"].policy
    paths = tuple(
        PathLatency(
            steps="cascade",
            models=path,
            latency=msgspec.structs.replace(summarise([cost] * 400), interrupted=lost),
        )
        for path, cost in zip(paths_of(policy.policy), policy.possible_costs_ms(), strict=True)
    )
    here = dataclasses.replace(world, table=msgspec.structs.replace(world.table, paths=paths))
    save_fit(here.fit("cascade", precision=0.9), tmp_path / "fit")
    fitted = load_fit(tmp_path / "fit")
    assert fitted.certified_levels("precision"), "accuracy does not depend on times"
    assert bool(fitted.certified_levels("mean_ms")) == certified
    assert bool(fitted.certified_levels("p95_ms")) == certified
    said = explain_uncertified(fitted, BUDGET)
    assert ("interrupted 50% of the runs" in said) == (not certified)
