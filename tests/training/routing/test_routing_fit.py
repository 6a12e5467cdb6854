"""A router is fitted to a table, decides as its simulation did, and promises only what samples prove."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("pyarrow")

from selector import Router
from selector.routing.constraint import RouteConstraint
from tests.support.small_router import STORED_ROUTER, routed, store_rows
from tests.support.small_table import table_rows
from training.certificates import certify
from training.outcomes.table import read_table
from training.outcomes.table_checks import check_table
from training.outcomes.table_profile import load_table_outcomes, read_table_record, store_table
from training.policies.frontier import Simulated
from training.routing import search
from training.routing.evaluation import evaluate_router
from training.routing.fit import fit_table, fit_table_outcomes
from training.routing.fitted import load_router_fit, save_router_fit
from training.routing.options import RouteOptions
from zoo.errors import DataError, PrecisionError, StaleError

PLACES = ("day", "night")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return routed(tmp_path_factory.mktemp("routed"), precision=0.8, policy="cascade").parent


def as_simulated(folder: Path, asked: dict[str, float]) -> int:
    """Runs the router on all test inputs, and counts those that escalate; each is as it was simulated."""
    fitted, router = load_router_fit(folder / "router-fit"), Router.load(folder / "my-router")
    raw = load_table_outcomes(folder / "table-profile", splits=("test",))
    ((kind, level),) = asked.items()
    simulated = fitted.simulate(fitted.seen(raw), RouteConstraint(kind=kind, level=level))  # type: ignore[arg-type]
    longer = 0
    for i in range(len(raw)):
        step = router.start(raw.features[i], **asked)
        while step.run:
            j = raw.models.index(step.run)
            logits = raw.logits[i, j] if raw.combinable else None
            step = step.tell(score=raw.scores[i, j], logits=logits, cost=raw.paid[i, j])
        assert step.certified
        assert step.cost == pytest.approx(simulated.cost_ms[i])
        assert step.model == fitted.policies[0].models[simulated.answered_by[i]]
        longer += len(step.path) > 1
    return longer


def test_a_router_decides_exactly_as_was_simulated(folder: Path) -> None:
    assert as_simulated(folder, {"precision": 0.87}) > 10


@pytest.mark.parametrize("options", [{"policy": "input"}, {"policy": "auto", "models": ("small",)}])
def test_so_does_one_of_another_policy(tmp_path: Path, options: dict[str, Any]) -> None:
    level = {"precision": 0.55}
    rows = table_rows(500)
    for row in rows[::9]:
        row["feature.length"] = None
    routed(tmp_path, rows, **level, **options)
    as_simulated(tmp_path, level)
    step = Router.load(tmp_path / "my-router").start({"length": None})
    assert step.run in ("small", "large")


def test_so_does_one_that_is_told_logits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(500):
        label, row = int(rng.integers(3)), {}
        for name, spread in (("small", 1.5), ("large", 0.7)):
            logits = rng.normal(size=3) * spread
            logits[label] += 2
            row[f"{name}.logits"] = json.dumps(logits.round(3).tolist())
            row[f"{name}.cost"] = 0.1 if name == "small" else 1
        rows.append({"id": i, "label": label, **row})
    routed(tmp_path, rows, precision=0.8)
    assert Router.load(tmp_path / "my-router").record.evidence == "logits"
    as_simulated(tmp_path, {"precision": 0.8})


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A router that is told the environment: by day the large model is of use where lengths are middling."""
    rows = table_rows(800)
    for i, row in enumerate(rows):
        row["environment"], row["feature.length"] = PLACES[i % 4 == 0], round(8 * ((i * 0.618) % 1) - 4, 3)
        useful = row["environment"] == "day" and abs(row["feature.length"]) < 3
        row["large.right"] = row["large.right"] if useful else row["small.right"]
    return routed(tmp_path_factory.mktemp("told"), rows, told=True, max_drop=0.05, policy="cascade").parent


def test_a_cascade_weighs_what_features_let_expect_of_the_next_model(told: Path) -> None:
    fitted, router = load_router_fit(told / "router-fit"), Router.load(told / "my-router")
    assert fitted.policies[0].policy.features == router.record.estimates  # type: ignore[union-attr]
    assert as_simulated(told, {"max_drop": 0.05}) > 5

    def next_after_doubt(length: float, place: str) -> str | None:
        return router.start({"length": length, "environment": place}).tell(score=-4).run

    assert next_after_doubt(0, "day") == "large"
    assert next_after_doubt(0, "night") is None
    with pytest.raises(DataError, match="environment among day, night, got 'dusk'"):
        next_after_doubt(0, "dusk")


