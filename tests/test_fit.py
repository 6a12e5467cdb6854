"""Claims about fitting: nothing is chosen on what judges it, and what is stored comes back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import COLOUR_SPLITS, Kind, World, add_colours, build_onnx, colour_images, latency_table
from sklearn.model_selection import GroupKFold

from training.fit import fit, fit_inputs_sha256
from training.fitted import FitRecord, Fitted, load_fit, save_fit
from training.outcomes import load_outcomes
from training.profile import profile
from zoo import Zoo
from zoo.errors import (
    CardError,
    DataError,
    DigestError,
    LatencyError,
    ModelNotFoundError,
    PrecisionError,
    StaleError,
)

KINDS: tuple[Kind, ...] = ("input", "cascade")


def corrupt(folder: Path, *splits: str) -> None:
    """Exchange all outputs and features of the named splits for noise."""
    samples = pq.read_table(folder / "samples.parquet").to_pydict()
    chosen = np.isin(samples["split"], splits)
    rng = np.random.default_rng(0)
    for path in folder.glob("outputs/*/part-*.parquet"):
        table = pq.read_table(path)
        width = table["values"].type.list_size
        values = np.array(table["values"].combine_chunks().flatten()).reshape(-1, width)
        first = int(path.stem.split("-")[1]) * 1024
        rows = chosen[first : first + len(values)]
        values = np.where(rows[:, None], rng.normal(0, 9, values.shape), values).astype(np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), width)
        pq.write_table(pa.table({"id": table["id"], "values": column}), path)


def decided(fitted: Fitted) -> dict[str, Any]:
    """All that a fit decided, without measured times."""
    record = fitted.record
    return {
        "policy": record.bundle.policy,
        "by_accuracy": record.bundle.by_accuracy,
        "graph": fitted.graph,
        "features": record.features,
        "estimators": record.estimators,
        "accuracies": [item.accuracy for item in record.comparisons],
        "certificates": record.bundle.certificates,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_fitting_never_reads_the_test_split(world: World, tmp_path: Path, kind: Kind) -> None:
    shutil.copytree(world.profile, tmp_path / "p")
    corrupt(tmp_path / "p", "test")
    assert load_outcomes(tmp_path / "p", splits=("test",)).accuracy()["full"] < 0.6
    again = fit(tmp_path / "p", world.zoo, world.table, precision=0.9, policy=kind)
    assert decided(again) == decided(world.fits[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_the_certify_split_decides_the_certificates_and_nothing_else(
    world: World, tmp_path: Path, kind: Kind
) -> None:
    shutil.copytree(world.profile, tmp_path / "p")
    corrupt(tmp_path / "p", "certify")
    before = decided(world.fits[kind])
    after = decided(fit(tmp_path / "p", world.zoo, world.table, precision=0.9, policy=kind))
    assert after.pop("certificates") == ()
    assert before.pop("certificates")
    assert after == before


@pytest.mark.parametrize("kind", KINDS)
def test_certificates_count_the_certify_samples_that_are_right(world: World, kind: Kind) -> None:
    fitted = world.fits[kind]
    held = load_outcomes(world.profile, splits=("certify",))
    for certificate in fitted.record.bundle.certificates:
        simulated = fitted.policy.simulate(held, certificate.threshold)
        assert (certificate.samples, certificate.right) == (len(held), int(simulated.right.sum()))
        assert certificate.right / certificate.samples > certificate.precision
        assert certificate.p_value <= 0.05
        assert certificate.confidence == 0.95
    assert fitted.highest_certified() == max(c.precision for c in fitted.record.bundle.certificates)


def test_certified_precisions_hold_on_the_test_split(world: World) -> None:
    test = load_outcomes(world.profile, splits=("test",))
    for fitted in world.fits.values():
        certificate = fitted.certificate(0.85)
        assert certificate is not None
        accuracy = fitted.policy.simulate(test, certificate.threshold).accuracy
        assert accuracy > certificate.precision - 3 * np.sqrt(0.85 * 0.15 / len(test))


def test_auto_takes_the_kind_that_cross_validation_finds_cheaper(world: World) -> None:
    fitted = fit(world.profile, world.zoo, world.table, precision=0.9)
    kinds = {item.kind: item for item in fitted.record.comparisons}
    assert set(kinds) == {"input", "cascade"}
    assert [item.kind for item in fitted.record.comparisons if item.chosen] == [fitted.policy.kind]
    if kinds["input"].reaches_target and kinds["cascade"].reaches_target:
        assert kinds[fitted.policy.kind].mean_ms == min(item.mean_ms for item in kinds.values())


def test_originals_are_kept_together_in_folds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real, shared = GroupKFold.split, []

    def split(self: GroupKFold, x: Any, y: Any = None, groups: Any = None) -> Any:
        for one, other in real(self, x, y, groups):
            shared.append(set(groups[one]) & set(groups[other]))
            yield one, other

    monkeypatch.setattr(GroupKFold, "split", split)
    fit(world.profile, world.zoo, world.table, precision=0.9, policy="cascade")
    assert shared
    assert not any(shared)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_fit_comes_back_and_decides_the_same(world: World, tmp_path: Path, kind: Kind) -> None:
    fitted = world.fits[kind]
    save_fit(fitted, tmp_path)
    again = load_fit(tmp_path)
    assert again.record == fitted.record
    test = load_outcomes(world.profile, splits=("test",))
    for threshold in (2.0, 0.9, 0.7, 0.0):
        one, other = (item.policy.simulate(test, threshold) for item in (fitted, again))
        np.testing.assert_array_equal(one.answered_by, other.answered_by)
        np.testing.assert_array_equal(one.cost_ms, other.cost_ms)


def test_storing_another_fit_leaves_no_old_graph(world: World, tmp_path: Path) -> None:
    save_fit(world.fits["input"], tmp_path)
    assert len(list(tmp_path.glob("*.onnx"))) == 2
    save_fit(world.fits["cascade"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["fit.json"]


def test_a_damaged_fit_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"got no fit\.json there\. Run 'zooselect fit'"):
        load_fit(tmp_path)
    save_fit(world.fits["input"], tmp_path)
    graph = next(tmp_path.glob("scores-*.onnx"))
    content = graph.read_bytes()
    graph.write_bytes(content[:-1])
    with pytest.raises(DigestError, match="truncated or replaced"):
        load_fit(tmp_path)
    graph.write_bytes(content)
    record = msgspec.structs.replace(world.fits["input"].record, scores=None)
    (tmp_path / "fit.json").write_bytes(msgspec.json.encode(record))
    with pytest.raises(DataError, match="an input policy needs its score graph"):
        load_fit(tmp_path)
    (tmp_path / "fit.json").write_text("{}")
    with pytest.raises(CardError, match="missing required field"):
        load_fit(tmp_path)


@pytest.mark.parametrize("precision", [0.0, 1.0, 1.2, float("nan"), "high"])
def test_refuses_a_precision_that_is_none(world: World, precision: Any) -> None:
    with pytest.raises(PrecisionError, match="strictly between 0 and 1"):
        fit(world.profile, world.zoo, world.table, precision=precision)
    with pytest.raises(PrecisionError, match="strictly between 0 and 1"):
        world.fits["input"].certificate(precision)


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


def test_features_that_are_not_finite_are_refused(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.profile, tmp_path / "p")
    path = next((tmp_path / "p").glob("outputs/input-features-*/part-00000.parquet"))
    table = pq.read_table(path)
    width = table["values"].type.list_size
    values = np.array(table["values"].combine_chunks().flatten())
    values[::width] = np.nan
    column = pa.FixedSizeListArray.from_arrays(pa.array(values), width)
    pq.write_table(pa.table({"id": table["id"], "values": column}), path)
    with pytest.raises(DataError, match="expected finite features, got NaN or infinity in 'luma_mean'"):
        fit(tmp_path / "p", world.zoo, world.table, policy="input")


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
    ]
    assert len(set(digests)) == len(digests)
    assert digest() == digests[0]
    assert world.fits["input"].record.inputs_sha256 == digest(precision=0.9, policy="input")


def test_few_images_are_enough_to_fit_or_get_an_error_of_ours(world: World, tmp_path: Path) -> None:
    for count in (30, 20):
        data = colour_images(count)
        profile(world.zoo, data, tmp_path / str(count), splits=COLOUR_SPLITS, progress=False)
        for kind in KINDS:
            fitted = fit(tmp_path / str(count), world.zoo, world.table, precision=0.9, policy=kind)
            assert fitted.certificate() is None
            assert fitted.record.bundle.reference in ("small", "full")


def test_a_model_twice_and_a_model_that_is_never_right(world: World, tmp_path: Path) -> None:
    zoo = Zoo.create(tmp_path / "zoo")
    add_colours(zoo, "good", build_onnx())
    add_colours(zoo, "twin", build_onnx(work=1))
    add_colours(zoo, "bad", build_onnx(channels=(1, 2, 0)))
    data = colour_images(200)
    profile(zoo, data, tmp_path / "p", splits=COLOUR_SPLITS, progress=False)
    table = latency_table(zoo, {"good": 0.2, "twin": 0.5, "bad": 0.1})
    for kind in KINDS:
        fitted = fit(tmp_path / "p", zoo, table, precision=0.85, policy=kind)
        assert fitted.certificate() is not None
        assert fitted.record.bundle.by_accuracy == ("good", "twin", "bad")
        test = load_outcomes(tmp_path / "p", zoo=zoo, splits=("test",))
        certificate = fitted.certificate()
        assert certificate is not None
        assert fitted.policy.simulate(test, certificate.threshold).accuracy > 0.85


def test_the_record_is_json_without_nan(world: World) -> None:
    for fitted in world.fits.values():
        content = msgspec.json.encode(fitted.record)
        assert b"NaN" not in content
        assert msgspec.json.decode(content, type=FitRecord) == fitted.record
