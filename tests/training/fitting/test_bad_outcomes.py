"""Claims about unwelcome outcomes: a fit copes with them, or says what is wrong and what to do."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from selector import Selector
from selector.policies.constraint import Constraint
from tests.support.world import World, fit_in_memory, latency_table
from training.evaluation.evaluate import evaluate
from training.fitting.export import export_bundle
from training.fitting.fitted import Fitted
from training.fitting.options import PolicyKind
from training.outcomes.outcomes import Outcomes
from zoo.errors import DataError, LatencyError

POLICIES: tuple[PolicyKind, ...] = ("auto", "input", "cascade", "probe")
every_policy = pytest.mark.parametrize("policy", POLICIES)


def logits_for(labels: NDArray[np.int64], sureness: float = 9.0) -> NDArray[np.float32]:
    """Logits ``[n, 3]`` of a model that answers `labels`."""
    return (sureness * np.eye(3)[labels]).astype(np.float32)


def with_logits(outcomes: Outcomes, name: str, logits: NDArray[np.float32]) -> Outcomes:
    changed = outcomes.logits.copy()
    changed[:, outcomes.models.index(name)] = logits
    return replace(outcomes, logits=changed)


def accuracy_on_test(fitted: Fitted, outcomes: Outcomes, asked: Constraint | None = None) -> float:
    certificate = fitted.certificate(asked)
    assert certificate is not None
    return fitted.policy.simulate(outcomes.split("test"), certificate.threshold).accuracy


@every_policy
def test_one_model_is_enough(world: World, policy: PolicyKind) -> None:
    alone = world.zoo.only(["small"])
    outcomes = world.outcomes.with_models(["small"])
    fitted = fit_in_memory(outcomes, alone, latency_table(alone), precision=0.85, policy=policy)
    assert fitted.policy.models == ("small",)
    assert len(fitted.policies) == 1
    certificate = fitted.certificate()
    assert certificate is not None
    assert certificate.mean_ms == pytest.approx(0.3, abs=0.02)


@every_policy
def test_a_model_that_is_always_right(world: World, policy: PolicyKind) -> None:
    for name in ("tiny", "full"):
        outcomes = with_logits(world.outcomes, name, logits_for(world.outcomes.labels))
        fitted = fit_in_memory(outcomes, world.zoo, world.table, precision=0.94, policy=policy)
        assert fitted.record.bundle.reference == name
        assert name in fitted.policy.models
        assert accuracy_on_test(fitted, outcomes) > 0.9


@every_policy
def test_a_model_that_is_always_wrong(world: World, policy: PolicyKind) -> None:
    wrong = logits_for((world.outcomes.labels + 1) % 3)
    outcomes = with_logits(world.outcomes, "tiny", wrong)
    fitted = fit_in_memory(outcomes, world.zoo, world.table, precision=0.88, policy=policy)
    assert fitted.record.bundle.by_accuracy[-1] == "tiny"
    if policy != "probe":  # what a probe always gets wrong in the same way tells others what is right
        assert "tiny" not in fitted.policy.models
    assert accuracy_on_test(fitted, outcomes) > 0.87


@every_policy
@pytest.mark.parametrize("right", [True, False])
def test_all_models_always_right_or_always_wrong(world: World, policy: PolicyKind, right: bool) -> None:
    answers = logits_for((world.outcomes.labels + (not right)) % 3)
    outcomes = replace(world.outcomes, logits=np.stack([answers] * 3, axis=1))
    fitted = fit_in_memory(outcomes, world.zoo, world.table, precision=0.95, policy=policy)
    assert fitted.policy.models == ("tiny",)
    assert (fitted.certificate() is not None) == right


@every_policy
def test_models_that_answer_alike_are_used_once(world: World, policy: PolicyKind) -> None:
    same = world.outcomes.logits[:, [1]].repeat(3, axis=1)
    outcomes = replace(world.outcomes, logits=same)
    fitted = fit_in_memory(outcomes, world.zoo, world.table, precision=0.88, policy=policy)
    assert fitted.policy.models == ("tiny",)
    assert accuracy_on_test(fitted, outcomes) == outcomes.split("test").accuracy()["tiny"]


@pytest.mark.parametrize("policy", ["input", "probe"])
def test_features_that_never_vary_are_harmless(world: World, policy: PolicyKind) -> None:
    flat = np.full_like(world.outcomes.features, 0.5)
    outcomes = replace(world.outcomes, features=flat)
    fitted = fit_in_memory(outcomes, world.zoo, world.table, precision=0.88, policy=policy)
    assert accuracy_on_test(fitted, outcomes) > 0.87
    kept = [item for item in fitted.record.features if item.kept]
    assert [item.reason for item in kept] == ["no feature varies; kept as a placeholder"]


@pytest.mark.parametrize("split", ["fit", "tune", "certify"])
@pytest.mark.parametrize("what", ["features", "logits"])
def test_numbers_that_are_none_are_refused_wherever_they_are_used(
    world: World, split: str, what: str
) -> None:
    values = getattr(world.outcomes, what).copy()
    values[np.flatnonzero(world.outcomes.splits == split)[0]] = np.nan
    with pytest.raises(DataError, match=f"expected finite {what}, got NaN or infinity"):
        fit_in_memory(replace(world.outcomes, **{what: values}), world.zoo, world.table)


@pytest.mark.parametrize("time", [float("nan"), float("inf"), 0.0, -1.0])
def test_times_that_are_none_are_refused(world: World, time: float) -> None:
    row = world.table.models["small"]
    bad = msgspec.structs.replace(row, latency=msgspec.structs.replace(row.latency, mean_ms=time))
    table = msgspec.structs.replace(world.table, models=world.table.models | {"small": bad})
    with pytest.raises(LatencyError, match=r"expected a positive finite time of model 'small' on device"):
        fit_in_memory(world.outcomes, world.zoo, table)


def test_times_of_other_models_ask_for_bench_or_another_table(world: World) -> None:
    table = latency_table(world.zoo.only(["tiny", "small"]))
    message = r"'full' is not in the latency table of device 'bench-top', which holds: tiny, small\. Measure"
    with pytest.raises(LatencyError, match=f"{message} again with 'zooselect bench', or .* --latency"):
        fit_in_memory(world.outcomes, world.zoo, table)


def few(outcomes: Outcomes, **counts: int) -> Outcomes:
    rows = [np.flatnonzero(outcomes.splits == name)[:count] for name, count in counts.items()]
    return outcomes.rows(np.sort(np.concatenate(rows)))


@every_policy
def test_twenty_samples_certify_nothing_much_and_say_so(world: World, policy: PolicyKind) -> None:
    outcomes = few(world.outcomes, fit=10, tune=2, certify=4, test=4)
    if policy != "cascade":  # features are chosen with eight originals or more
        assert len(set(outcomes.split("fit", "tune").groups.tolist())) < 8
        with pytest.raises(DataError, match=r"expected at least 8 originals to fit on, got 5\. Give more"):
            fit_in_memory(outcomes, world.zoo, world.table, policy=policy)
        groups = np.array([f"{i}" for i in range(len(outcomes))])
        outcomes = replace(outcomes, groups=groups)
    fitted = fit_in_memory(outcomes, world.zoo, world.table, policy=policy)
    assert fitted.certificate() is None
    assert all(
        c.constraint.level <= 0.5 for c in fitted.record.bundle.certificates if not c.constraint.on_time
    )


@pytest.mark.parametrize("missing", ["fit", "tune", "certify"])
def test_a_split_without_samples_is_named(world: World, missing: str) -> None:
    outcomes = world.outcomes.rows(world.outcomes.splits != missing)
    with pytest.raises(DataError, match=f"expected samples in split {missing}, got none"):
        fit_in_memory(outcomes, world.zoo, world.table)


@every_policy
@pytest.mark.parametrize("split", ["fit", "tune", "certify"])
def test_a_class_may_be_missing_from_a_split(world: World, policy: PolicyKind, split: str) -> None:
    gone = (world.outcomes.splits == split) & (world.outcomes.labels == 1)
    outcomes = world.outcomes.rows(~gone)
    fitted = fit_in_memory(outcomes, world.zoo, world.table, precision=0.85, policy=policy)
    assert accuracy_on_test(fitted, outcomes, Constraint(kind="precision", level=0.6)) > 0.6


@pytest.mark.parametrize("split", ["fit", "tune", "certify", "test"])
def test_an_environment_may_be_missing_from_a_split(world: World, split: str) -> None:
    gone = (world.outcomes.splits == split) & (world.outcomes.environments == "noise")
    outcomes = world.outcomes.rows(~gone)
    fitted = fit_in_memory(outcomes, world.zoo, world.table, precision=0.85, policy="cascade")
    named = {c.environment for c in fitted.record.bundle.certificates}
    assert named == {None, "clear", "dark"} | (set() if split == "certify" else {"noise"})
    assert fitted.certificate() is not None


def test_one_environment_alone_needs_no_certificates_of_its_own(world: World) -> None:
    outcomes = world.outcomes.rows(world.outcomes.environments == "clear")
    fitted = fit_in_memory(outcomes, world.zoo, world.table, precision=0.85, policy="cascade")
    assert {c.environment for c in fitted.record.bundle.certificates} == {None}


def test_nothing_certified_is_answered_by_the_reference_model(world: World) -> None:
    outcomes = with_logits(world.outcomes, "full", world.outcomes.logits[:, 0])
    rng = np.random.default_rng(0)
    noise = rng.normal(size=outcomes.logits.shape).astype(np.float32)
    fitted = fit_in_memory(replace(outcomes, logits=noise), world.zoo, world.table, precision=0.9)
    assert fitted.certificate() is None
    assert fitted.certified_levels("precision") == []
    export_bundle(fitted, world.zoo, world.folder / "uncertified")
    selector = Selector.load(world.folder / "uncertified")
    found = selector.predict(world.data.image(0))
    assert (found.certified, found.path) == (False, (selector.reference,))
    assert evaluate(fitted, world.profile).ours is not None


def test_a_constraint_that_nothing_meets_is_fitted_as_well_as_possible(world: World) -> None:
    for asked in ({"precision": 0.9999}, {"max_drop": -0.3}, {"mean_ms": 1e-6}, {"p95_ms": 1e-6}):
        fitted = fit_in_memory(world.outcomes, world.zoo, world.table, **asked)  # type: ignore[arg-type]
        assert fitted.certificate() is None
        assert not any(row.reaches for row in fitted.record.comparisons)
        if "mean_ms" in asked or "p95_ms" in asked:
            assert fitted.policy.models == ("tiny",)
        else:
            assert "full" in fitted.policy.models
