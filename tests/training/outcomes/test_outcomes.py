"""Claims about outcomes: right means right, subsets stay consistent, the test split has to be asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.support.world import World
from training.outcomes.outcomes import ALL_SPLITS, load_outcomes
from zoo.errors import DataError


def test_the_test_split_is_read_only_when_it_is_named(world: World) -> None:
    assert set(load_outcomes(world.profile).splits) == {"fit", "tune", "certify"}
    assert set(load_outcomes(world.profile, splits=("test",)).splits) == {"test"}


def test_rows_and_models_can_be_narrowed(world: World) -> None:
    whole = load_outcomes(world.profile, splits=ALL_SPLITS)
    part = whole.rows(whole.environments == "dark").with_models(["full", "tiny"])
    assert set(part.environments) == {"dark"}
    assert part.right.shape == (len(part), 2)
    chosen = np.flatnonzero(whole.environments == "dark")
    np.testing.assert_array_equal(part.right[:, 1], whole.right[chosen, whole.models.index("tiny")])
    assert part.accuracy()["full"] == pytest.approx(part.right[:, 0].mean())
    assert len(whole.split("fit", "tune")) == len(whole.split("fit")) + len(whole.split("tune"))


def test_models_really_differ(world: World) -> None:
    accuracy = load_outcomes(world.profile, splits=ALL_SPLITS).accuracy()
    assert accuracy["tiny"] + 0.05 < accuracy["small"] < accuracy["full"] - 0.02


def test_an_empty_split_says_to_profile_more(world: World) -> None:
    with pytest.raises(DataError, match=r"expected samples in split train, got none\. Profile more"):
        load_outcomes(world.profile, splits=("train",))
    with pytest.raises(DataError, match="expected samples in split certify or test, got none"):
        load_outcomes(world.profile, splits=("fit",)).split("certify", "test")


def test_a_subset_of_the_zoo_reads_only_its_models(world: World) -> None:
    outcomes = load_outcomes(world.profile, zoo=world.zoo.only(["full", "tiny"]))
    assert outcomes.models == ("full", "tiny")


def test_a_folder_without_profile_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"got no profile\.json there\. Make one, or finish one"):
        load_outcomes(tmp_path)


def test_damaged_samples_and_unknown_labels_are_found(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.profile, tmp_path / "p")
    record = json.loads((tmp_path / "p" / "profile.json").read_text())
    record["classes"] = ["red", "green", "violet"]
    (tmp_path / "p" / "profile.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"samples\.parquet: unknown label 'blue'\. Profile again"):
        load_outcomes(tmp_path / "p")
    (tmp_path / "p" / "samples.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"samples\.parquet: expected a Parquet file of a profile"):
        load_outcomes(tmp_path / "p")


def test_parts_of_other_samples_are_refused(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.profile, tmp_path / "p")
    part = next((tmp_path / "p").glob("outputs/full-*/part-00000.parquet"))
    pq.write_table(pq.read_table(part)[::-1], part)
    with pytest.raises(DataError, match=r"part-00000\.parquet: rows do not belong to samples\.parquet"):
        load_outcomes(tmp_path / "p")
