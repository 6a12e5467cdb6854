"""Claims about automatic tuning: useless features go for a stated reason, folds keep originals together."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from training import tuning
from training.estimators import KINDS
from training.tuning import input_frontier, tune
from zoo.errors import DataError

RNG = np.random.default_rng(0)
COUNT = 300
COSTS = np.array([0.1, 1.0])
GROUPS = np.array([f"g{i // 3}" for i in range(COUNT)])
SIGNAL = RNG.normal(size=COUNT)
OTHER = RNG.normal(size=COUNT)
RIGHT = np.stack([SIGNAL + 0.5 * OTHER > 0, RNG.random(COUNT) < 0.95], axis=1)
NAMES = ("constant", "signal", "copy", "other", "noise")
FEATURES = np.stack(
    [np.full(COUNT, 3.0), SIGNAL, SIGNAL**3 + 0.01 * OTHER, OTHER, RNG.normal(size=COUNT)], axis=1
).astype(np.float32)


def test_useless_features_are_dropped_with_reasons() -> None:
    tuned = tune(FEATURES, NAMES, RIGHT, GROUPS, COSTS)
    verdicts = {item.name: item for item in tuned.verdicts}
    assert [item.name for item in tuned.verdicts] == list(NAMES)
    assert verdicts["constant"].reason == "constant on these images"
    twins = [verdicts["signal"], verdicts["copy"]]
    assert sorted(item.kept for item in twins) == [False, True]
    dropped = next(item for item in twins if not item.kept)
    kept = next(item for item in twins if item.kept)
    assert dropped.reason.startswith("correlation ")
    assert dropped.reason.endswith(f" with {kept.name}")
    assert tuned.features == tuple(item.name for item in tuned.verdicts if item.kept)
    assert kept.name in tuned.features


def test_every_estimator_is_judged_and_the_simplest_good_one_taken() -> None:
    tuned = tune(FEATURES, NAMES, RIGHT, GROUPS, COSTS)
    assert set(tuned.quality) == set(KINDS)
    best, error = max(tuned.quality.values())
    assert tuned.quality[tuned.estimator][0] >= best - error


def test_the_same_data_give_the_same_choice() -> None:
    assert tune(FEATURES, NAMES, RIGHT, GROUPS, COSTS) == tune(FEATURES, NAMES, RIGHT, GROUPS, COSTS)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_not_finite_is_named(bad: float) -> None:
    broken = FEATURES.copy()
    broken[7, 3] = bad
    with pytest.raises(DataError, match="expected finite features, got NaN or infinity in 'other'"):
        tune(broken, NAMES, RIGHT, GROUPS, COSTS)


def test_too_few_originals_are_refused() -> None:
    with pytest.raises(DataError, match="expected at least 8 originals to fit on, got 7"):
        tune(FEATURES[:21], NAMES, RIGHT[:21], GROUPS[:21], COSTS)


def test_variants_of_one_original_never_fall_into_two_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = tuning.GroupKFold.split

    def split(self: object, x: NDArray[np.float32], y: object = None, groups: object = None) -> object:
        for fitted, held in real(self, x, y, groups):
            seen.append(set(GROUPS[fitted]) & set(GROUPS[held]))
            yield fitted, held

    monkeypatch.setattr(tuning.GroupKFold, "split", split)
    tune(FEATURES, NAMES, RIGHT, GROUPS, COSTS)
    assert len(seen) >= 16
    assert not set().union(*seen)


def test_where_no_feature_varies_a_placeholder_stays() -> None:
    flat = np.ones((COUNT, 3), np.float32)
    tuned = tune(flat, ("a", "b", "c"), RIGHT, GROUPS, COSTS)
    assert tuned.features == ("a",)
    assert "placeholder" in tuned.verdicts[0].reason


def test_models_that_are_always_right_can_be_tuned_for() -> None:
    tuned = tune(FEATURES, NAMES, np.ones((COUNT, 2), bool), GROUPS, COSTS)
    assert tuned.features
    assert tuned.estimator == "logistic"


def test_twenty_samples_are_enough() -> None:
    chosen = np.arange(0, 60, 3)
    tuned = tune(FEATURES[chosen], NAMES, RIGHT[chosen], GROUPS[chosen], COSTS)
    assert tuned.features


def test_more_rows_than_needed_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "MAX_ROWS", 120)
    assert tune(FEATURES, NAMES, RIGHT, GROUPS, COSTS).features


def test_the_frontier_runs_from_careful_to_cheap() -> None:
    scores = np.clip(RIGHT + RNG.normal(0, 0.2, RIGHT.shape), 0, 1)
    points = input_frontier(scores, RIGHT, COSTS)
    assert points[-1].mean_ms == pytest.approx(0.1)
    assert points[0].threshold > 1
    assert max(point.accuracy for point in points) > RIGHT[:, 1].mean()