def test_another_constraint_is_searched_for_no_more(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "fit_estimates", lambda *_, **__: pytest.fail("searched again"))
    fitted = fit_table(told / "table-profile", precision=0.6, policy="cascade")
    assert fitted.record.comparisons
    assert fit_table(told / "table-profile", max_drop=0.05, policy="cascade").record == (
        load_router_fit(told / "router-fit").record
    )


def test_certificates_are_about_what_was_paid(folder: Path) -> None:
    fitted = load_router_fit(folder / "router-fit")
    held = fitted.seen(load_table_outcomes(folder / "table-profile", splits=("certify",)))
    for one in fitted.router.certificates:
        seen = fitted.policies[one.policy].simulate(held, one.threshold)
        assert (one.quality, one.mean_cost) == pytest.approx((seen.accuracy, seen.mean_ms))
        assert one.p_value <= 1 - one.confidence
    kinds = {one.constraint.kind for one in fitted.router.certificates}
    assert kinds == {"precision", "max_drop", "mean_cost", "quantile_cost"}
    assert all(
        (one.most_cost is None) != (one.constraint.kind == "mean_cost") for one in fitted.router.certificates
    )


def test_a_model_may_cost_nothing(tmp_path: Path) -> None:
    rows = [row | {"small.cost": 0} for row in table_rows(300)]
    fitted = fit_table(store_rows(tmp_path, rows), precision=0.6, policy="cascade")
    assert fitted.certificate() is not None
    assert {one.constraint.kind for one in fitted.router.certificates} >= {"precision", "mean_cost"}


def test_originals_with_more_variants_count_no_more_than_others(tmp_path: Path) -> None:
    rows = [
        row | {"id": f"{i}-{n}", "group": f"g{i}", "environment": f"e{n}"}
        for i, row in enumerate(table_rows(300))
        for n in range(1 if i % 3 else 6)
    ]
    folder = store_rows(tmp_path, rows)
    outcomes = load_table_outcomes(folder, splits=("fit", "tune"))
    features = read_table_record(folder).features
    situation = search.search_table(outcomes, features, policy="cascade").situation
    for part in (situation.everything, situation.outcomes):
        assert len(part) == len(set(part.groups.tolist())) == len(set(outcomes.groups.tolist()))


def test_a_budget_of_cost_is_kept_on_inputs_that_nothing_was_chosen_on(folder: Path) -> None:
    fitted = fit_table(folder / "table-profile", mean_cost=0.6, policy="cascade")
    assert fitted.certificate() is not None
    evaluation = evaluate_router_of(fitted, folder)
    assert evaluation.ours.mean_ms < 0.6
    assert evaluation.ours.accuracy > max(row.accuracy for row in evaluation.singles if row.mean_ms < 0.6)


def evaluate_router_of(fitted: Any, folder: Path) -> Any:
    return evaluate_router(fitted, folder / "table-profile")


def test_graded_answers_are_certified_by_betting(tmp_path: Path) -> None:
    routed(tmp_path, table_rows(700, graded=True), max_drop=0.1, policy="cascade")
    fitted = load_router_fit(tmp_path / "router-fit")
    found = fitted.certificate()
    assert fitted.router.calibration.graded
    assert found is not None
    assert found.test == "betting"
    test = fitted.seen(load_table_outcomes(tmp_path / "table-profile", splits=("test",)))
    at = fitted.simulate(test)
    assert 0 < at.accuracy < 1
    assert at.accuracy > test.right[:, test.models.index(fitted.router.reference)].mean() - 0.1


def test_bets_on_a_false_claim_are_won_rarely() -> None:
    rng, won = np.random.default_rng(0), 0
    for _ in range(200):
        quality = rng.beta(2, 1, size=150)  # mean 2/3
        point = Simulated(0.0, np.zeros(150, np.intp), quality, np.ones(150))
        tests = certify.Tests([point], reference=quality * 0, top_ms=1.0)
        won += tests.rejects(0, RouteConstraint(kind="precision", level=2 / 3).plain, 0.05)
        assert tests.rejects(0, RouteConstraint(kind="precision", level=0.5).plain, 0.05)
    assert won <= 18  # 10 are expected at most; more than 18 in one of 100 studies


