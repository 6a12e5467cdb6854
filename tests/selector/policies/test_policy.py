"""Claims about the rules: which model a policy picks, and when a cascade stops."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from selector.policies.cascade import (
    CascadePolicy,
    LookaheadPolicy,
    LookaheadStage,
    Stage,
    right_probability,
    way_probabilities,
)
from selector.policies.constraint import check_precision
from selector.policies.input import InputPolicy
from selector.policies.rules import (
    MAX_LISTED,
    choose,
    confidence,
    escalate,
    log_odds_of,
    next_action,
    next_action_of,
    shares,
    shares_of,
    softmax,
)
from zoo.errors import PrecisionError

probabilities = arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.integers(1, 5)),
    elements=st.floats(0, 1, allow_subnormal=False),
)
logits = arrays(
    np.float32,
    st.tuples(st.integers(1, 8), st.integers(2, 6)),
    elements=st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False),
)
COSTS = np.array([1.0, 2.0, 5.0, 9.0, 30.0])


@given(probabilities, st.floats(0, 1))
def test_the_cheapest_model_that_reaches_the_threshold_is_chosen(scores: Any, threshold: float) -> None:
    for row, pick in zip(scores.tolist(), choose(scores, threshold).tolist(), strict=True):
        enough = [j for j, score in enumerate(row) if score >= threshold]
        assert pick == (enough[0] if enough else row.index(max(row)))


@given(probabilities, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_never_makes_a_cascade_cheaper(scores: Any, one: float, other: float) -> None:
    low, high = sorted([one, other])
    cost = np.cumsum(COSTS)
    assert (cost[escalate(scores, low)] <= cost[escalate(scores, high)]).all()


@given(probabilities, st.floats(0, 1))
def test_a_cascade_stops_at_the_first_sure_stage_and_else_at_the_last(scores: Any, threshold: float) -> None:
    for row, stop in zip(scores.tolist(), escalate(scores, threshold).tolist(), strict=True):
        assert all(score < threshold for score in row[:stop])
        assert row[stop] >= threshold or stop == len(row) - 1


def test_a_threshold_above_everything_asks_every_model() -> None:
    assert escalate(np.array([[0.9, 0.4, 0.7]]), 2.0).tolist() == [2]


@given(logits)
def test_probabilities_sum_to_one_and_keep_the_order(values: Any) -> None:
    shares = softmax(values)
    assert np.isfinite(shares).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (shares[np.arange(len(values)), values.argmax(axis=1)] == shares.max(axis=1)).all()


@given(logits)
def test_log_odds_are_finite_and_those_of_the_softmax(values: Any) -> None:
    odds = np.array(confidence(values)[0])
    assert np.isfinite(odds).all()
    top = softmax(values).max(axis=1)
    inside = top < 1 - 1e-6  # beyond, the softmax has no digits left
    np.testing.assert_allclose(odds[inside], np.log(top[inside] / (1 - top[inside])), atol=1e-6)


def assert_alike(values: Any) -> None:
    odds, weights = confidence(values)
    alone = [confidence(row[np.newaxis]) for row in values]
    assert [one[0][0] for one in alone] == odds
    assert [shares(one[1])[0].tolist() for one in alone] == shares(weights).tolist()
    np.testing.assert_allclose(shares(weights), softmax(values), rtol=1e-12, atol=0)
    if values.shape[1] <= MAX_LISTED:
        listed = [log_odds_of(row) for row in values.tolist()]
        assert [one[0] for one in listed] == odds
        assert [one[1] for one in listed] == values.argmax(axis=1).tolist()
        assert [shares_of(row) for row in values.tolist()] == shares(weights).tolist()


@given(logits)
def test_one_row_is_as_sure_as_it_is_in_a_batch_bit_for_bit(values: Any) -> None:
    assert_alike(values)


def test_many_classes_and_rows_are_summed_like_one_row_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    for rows, classes in ((64, 10), (7, 1000), (200, 3), (1, 257), (9, 64), (9, 65)):
        values = rng.normal(0, 5, (rows, classes)).astype(np.float32)
        assert_alike(values)


@given(logits, st.floats(-5, 5), st.floats(-5, 5))
def test_a_stage_is_as_sure_as_simulations_say(values: Any, scale: float, offset: float) -> None:
    stage = Stage(model="m", scale=scale, offset=offset)
    simulated = right_probability(stage, np.array(confidence(values)[0]))
    assert np.isfinite(simulated).all()
    alone = [stage.judge(odds, 0.5) for odds in confidence(values)[0]]
    np.testing.assert_allclose(simulated, [probability for probability, _ in alone], rtol=1e-9, atol=1e-300)
    assert all(enough == (probability >= 0.5) for probability, enough in alone)


@pytest.mark.parametrize("precision", [0, 1, -0.1, 1.1, float("nan"), float("inf"), "high", "", None, [0.5]])
def test_refuses_a_precision_outside_0_to_1(precision: Any) -> None:
    with pytest.raises(PrecisionError, match=r"expected a precision strictly between 0 and 1, such as 0\.95"):
        check_precision(precision)


@given(probabilities, st.floats(0, 2), st.sampled_from(["threshold", "price"]))
def test_one_row_goes_where_a_batch_goes(scores: Any, threshold: float, rule: Any) -> None:
    costs = COSTS[: scores.shape[1]].tolist()
    batch = next_action(scores, costs, threshold, rule)
    assert batch.tolist() == [next_action_of(row, costs, threshold, rule) for row in scores.tolist()]


@given(probabilities, st.floats(0, 2), st.floats(0, 2))
def test_a_higher_price_never_buys_a_dearer_way(scores: Any, one: float, other: float) -> None:
    low, high = sorted([one, other])
    costs = COSTS[: scores.shape[1]]
    cheap, dear = (next_action(scores, costs.tolist(), price, "price") for price in (high, low))
    assert (costs[cheap] <= costs[dear]).all()


def test_time_has_to_be_worth_its_price() -> None:
    row = np.array([[0.5, 0.7, 0.8]])
    prices = {0.0: 2, 0.04: 1, 0.15: 1, 0.25: 0, 9.0: 0}
    for price, pick in prices.items():
        assert next_action(row, (1.0, 2.0, 5.0), price, "price").tolist() == [pick]


def test_policies_name_their_models_cheapest_first() -> None:
    assert InputPolicy(order=("a", "b")).models == ("a", "b")
    stages = tuple(Stage(model=name, scale=1.0, offset=0.0) for name in "ab")
    assert CascadePolicy(stages=stages).models == ("a", "b")


def test_look_ahead_goes_on_as_long_as_it_pays() -> None:
    # right with probability 1/2 whatever it says; the others, so it hopes, with 0.73 and 0.88
    first = LookaheadStage(model="a", scales=(0, 0, 0), offsets=(0, 1, 2), costs_ms=(1.0, 3.0))
    for price, stops in {0.0: False, 0.1: False, 0.22: False, 0.24: True, 9.0: True}.items():
        assert first.judge(1.0, price) == (0.5, stops)


@given(st.floats(-60, 60), st.floats(0, 1), st.integers(1, 4))
def test_look_ahead_of_one_image_is_that_of_simulations(odds: float, price: float, ways: int) -> None:
    rng = np.random.default_rng(ways)
    scales, offsets = rng.normal(0, 0.3, ways).tolist(), rng.normal(0, 1, ways).tolist()
    costs = np.cumsum(rng.random(ways - 1)).tolist()
    stage = LookaheadStage(model="a", scales=tuple(scales), offsets=tuple(offsets), costs_ms=tuple(costs))
    probability, enough = stage.judge(odds, price)
    simulated = way_probabilities(stage, np.array([odds]))
    assert probability == pytest.approx(simulated[0, 0])
    assert enough == (next_action(simulated, stage.ways_ms, price, "price")[0] == 0)
    assert enough or ways > 1


@pytest.mark.parametrize(
    "change",
    [
        {"scales": (1.0,)},
        {"offsets": (0.0, 0.0, 0.0)},
        {"costs_ms": ()},
        {"costs_ms": (-1.0,)},
        {"scales": (), "offsets": ()},
    ],
)
def test_a_stage_with_other_numbers_of_ways_is_refused(change: dict[str, object]) -> None:
    good = {"model": "a", "scales": (1.0, 1.0), "offsets": (0.0, 0.0), "costs_ms": (1.0,)}
    last = {"model": "b", "scales": (1.0,), "offsets": (0.0,), "costs_ms": ()}
    policy = msgspec.convert({"kind": "lookahead", "stages": [good, last]}, LookaheadPolicy)
    assert policy.models == ("a", "b")
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"kind": "lookahead", "stages": [good | change, last]}, LookaheadPolicy)
    with pytest.raises(msgspec.ValidationError, match=r"stages\[0\]: expected 1 scales"):
        msgspec.convert({"kind": "lookahead", "stages": [good]}, LookaheadPolicy)
