"""Martingales: fair while numbers are exchangeable, however spread; growing when they are not."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from selector.drift.martingale import MAX_CAPITAL, Martingales

EDGES = [-2.0, -1.0, 0.0, 0.1, 1.0, 2.0]


def counts_of(values: np.ndarray) -> list[int]:
    return np.bincount(np.searchsorted(EDGES, values, side="right"), minlength=7).tolist()


def run(calibration: np.ndarray, stream: np.ndarray, seed: int = 0) -> list[float]:
    """Capital after every number, when all is staked at the beginning."""
    bets = Martingales([(EDGES, counts_of(calibration))], seed=seed)
    values, stakes = stream.astype(np.float32)[:, np.newaxis], np.eye(1, len(stream))[0]
    blocks = [bets.update_block(values[i : i + 50], stakes[i : i + 50])[0] for i in range(0, len(stream), 50)]
    return np.concatenate(blocks).tolist()


def test_capital_stays_one_on_average_while_nothing_changes() -> None:
    rng = np.random.default_rng(0)
    ends = [run(rng.normal(size=9), rng.normal(size=3), seed)[-1] for seed in range(3000)]
    assert abs(np.mean(ends) - 1) < 4 * np.std(ends) / np.sqrt(len(ends))


def test_few_calibration_numbers_do_not_make_it_unfair() -> None:
    rng = np.random.default_rng(1)
    runs = [run(rng.normal(size=2), rng.normal(size=100), seed) for seed in range(200)]
    assert np.mean([max(one) >= 20 for one in runs]) <= 0.05


def test_a_value_that_all_numbers_share_is_fair_too() -> None:
    runs = [run(np.zeros(50), np.zeros(100), seed) for seed in range(200)]
    assert np.mean([max(one) >= 20 for one in runs]) <= 0.05


def test_capital_grows_when_numbers_change() -> None:
    rng = np.random.default_rng(2)
    for shift in (-3.0, 3.0):
        assert run(rng.normal(size=500), rng.normal(shift, 1, size=30))[-1] > 1e6


def test_capital_grows_when_numbers_stand_still_in_the_middle() -> None:
    rng = np.random.default_rng(3)
    assert run(rng.normal(size=2000), np.full(60, 0.05))[-1] > 1e3


def test_capital_is_bounded() -> None:
    assert run(np.zeros(10_000), np.full(2000, 5.0))[-1] <= MAX_CAPITAL


def test_the_last_row_may_sit_out() -> None:
    bets = Martingales([(EDGES, [50] * 7), (EDGES, [50] * 7)])
    bets.update(np.array([0.0, 0.0], np.float32), 0.5)
    before = bets.capital[1]
    bets.update(np.array([3.0], np.float32), 0.0)
    assert bets.capital[1] == before
    assert bets.capital[0] != 0.5


def test_a_row_that_was_put_aside_goes_on_where_it_was() -> None:
    bets = Martingales([(EDGES, [50] * 7), (EDGES, [50] * 7)])
    bets.update(np.array([0.0, 3.0], np.float32), 0.5)
    before = bets.capital[1]
    aside = bets.exchange(1, (EDGES[:2], [9, 9, 9]))
    assert bets.capital[1] == 0
    bets.exchange(1, aside)
    assert bets.capital[1] == before


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40),
    st.lists(st.integers(0, 5), min_size=7, max_size=7),
)
def test_any_finite_or_infinite_number_leaves_a_positive_capital(
    stream: list[float], counts: list[int]
) -> None:
    bets = Martingales([(EDGES, counts)])
    totals = [bets.update(np.array([value], np.float32), 1.0) for value in stream]
    assert all(0 < total <= MAX_CAPITAL for total in totals)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.booleans())
def test_a_block_is_bet_on_as_one_number_after_the_other(seed: int, size: int, last: bool) -> None:
    rng = np.random.default_rng(seed)
    bins = [(EDGES, rng.integers(1, 50, 7).tolist()), (EDGES[:3], rng.integers(1, 50, 4).tolist())]
    one, many = Martingales(bins), Martingales(bins)
    values = rng.normal(0.5, 1.5, (60, 2 if last else 1)).astype(np.float32)
    stakes = rng.uniform(0.01, 0.1, 60)
    alone = [one.update(row, stake) for row, stake in zip(values, stakes, strict=True)]
    blocks = [many.update_block(values[i : i + size], stakes[i : i + size]) for i in range(0, 60, size)]
    np.testing.assert_allclose(np.concatenate([totals for totals, _ in blocks]), alone, rtol=1e-9)
    np.testing.assert_allclose(blocks[-1][1][-1], one.capital, rtol=1e-9)
    np.testing.assert_allclose(many.capital, one.capital, rtol=1e-9)


def test_hundreds_that_win_or_lose_all_bets_are_bet_on_together_as_one_by_one() -> None:
    one, many = (Martingales([(EDGES, [5] * 7)]) for _ in range(2))
    values = np.repeat(np.array([[9.0], [-9.0]], np.float32), 400, axis=0)
    stakes = np.full(800, 1e-3)
    alone = [one.update(row, stake) for row, stake in zip(values, stakes, strict=True)]
    together, _ = many.update_block(values, stakes)
    np.testing.assert_allclose(together, alone, rtol=1e-9)
