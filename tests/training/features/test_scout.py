"""Claims about the scout: it learns from pixels, repeatably, without the samples it is asked about."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.world import COLOUR_SPLITS, World
from training.features.features import EARLIER, NAMES, read_pixels
from training.features.image.scout import ImageScout
from training.features.image.scout_network import fit_scout
from training.features.input_features import InputFeatures
from training.outcomes.outcomes import ALL_SPLITS, has_pixels, load_outcomes, load_pixels, with_features
from training.outcomes.parts import FEATURES, PIXELS, read_profile_record, stored_features
from training.outcomes.profile import profile
from training.search.input_fit import out_of_fold
from zoo.errors import DataError

MODELS = ("small", "large")


def stripes(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Noisy pixels of upright or level stripes, and correctness of a model that only sees upright ones."""
    rng = np.random.default_rng(seed)
    upright = rng.random(count) < 0.5
    wave = np.where(np.arange(32) % 4 < 2, 60, -60)
    pattern = np.where(upright[:, None, None], wave[None, None, :], wave[None, :, None])
    pixels = (128 + pattern[..., None] + rng.normal(0, 20, (count, 32, 32, 3))).clip(0, 255).astype(np.uint8)
    return pixels, np.stack([upright, np.ones(count, bool)], 1)


def test_a_scout_learns_what_a_model_gets_wrong() -> None:
    scout = fit_scout(*stripes(400), MODELS)
    pixels, right = stripes(100, seed=1)
    odds = scout.log_odds(pixels)
    assert scout.names == ("scout_small", "scout_large")
    assert odds.shape == (100, 2)
    assert ((odds[:, 0] > 0) == right[:, 0]).mean() > 0.95
    assert odds[:, 1].min() > 2


def test_equal_data_and_seeds_give_equal_scouts() -> None:
    pixels, right = stripes(100)
    first, second, other = (fit_scout(pixels, right, MODELS, seed=seed).to_onnx() for seed in (0, 0, 1))
    assert first == second != other


def test_a_stored_scout_is_the_same_scout() -> None:
    pixels, right = stripes(60)
    scout = fit_scout(pixels, right, MODELS)
    again = ImageScout.from_onnx(scout.to_onnx())
    assert (again.models, again.grid) == (scout.models, scout.grid)
    np.testing.assert_array_equal(again.log_odds(pixels), scout.log_odds(pixels))
    for damaged in (b"", b"x" * 100, scout.to_onnx()[:300]):
        with pytest.raises(DataError, match="expected the ONNX graph of a scout"):
            ImageScout.from_onnx(damaged)


def test_out_of_fold_log_odds_do_not_know_the_sample() -> None:
    rng = np.random.default_rng(0)
    originals = rng.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    luck = rng.random(60) < 0.5  # nothing in the pixels tells it
    pixels, right = originals.repeat(3, 0), luck.repeat(3)[:, None]
    groups = np.array([f"g{i // 3}" for i in range(180)])
    odds, scout = out_of_fold(pixels, right, groups, ("m",))
    remembered = scout.log_odds(pixels)
    assert abs(np.corrcoef(odds[:, 0], right[:, 0])[0, 1]) < 0.35
    assert np.corrcoef(remembered[:, 0], right[:, 0])[0, 1] > 0.6


def test_rows_that_do_not_fit_together_are_refused() -> None:
    pixels, right = stripes(12)
    with pytest.raises(
        DataError, match=r"expected correctness \[12, 1\] of at least one image, got \[12, 2\]"
    ):
        fit_scout(pixels, right, ("m",))
    with pytest.raises(DataError, match="expected at least 3 originals"):
        out_of_fold(pixels, right, np.array(["a", "b"] * 6), MODELS)
    with pytest.raises(DataError, match=r"expected pixels uint8 .*, got float32"):
        fit_scout(pixels.astype(np.float32), right, MODELS)
    scout = fit_scout(pixels, right, MODELS)
    with pytest.raises(DataError, match=r"expected pixels uint8 \[n, 32, 32, 3\]"):
        scout.log_odds(pixels[:, :16, :16])
    with pytest.raises(DataError, match="expected a scout for a grid of 64 pixels, got one for 32"):
        InputFeatures(scout.names, grid=64, scout=scout)
    with pytest.raises(DataError, match="features of a scout need it"):
        InputFeatures(scout.names)