def test_a_cost_beyond_what_was_taken_for_possible_proves_nothing() -> None:
    costs = np.full(200, 0.1)
    asked = RouteConstraint(kind="mean_cost", level=0.5).plain
    right = np.ones(200, np.bool_)
    at = [Simulated(0.0, np.zeros(200, np.intp), right, costs)]
    assert certify.Tests(at, reference=right, top_ms=1.0).rejects(0, asked, 0.05)
    costs[7] = 1.5
    assert not certify.Tests(at, reference=right, top_ms=1.0).rejects(0, asked, 0.05)


def test_choices_do_not_depend_on_answers_that_are_held_back(folder: Path) -> None:
    profile = folder / "table-profile"
    record, outcomes = read_table_record(profile), load_table_outcomes(profile)
    held = outcomes.splits == "certify"
    garbled = replace(outcomes, quality=np.where(held[:, None], ~outcomes.quality, outcomes.quality))
    options = RouteOptions(precision=0.8, policy="cascade")
    one, other = (fit_table_outcomes(some, record, options) for some in (outcomes, garbled))
    assert one.router.policies == other.router.policies
    assert one.record.comparisons == other.record.comparisons


def test_scores_of_any_kind_serve_as_well(folder: Path, tmp_path: Path) -> None:
    rows = table_rows()
    for row in rows:
        row["small.score"] = 1e6 * row["small.score"] ** 3
    routed(tmp_path, rows, precision=0.8, policy="cascade")
    one, other = (load_router_fit(place / "router-fit") for place in (folder, tmp_path))
    costs = [fitted.certificate().mean_cost for fitted in (one, other)]  # type: ignore[union-attr]
    assert costs[1] == pytest.approx(costs[0], rel=0.15)


def test_what_cannot_be_decided_by_is_said(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if "score" not in k} for row in table_rows(200)]
    profile = store_rows(tmp_path, rows)
    with pytest.raises(DataError, match="scores or logits"):
        fit_table(profile, precision=0.8, policy="cascade")
    with pytest.raises(PrecisionError, match="Give only one"):
        fit_table(profile, precision=0.8, mean_cost=1.0)
    with pytest.raises(DataError, match="huge"):
        fit_table(profile, precision=0.8, models=("huge",))
    with pytest.raises(DataError, match=r"at least 8 inputs.*Give more rows"):
        fit_table(store_rows(tmp_path / "few", table_rows(7)), precision=0.8)
    rows = [row | {"feature.log-odds of small": 1} for row in table_rows(60)]
    with pytest.raises(DataError, match=r"names than 'log-odds of small'.*--ignore"):
        fit_table(store_rows(tmp_path / "clash", rows), precision=0.8)


def test_a_certified_router_is_not_replaced_by_one_that_is_not(folder: Path, tmp_path: Path) -> None:
    fitted = load_router_fit(folder / "router-fit")
    save_router_fit(fitted, tmp_path)
    record = replace(fitted, record=_uncertified(fitted.record))
    with pytest.raises(PrecisionError, match="--replace"):
        save_router_fit(record, tmp_path)
    save_router_fit(record, tmp_path, replace=True)
    assert load_router_fit(tmp_path).certificate() is None


def _uncertified(record: Any) -> Any:
    import msgspec

    bare = msgspec.structs.replace(record.router, certificates=())
    return msgspec.structs.replace(record, router=bare)


def test_a_router_is_judged_on_its_own_table_only(folder: Path, tmp_path: Path) -> None:
    other = store_rows(tmp_path, table_rows(seed=1))
    with pytest.raises(StaleError, match="other outcomes"):
        evaluate_router(load_router_fit(folder / "router-fit"), other)


def test_the_stored_router_is_what_a_fit_gives_today(folder: Path) -> None:
    stored, fresh = (
        json.loads((place / "router.json").read_text()) for place in (STORED_ROUTER, folder / "my-router")
    )
    assert stored.keys() == fresh.keys()
    assert [p["kind"] for p in stored["policies"]] == [p["kind"] for p in fresh["policies"]]


@contextmanager
def real(path: Path, name: str, target: Path, **options: Any) -> Iterator[Path]:
    store_table(check_table(read_table(path / name, **options)), target)
    yield target


def test_three_nets_are_certified_at_less_work_than_the_best_alone(real_data: Path, tmp_path: Path) -> None:
    costs = real_data / "three-nets.costs.json"
    with real(real_data, "three-nets.parquet", tmp_path / "p", costs=costs) as profile:
        fitted = fit_table(profile, max_drop=0.01, policy="cascade")
        assert fitted.certificate() is not None
        found = evaluate_router(fitted, profile)
        assert found.reference.mean_ms > 1.5 * found.ours.mean_ms
        assert found.ours.accuracy > found.reference.accuracy - 0.01
