"""Claims about automatic tuning: useless features go for a stated reason, folds keep originals together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from selector.policies.input import InputPolicy
from training.features.costs import FeatureCosts
from training.outcomes.folds import FOLDS, Folds
from training.policies.estimators import KINDS, SMALL
from training.policies.input import input_frontier
from training.search import tuning
from training.search.feature_value import blind_quality, net_quality, price_frontier
from training.search.tuning import default_budget_us, tune, tune_and_score
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
    assert set(tuned.quality) == set(SMALL)
    best, error = max(tuned.quality.values())
    assert tuned.quality[tuned.estimator][0] >= best - error


def test_the_same_data_give_the_same_choice() -> None:
    assert tune(FEATURES, NAMES, RIGHT, GROUPS, COSTS) == tune(FEATURES, NAMES, RIGHT, GROUPS, COSTS)


def test_larger_estimators_are_tried_where_features_are_given_with_every_input() -> None:
    tuned, scores = tune_and_score(FEATURES, NAMES, RIGHT, GROUPS, COSTS, given=True)
    assert set(tuned.quality) == set(KINDS)
    assert scores is not None
    assert scores[RIGHT].mean() > scores[~RIGHT].mean() + 0.1


def test_given_features_that_tell_together_stay_though_a_linear_model_sees_nothing_in_them() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(800, 12)).astype(np.float32)
    alone = features[:, 2] + 0.5 * rng.normal(size=800) > 0
    together = (features[:, 0] * features[:, 1] > 0) | (rng.random(800) < 0.1)
    right = np.stack([alone, together], axis=1)
    names, groups = [f"x{i}" for i in range(12)], np.arange(800).astype(str)
    tuned, _ = tune_and_score(features, names, right, groups, COSTS, given=True)
    assert {"x0", "x1", "x2"} <= set(tuned.features)
    assert tuned.estimator != "logistic"


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
    real = tuning.grouped_folds

    def split(groups: NDArray[np.str_]) -> Folds:
        made = real(groups)
        seen.extend(set(GROUPS[fitted]) & set(GROUPS[held]) for fitted, held in made)
        return made

    monkeypatch.setattr(tuning, "grouped_folds", split)
    tune(FEATURES, NAMES, RIGHT, GROUPS, COSTS)
    assert len(seen) == FOLDS
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
    monkeypatch.setattr("training.search.tuning.MAX_ROWS", 120)
    assert tune(FEATURES, NAMES, RIGHT, GROUPS, COSTS).features


class Priced(FeatureCosts):
    """Made-up costs that add up."""

    def of(self, names: Sequence[str]) -> float:
        return sum(self.alone_us[name] for name in set(names))

    def shares_us(self, names: Sequence[str]) -> list[float]:
        return [self.alone_us[name] for name in names]


def priced(**costs: float) -> FeatureCosts:
    return Priced(32, {**dict.fromkeys(NAMES, 1.0), **costs}, {})


def test_of_two_equal_features_the_cheaper_one_is_kept() -> None:
    rng = np.random.default_rng(3)
    hidden = rng.normal(size=COUNT)
    twins = np.stack([hidden + rng.normal(0, 0.8, COUNT) for _ in range(2)], 1).astype(np.float32)
    right = np.stack([hidden > 0, rng.random(COUNT) < 0.95], 1)
    for dear, cheap in (("a", "b"), ("b", "a")):
        prices = Priced(32, {dear: 30.0, cheap: 0.5}, {})
        tuned = tune(twins, ("a", "b"), right, GROUPS, COSTS, prices=prices, budget_us=10)
        assert tuned.features == (cheap,)
        assert tuned.cost_us == 0.5
        verdict = next(item for item in tuned.verdicts if item.name == dear)
        assert verdict.cost_us == 30.0
        assert verdict.reason.endswith("at 0 instead of 30 µs")


def test_the_gain_is_what_features_add_to_blind_mixing_after_their_cost() -> None:
    cheap = tune(FEATURES, NAMES, RIGHT, GROUPS, COSTS, prices=priced())
    assert cheap.gain[0] > max(0.02, cheap.gain[1])
    dear = tune(FEATURES, NAMES, RIGHT, GROUPS, COSTS, prices=priced(**dict.fromkeys(NAMES, 400.0)))
    assert dear.gain[0] < cheap.gain[0]
    assert dear.cost_us > default_budget_us(RIGHT, COSTS)
    noise = RNG.normal(size=FEATURES.shape).astype(np.float32)
    gain, error = tune(noise, NAMES, RIGHT, GROUPS, COSTS, prices=priced()).gain
    assert gain <= error


def test_the_budget_is_a_share_of_a_reasonable_model() -> None:
    right = np.zeros((10, 3), bool)
    right[:4, 0], right[:8, 1], right[:9, 2] = True, True, True
    assert default_budget_us(right, np.array([0.1, 0.4, 2.0])) == pytest.approx(20.0)


def test_blind_mixing_lies_on_the_line_between_two_models() -> None:
    right = np.zeros((100, 3), bool)
    right[:50, 0], right[:40, 1], right[:90, 2] = True, True, True
    costs = np.array([1.0, 1.5, 4.0])
    budgets = np.geomspace(1, 4, 16)
    wanted = (0.5 + 0.4 * (budgets - 1) / 3).mean()
    assert blind_quality(right, right, costs) == pytest.approx(wanted, abs=0.005)
    assert blind_quality(right[:, :1], right[:, :1], costs[:1]) == 0.5


def test_a_price_trades_accuracy_for_time() -> None:
    scores = np.clip(RIGHT + RNG.normal(0, 0.2, RIGHT.shape), 0, 1)
    points = price_frontier(scores, RIGHT, COSTS)
    times = [point.mean_ms for point in points]
    assert times == sorted(times, reverse=True)
    assert times[-1] == pytest.approx(0.1)
    assert points[0].accuracy > RIGHT[:, 1].mean()
    assert net_quality(points, COSTS, 0.5) < net_quality(points, COSTS, 0.0)


def test_the_frontier_runs_from_careful_to_cheap() -> None:
    scores = np.clip(RIGHT + RNG.normal(0, 0.2, RIGHT.shape), 0, 1)
    points = input_frontier(
        scores, RIGHT, COSTS, InputPolicy(order=tuple(f"m{i}" for i in range(len(COSTS))))
    )
    assert points[-1].mean_ms == pytest.approx(0.1)
    assert points[0].threshold > 1
    assert max(point.accuracy for point in points) > RIGHT[:, 1].mean()
