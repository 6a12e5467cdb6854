"""Claims about fitting: what is asked for is what is chosen, and what cannot be is refused with a reason."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from selector.policies.constraint import Constraint
from tests.support.small_models import add_colours, build_onnx
from tests.support.world import (
    COLOUR_SPLITS,
    World,
    colour_images,
    fit_colours,
    fit_in_memory,
    latency_table,
    steady,
)
from training.fitting.fit import fit, fit_inputs_sha256
from training.outcomes.folds import Folds, grouped_folds
from training.outcomes.outcomes import load_outcomes
from training.outcomes.profile import profile
from zoo import Zoo
from zoo.errors import DataError, LatencyError, ModelNotFoundError, PrecisionError, StaleError


def test_auto_takes_what_serves_the_constraint_best_and_says_why(world: World) -> None:
    fitted = fit_colours(world.profile, world.zoo, world.table, precision=0.9)
    rows = fitted.record.comparisons
    assert {row.kind for row in rows} == {"input", "cascade", "probe"}
    assert [row.models for row in rows if row.chosen] == [fitted.policy.models]
    reaching = [row for row in rows if row.reaches]
    assert next(row for row in rows if row.chosen).mean_ms < 1.05 * min(row.mean_ms for row in reaching)
    models = [set(policy.models) for policy in fitted.policies]
    for i, some in enumerate(models):
        assert not any(better <= some for better in models[:i])
    assert all({name} in models for name in world.zoo.names if {name} != models[0])


@pytest.mark.parametrize(
    "asked",
    [{"max_drop": 0.03}, {"mean_ms": 0.25}, {"p95_ms": 0.5}, {"precision": 0.93}],
    ids=lambda asked: next(iter(asked)),
)
def test_each_kind_of_constraint_can_be_asked_for(world: World, asked: Any) -> None:
    fitted = fit_colours(world.profile, world.zoo, world.table, **asked)
    ((kind, level),) = asked.items()
    assert fitted.record.bundle.default == Constraint(kind=kind, level=level)
    certificate = fitted.certificate()
    assert certificate is not None
    test = world.outcomes.split("test")
    found = fitted.policy.simulate(test, certificate.threshold)
    accuracy = test.accuracy()
    if kind == "mean_ms":  # more accurate than any single model that is as fast
        assert found.mean_ms < 0.25 * 1.1
        assert found.accuracy > accuracy["tiny"] + 0.05
    elif kind == "p95_ms":
        assert np.quantile(found.cost_ms, 0.95) <= 0.5
        assert found.accuracy > accuracy["tiny"] + 0.05
    else:
        goal = level if kind == "precision" else accuracy["full"] - level
        assert found.accuracy > goal - 0.04
        assert found.mean_ms < 0.5


def test_a_larger_budget_of_time_never_gives_worse_answers(world: World) -> None:
    held = world.outcomes.split("certify")
    for fitted in world.fits.values():
        found = [
            fitted.certificate(Constraint(kind="mean_ms", level=level))
            for level in fitted.certified_levels("mean_ms")
        ]
        times = [fitted.policy.simulate(held, c.threshold).mean_ms for c in found if c is not None]
        assert times == sorted(times)


def test_top_k_counts_the_label_among_the_most_probable_classes(world: World) -> None:
    outcomes = world.outcomes.judged(top_k=2)
    ranked = np.argsort(-outcomes.logits, axis=2)[:, :, :2]
    expected = (ranked == outcomes.labels[:, None, None]).any(axis=2)
    np.testing.assert_array_equal(outcomes.right, expected)
    fitted = fit_colours(world.profile, world.zoo, world.table, precision=0.9, top_k=2)
    assert fitted.record.bundle.calibration.top_k == 2
    certificate = fitted.certificate()
    assert certificate is not None
    once = world.fits["cascade"].certificate()
    assert once is not None
    assert certificate.mean_ms < once.mean_ms
    held = outcomes.split("certify")
    assert fitted.policy.simulate(held, certificate.threshold).accuracy == certificate.accuracy
    for k in (0, 3):
        with pytest.raises(DataError, match=f"expected top-k with k from 1 to 2, got {k} with 3 classes"):
            fit_colours(world.profile, world.zoo, world.table, top_k=k)


def test_without_labels_right_is_what_the_dearest_model_says(world: World) -> None:
    asked: dict[str, Any] = {"precision": 0.9, "agree_with_reference": True}
    fitted = fit_in_memory(world.outcomes, world.zoo, world.table, **asked)
    assert fitted.record.bundle.calibration.agree_with == fitted.record.bundle.reference == "full"
    certificate = fitted.certificate()
    assert certificate is not None
    held = world.outcomes.split("certify")
    agreed = held.judged(agree_with="full")
    assert agreed.right[:, agreed.models.index("full")].all()
    np.testing.assert_array_equal(agreed.right[:, 0], held.predicted[:, 0] == held.predicted[:, 2])
    assert fitted.policy.simulate(agreed, certificate.threshold).accuracy == certificate.accuracy
    turned = replace(world.outcomes, labels=(world.outcomes.labels + 1) % 3).judged(agree_with="full")
    np.testing.assert_array_equal(turned.split("certify").right, agreed.right)
    with pytest.raises(DataError, match=r"expected a model among tiny, small, full, got 'huge'"):
        world.outcomes.judged(agree_with="huge")


def test_without_labels_no_label_matters(world: World) -> None:
    asked: dict[str, Any] = {"precision": 0.9, "agree_with_reference": True, "policy": "cascade"}
    # on these labels the cheapest model is the most accurate one
    misled = replace(world.outcomes, labels=world.outcomes.predicted[:, 0].astype(np.int64))
    fits = [fit_in_memory(outcomes, world.zoo, world.table, **asked) for outcomes in (world.outcomes, misled)]
    assert fits[0].record == fits[1].record


def test_with_top_k_the_reference_is_chosen_by_top_k(world: World) -> None:
    outcomes = world.outcomes
    logits, rows = np.zeros_like(outcomes.logits), np.arange(len(outcomes))
    logits[rows, :, outcomes.labels] = 2.0
    logits[rows, 1, (outcomes.labels + 1) % 3] = 3.0  # small: the label is always second
    bad = rows % 5 == 0
    for j, which in ((0, rows % 2 == 0), (2, bad)):  # tiny, full: first, or last
        logits[which, j, (outcomes.labels[which] + 1) % 3] = 4.0
        logits[which, j, (outcomes.labels[which] + 2) % 3] = 3.0
    turned = replace(outcomes, logits=logits)
    found = [
        fit_in_memory(turned, world.zoo, world.table, max_drop=0.05, top_k=k, policy="cascade")
        for k in (1, 2)
    ]
    assert [fitted.record.bundle.by_accuracy[0] for fitted in found] == ["full", "small"]


def test_models_fit_into_the_bytes_that_are_allowed(world: World) -> None:
    sizes = {card.name: card.size_bytes for card in world.zoo.cards}
    for most in (sum(sizes.values()), sizes["tiny"] + sizes["small"], max(sizes.values()), sizes["tiny"]):
        fitted = fit_colours(
            world.profile, world.zoo, world.table, precision=0.9, policy="cascade", max_bytes=most
        )
        for policy in fitted.policies:
            assert sum(sizes[name] for name in policy.models) <= most
        assert all(row.size_bytes <= most for row in fitted.record.storage)
    with pytest.raises(
        DataError, match=rf"some model fits into, got 10 bytes; the smallest needs {min(sizes.values()):,}"
    ):
        fit_colours(world.profile, world.zoo, world.table, policy="cascade", max_bytes=10)


def test_every_further_byte_that_is_listed_buys_something(world: World) -> None:
    rows = fit_colours(world.profile, world.zoo, world.table, precision=0.93, policy="cascade").record.storage
    sizes = {card.name: card.size_bytes for card in world.zoo.cards}
    assert [row.size_bytes for row in rows] == sorted({row.size_bytes for row in rows})
    assert all(row.size_bytes == sum(sizes[name] for name in row.models) for row in rows)
    for low, high in itertools.pairwise(rows):
        assert (high.reaches, high.accuracy) > (low.reaches, low.accuracy) or high.mean_ms < low.mean_ms


def test_originals_are_kept_together_in_folds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shared: dict[str, list[set[str]]] = {}

    def split(place: str, groups: NDArray[np.str_], *count: int) -> Folds:
        made = grouped_folds(groups, *count)
        shared.setdefault(place, []).extend(set(groups[one]) & set(groups[other]) for one, other in made)
        return made

    users = ("search.search", "search.tuning", "search.input_fit")
    for place in users:
        monkeypatch.setattr(f"training.{place}.grouped_folds", partial(split, place))
    fit_colours(world.profile, world.zoo, world.table, precision=0.9)
    assert {*users[:2]} <= set(shared)
    assert not any(itertools.chain(*shared.values()))


def test_of_very_many_samples_some_are_fitted_to_and_all_of_the_others_certify(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.search.plans.FIT_ROWS", 90)
    monkeypatch.setattr("training.search.plans.SEARCH_ROWS", 80)
    fitted = fit_colours(world.profile, world.zoo, world.table, precision=0.8)
    held = load_outcomes(world.profile, zoo=world.zoo, splits=("certify",))
    certificates = fitted.record.bundle.certificates
    assert {item.samples for item in certificates if item.environment is None} == {len(held)}
    assert len(load_outcomes(world.profile, zoo=world.zoo, splits=("fit", "tune"))) > 90


@pytest.mark.parametrize("precision", [0.0, 1.0, 1.2, float("nan"), "high"])
def test_refuses_a_precision_that_is_none(world: World, precision: Any) -> None:
    with pytest.raises(PrecisionError, match="strictly between 0 and 1"):
        fit(world.profile, world.zoo, world.table, precision=precision)


def test_refuses_more_than_one_constraint(world: World) -> None:
    with pytest.raises(
        PrecisionError, match=r"expected one constraint, got precision and mean_ms\. Give only"
    ):
        fit(world.profile, world.zoo, world.table, precision=0.9, mean_ms=3.0)


@pytest.mark.parametrize("delta", [0.0, 1.0, float("nan")])
def test_refuses_a_delta_that_is_none(world: World, delta: float) -> None:
    with pytest.raises(PrecisionError, match="expected delta strictly between 0 and 1"):
        fit(world.profile, world.zoo, world.table, delta=delta)


def test_refuses_times_or_profiles_of_other_models(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.zoo.folder, tmp_path / "zoo")
    zoo = Zoo.open(tmp_path / "zoo")
    add_colours(zoo, "tiny", build_onnx(noise=0.4, seed=8))
    with pytest.raises(StaleError, match="models changed: tiny"):
        fit(world.profile, zoo, world.table)
    profile(zoo, world.data, tmp_path / "p", splits=COLOUR_SPLITS, progress=False)
    with pytest.raises(LatencyError, match="model 'tiny' has changed since the latency table"):
        fit(tmp_path / "p", zoo, world.table)
    missing = msgspec.structs.replace(
        world.table, models={name: row for name, row in world.table.models.items() if name != "full"}
    )
    with pytest.raises(LatencyError, match="model 'full' is not in the latency table of device 'bench-top'"):
        fit(world.profile, world.zoo, missing)
    with pytest.raises(ModelNotFoundError):
        world.zoo.only(["huge"])


@pytest.mark.parametrize("what", ["input-features", "small"])
def test_numbers_that_are_not_finite_are_refused(world: World, tmp_path: Path, what: str) -> None:
    shutil.copytree(world.profile, tmp_path / "p")
    path = next((tmp_path / "p").glob(f"outputs/{what}-*/part-00000.parquet"))
    table = pq.read_table(path)
    width = table["values"].type.list_size
    values = np.array(table["values"].combine_chunks().flatten())
    values[::width] = np.nan
    column = pa.FixedSizeListArray.from_arrays(pa.array(values), width)
    pq.write_table(pa.table({"id": table["id"], "values": column}), path)
    with pytest.raises(DataError, match=r"part-00000\.parquet: expected finite numbers, got NaN or infinity"):
        fit(tmp_path / "p", world.zoo, world.table)


def test_the_digest_of_the_inputs_changes_with_each_of_them(world: World) -> None:
    def digest(table: Any = world.table, zoo: Zoo = world.zoo, **options: Any) -> str:
        return fit_inputs_sha256(world.profile, zoo, table, **options)

    digests = [
        digest(),
        digest(precision=0.9),
        digest(delta=0.1),
        digest(seed=1),
        digest(policy="input"),
        digest(zoo=world.zoo.only(["tiny", "full"])),
        digest(latency_table(world.zoo, {"tiny": 0.2, "small": 0.3, "full": 1.0})),
        digest(max_drop=0.02),
        digest(mean_ms=0.02),
        digest(p95_ms=0.02),
        digest(max_bytes=10**6),
        digest(top_k=2),
        digest(agree_with_reference=True),
        digest(environment="dark"),
    ]
    assert len(set(digests)) == len(digests)
    assert digest() == digests[0]
    with steady():
        assert world.fits["input"].record.inputs_sha256 == digest(precision=0.9, policy="input")


def test_one_environment_is_fitted_and_certified_alone(world: World) -> None:
    fitted = fit_colours(world.profile, world.zoo, world.table, precision=0.8, environment="dark")
    bundle = fitted.record.bundle
    dark = world.outcomes.environment("dark")
    assert bundle.calibration.environment == "dark"
    assert bundle.calibration.certify == len(dark.split("certify"))
    assert {certificate.environment for certificate in bundle.certificates} <= {None}
    assert {certificate.samples for certificate in bundle.certificates} <= {bundle.calibration.certify}


def test_an_unknown_environment_lists_those_there_are(world: World) -> None:
    with pytest.raises(DataError, match=r"got 'fog'\. It has: clear, dark, noise"):
        fit_colours(world.profile, world.zoo, world.table, environment="fog")


def test_few_images_are_enough_to_fit_or_get_an_error_of_ours(world: World, tmp_path: Path) -> None:
    for count in (30, 20):
        data = colour_images(count)
        profile(world.zoo, data, tmp_path / str(count), splits=COLOUR_SPLITS, progress=False)
        for policy in ("auto", "input", "cascade", "probe"):
            fitted = fit_colours(tmp_path / str(count), world.zoo, world.table, precision=0.95, policy=policy)
            assert fitted.certificate() is None
            assert fitted.record.bundle.reference in ("small", "full")


def test_a_model_twice_and_a_model_that_is_never_right(tmp_path: Path) -> None:
    zoo = Zoo.create(tmp_path / "zoo")
    add_colours(zoo, "good", build_onnx())
    add_colours(zoo, "twin", build_onnx(work=1))
    add_colours(zoo, "bad", build_onnx(channels=(1, 2, 0)))
    data = colour_images(200)
    profile(zoo, data, tmp_path / "p", splits=COLOUR_SPLITS, progress=False)
    table = latency_table(zoo, {"good": 0.2, "twin": 0.5, "bad": 0.1})
    for policy in ("auto", "input", "cascade", "probe"):
        fitted = fit_colours(tmp_path / "p", zoo, table, precision=0.85, policy=policy)
        assert fitted.policy.models == ("good",)
        assert fitted.record.bundle.by_accuracy == ("good", "twin", "bad")
        test = load_outcomes(tmp_path / "p", zoo=zoo, splits=("test",))
        certificate = fitted.certificate()
        assert certificate is not None
        assert fitted.policy.simulate(test, certificate.threshold).accuracy > 0.85
