"""Claims about held-out samples: nothing is chosen on what judges it, and certificates say what they show."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selector.policies.constraint import Constraint
from tests.support.colours import KINDS, Kind
from tests.support.world import World, fit_in_memory, steady
from training.fitting.fit import fit
from training.fitting.fitted import Fitted, save_fit
from training.outcomes.outcomes import load_outcomes


def corrupt(folder: Path, *splits: str) -> None:
    """Exchange all outputs, features and pixels of the named splits for noise, and the labels of these."""
    samples = pq.read_table(folder / "samples.parquet").to_pydict()
    chosen = np.isin(samples["split"], splits)
    rng = np.random.default_rng(0)
    for path in folder.glob("outputs/*/part-*.parquet"):
        table = pq.read_table(path)
        if pa.types.is_fixed_size_binary(table["values"].type):
            width = table["values"].type.byte_width
            table = table.set_column(1, "values", pa.FixedSizeListArray.from_arrays(
                pa.array(np.frombuffer(b"".join(table["values"].to_pylist()), np.uint8)), width
            ))  # fmt: skip
        width = table["values"].type.list_size
        values = np.array(table["values"].combine_chunks().flatten()).reshape(-1, width)
        first = int(path.stem.split("-")[1]) * 1024
        rows = chosen[first : first + len(values)]
        noise = rng.integers(0, 200, values.shape) - 100 * (values.dtype != np.uint8)
        values = np.where(rows[:, None], noise, values).astype(values.dtype)
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), width)
        pq.write_table(pa.table({"id": table["id"], "values": column}), path)
    turned = {"red": "green", "green": "blue", "blue": "red"}
    samples["label"] = [
        turned[label] if bad else label for label, bad in zip(samples["label"], chosen, strict=True)
    ]
    pq.write_table(pa.table(samples), folder / "samples.parquet")


def files(fitted: Fitted, folder: Path) -> dict[str, bytes]:
    """All that a fit writes."""
    save_fit(fitted, folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def decided(fitted: Fitted) -> dict[str, Any]:
    """All that a fit decided except certificates."""
    record = msgspec.structs.replace(
        fitted.record, bundle=msgspec.structs.replace(fitted.record.bundle, certificates=())
    )
    return {"record": record, "graph": fitted.graph, "stages": fitted.stage_graphs()}


@pytest.mark.parametrize("kind", KINDS)
def test_fitting_never_reads_the_test_split(world: World, tmp_path: Path, kind: Kind) -> None:
    shutil.copytree(world.profile, tmp_path / "p")
    corrupt(tmp_path / "p", "test")
    assert load_outcomes(tmp_path / "p", splits=("test",)).accuracy()["full"] < 0.6
    again = replace(world, folder=tmp_path, profile_name="p").fit(kind, precision=0.9)
    assert files(again, tmp_path / "a") == files(world.fits[kind], tmp_path / "b")


def test_not_even_rows_of_the_test_split_that_are_no_numbers_matter(world: World, tmp_path: Path) -> None:
    held = world.outcomes.splits == "test"
    logits, features = world.outcomes.logits.copy(), world.outcomes.features.copy()
    logits[held], features[held] = np.nan, np.inf
    broken = replace(world.outcomes, logits=logits, features=features)
    fits = [
        fit_in_memory(outcomes, world.zoo, world.table, precision=0.9)
        for outcomes in (world.outcomes, broken, load_outcomes(world.profile, zoo=world.zoo))
    ]
    first, *others = (files(item, tmp_path / str(i)) for i, item in enumerate(fits))
    assert others == [first, first]


def test_a_scout_is_trained_without_the_test_split(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.features.scout_network.MAX_EPOCHS", 2)
    shutil.copytree(world.profile, tmp_path / "p")
    corrupt(tmp_path / "p", "test")
    with steady(lambda one: one.kind == "input", scout=True):
        found = [
            fit(folder, world.zoo, world.table, precision=0.9, policy="input")
            for folder in (world.profile, tmp_path / "p")
        ]
    assert any(item.name.startswith("scout_") for item in found[0].record.features)
    assert files(found[0], tmp_path / "a") == files(found[1], tmp_path / "b")


@pytest.mark.parametrize("kind", KINDS)
def test_the_certify_split_decides_the_certificates_and_nothing_else(
    world: World, tmp_path: Path, kind: Kind
) -> None:
    shutil.copytree(world.profile, tmp_path / "p")
    corrupt(tmp_path / "p", "certify")
    after = replace(world, folder=tmp_path, profile_name="p").fit(kind, precision=0.9)
    kinds = {certificate.constraint.kind for certificate in after.record.bundle.certificates}
    assert "precision" not in kinds
    assert world.fits[kind].certificate() is not None
    assert decided(after) == decided(world.fits[kind])


def meets(constraint: Constraint, simulated: Any, reference: Any) -> bool:
    """Whether samples meet a constraint on the face of it."""
    if constraint.kind == "precision":
        return bool(simulated.accuracy > constraint.level)
    if constraint.kind == "max_drop":
        return bool(simulated.accuracy >= reference.mean() - constraint.level)
    if constraint.kind == "mean_ms":
        return bool(simulated.mean_ms <= constraint.level * (1 + 1e-9))
    return bool((simulated.cost_ms <= constraint.level * (1 + 1e-9)).mean() > 0.95)


@pytest.mark.parametrize("kind", KINDS)
def test_certificates_say_what_the_certify_samples_show(world: World, kind: Kind) -> None:
    fitted = world.fits[kind]
    held = world.outcomes.split("certify")
    for certificate in fitted.record.bundle.certificates:
        place = certificate.environment
        samples = held if place is None else held.rows(held.environments == place)
        simulated = fitted.policies[certificate.policy].simulate(samples, certificate.threshold)
        assert certificate.samples == len(samples)
        assert certificate.accuracy == simulated.accuracy
        assert certificate.mean_ms == pytest.approx(simulated.mean_ms)
        assert meets(certificate.constraint, simulated, samples.right[:, samples.models.index("full")])
        assert certificate.p_value <= 0.05
        assert certificate.confidence == 0.95
    assert {c.constraint.kind for c in fitted.record.bundle.certificates} >= {
        "precision",
        "mean_ms",
        "p95_ms",
    }


def test_certified_levels_hold_on_the_test_split(world: World) -> None:
    test = world.outcomes.split("test")
    full = test.right[:, test.models.index("full")].mean()
    for fitted in world.fits.values():
        for kind in ("precision", "max_drop", "mean_ms", "p95_ms"):
            for level in fitted.certified_levels(kind)[::4]:
                certificate = fitted.certificate(Constraint(kind=kind, level=level))
                assert certificate is not None
                found = fitted.policy.simulate(test, certificate.threshold)
                noise = 3 * np.sqrt(0.15 / len(test))
                if kind == "precision":
                    assert found.accuracy > level - noise
                elif kind == "max_drop":
                    assert found.accuracy > full - level - noise
                elif kind == "mean_ms":
                    assert found.mean_ms < level + 3 * found.cost_ms.std() / np.sqrt(len(test)) + 1e-9
                else:
                    assert (found.cost_ms <= level + 1e-9).mean() > 0.95 - noise


def test_certificates_of_environments_are_proven_on_their_samples_alone(world: World) -> None:
    held = world.outcomes.split("certify")
    for fitted in world.fits.values():
        for place in ("clear", "dark", "noise"):
            found = [c for c in fitted.record.bundle.certificates if c.environment == place]
            assert found
            assert {c.samples for c in found} == {int((held.environments == place).sum())}
            assert {c.constraint.kind for c in found} <= {"precision", "max_drop"}
            assert fitted.certificate(found[0].constraint, policy=found[0].policy, environment=place)