def test_a_profile_holds_the_pixels_that_features_read(world: World) -> None:
    assert has_pixels(world.profile)
    outcomes = load_outcomes(world.profile, splits=ALL_SPLITS)
    pixels = load_pixels(world.profile, splits=ALL_SPLITS)
    index = {name: i for i, name in enumerate(world.data.ids)}
    for row in range(0, len(outcomes), 53):
        image = world.data.image(index[outcomes.ids[row]])[np.newaxis]
        np.testing.assert_array_equal(pixels[row], read_pixels(image, 32)[0])
    assert len(load_pixels(world.profile)) == len(load_outcomes(world.profile))
    chosen = outcomes.ids[[5, 2, 9]]
    np.testing.assert_array_equal(load_pixels(world.profile, ids=chosen), pixels[[5, 2, 9]])
    with pytest.raises(DataError, match=r"expected samples of the profile .*, got 'nobody'"):
        load_pixels(world.profile, ids=["nobody"])


def test_a_profile_of_an_earlier_version_serves_and_is_completed(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.profile, tmp_path / "p")
    record = read_profile_record(tmp_path / "p")
    whole = load_outcomes(tmp_path / "p")
    as_version_1(tmp_path / "p")
    assert not has_pixels(tmp_path / "p")
    with pytest.raises(DataError, match=r"expected pixels in the profile .*, got none.*only what is missing"):
        load_pixels(tmp_path / "p")
    before = load_outcomes(tmp_path / "p")
    assert before.feature_names == EARLIER[1]
    np.testing.assert_array_equal(before.features, whole.features[:, : len(EARLIER[1])])
    untouched = {path: path.stat().st_mtime_ns for path in (tmp_path / "p/outputs").glob("full-*/*")}
    profile(world.zoo, world.data, tmp_path / "p", splits=COLOUR_SPLITS, progress=False)
    assert {path: path.stat().st_mtime_ns for path in untouched} == untouched
    assert has_pixels(tmp_path / "p")
    assert load_outcomes(tmp_path / "p").feature_names == NAMES
    assert stored_features(tmp_path / "p", record)[0].is_dir()
    assert len(list((tmp_path / "p/outputs").glob(f"{FEATURES}-*"))) == 1


def test_pixels_are_read_from_bytes_and_from_lists_of_an_earlier_version(
    world: World, tmp_path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from training.outcomes import parts

    shutil.copytree(world.profile, tmp_path / "p")
    record = read_profile_record(tmp_path / "p")
    now, then = (
        parts.parts_folder(tmp_path / "p", PIXELS, record),
        parts._pixels_folder(tmp_path / "p", record, 1),
    )
    assert now != then
    known = load_pixels(tmp_path / "p")
    then.mkdir()
    for path in sorted(now.iterdir()):
        table = pq.read_table(path)
        rows = np.frombuffer(b"".join(table["values"].to_pylist()), np.uint8).reshape(len(table), -1)
        pq.write_table(pa.table({"id": table["id"], "values": parts.lists_of(rows)}), then / path.name)
    shutil.rmtree(now)
    np.testing.assert_array_equal(load_pixels(tmp_path / "p"), known)
    profile(world.zoo, world.data, tmp_path / "p", splits=COLOUR_SPLITS, progress=False)
    assert not now.exists(), "what an earlier version wrote is complete"
    path = sorted(then.iterdir())[0]
    table = pq.read_table(path)
    short = pa.array([b"12"] * len(table), pa.binary(2))
    pq.write_table(pa.table({"id": table["id"], "values": short}), path)
    with pytest.raises(DataError, match=r"rows do not belong to samples\.parquet"):
        load_pixels(tmp_path / "p")


def as_version_1(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from training.outcomes import parts

    record = read_profile_record(folder)
    now = parts.parts_folder(folder, FEATURES, record)
    then = parts._features_folder(folder, record, 1, EARLIER[1])
    then.mkdir()
    for path in sorted(now.iterdir()):
        table = pq.read_table(path)
        values = np.stack(table["values"].to_numpy())[:, : len(EARLIER[1])]
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        pq.write_table(pa.table({"id": table["id"], "values": column}), then / path.name)
    shutil.rmtree(now)
    shutil.rmtree(parts.parts_folder(folder, PIXELS, record))


def test_log_odds_of_a_scout_become_features_of_outcomes(world: World) -> None:
    outcomes = load_outcomes(world.profile).rows(np.arange(40))
    more = with_features(outcomes, ("scout_a",), np.arange(40, dtype=np.float32)[:, None])
    assert more.feature_names == (*NAMES, "scout_a")
    np.testing.assert_array_equal(more.features[:, -1], np.arange(40))
    for names, values in ((("scout_a",), np.zeros((3, 1))), ((NAMES[0],), np.zeros((40, 1)))):
        with pytest.raises(DataError, match=r"expected new features \[40, 1\] with names of their own"):
            with_features(outcomes, names, values.astype(np.float32))
