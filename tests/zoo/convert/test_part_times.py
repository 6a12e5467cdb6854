"""Times of parts: sums of the same stretches, whatever each measurement was off by."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="comes with what trains")

from zoo.convert.cut.part_times import agreeing

PLACES = 32


def _made(seed: int) -> tuple[np.ndarray, np.ndarray, float, list[int]]:
    rng = np.random.default_rng(seed)
    stretches, sizes = rng.uniform(0.1, 2.0, PLACES + 1), rng.integers(1000, 1_000_000, PLACES)
    until = np.cumsum(stretches)[:-1]
    heads = until + sizes * 1e-6
    tails = stretches.sum() - until + sizes * 5e-7
    return heads, tails, float(stretches.sum()), sizes.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_exact_times_stay_as_they_are(seed: int) -> None:
    heads, tails, whole, sizes = _made(seed)
    found = agreeing(heads.tolist(), tails.tolist(), whole, sizes)
    np.testing.assert_allclose(found[0], heads, rtol=1e-6)
    np.testing.assert_allclose(found[1], tails, rtol=1e-6)
    assert found[2] == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_parts_that_are_off_by_a_tenth_come_closer_to_what_they_take(seed: int) -> None:
    heads, tails, whole, sizes = _made(seed)
    noise = np.random.default_rng(seed + 10)
    measured = [one * noise.normal(1.0, 0.1, PLACES) for one in (heads, tails)]
    found = agreeing(measured[0].tolist(), measured[1].tolist(), whole, sizes)
    true = np.concatenate([heads, tails])
    before, after = (np.abs(np.concatenate(one) / true - 1).mean() for one in (measured, found[:2]))
    assert after < 0.8 * before


def test_of_equal_tensors_the_later_head_never_takes_less() -> None:
    heads, tails, whole = agreeing([1.2, 0.9, 3.0], [4.0, 4.0, 2.0], 5.0, [10, 10, 10])
    assert (np.diff(heads) >= -1e-12).all()
    assert (np.diff(tails) <= 1e-12).all()
    assert whole > 0


def test_a_model_without_places_has_its_own_time() -> None:
    heads, tails, whole = agreeing([], [], 2.5, [])
    assert len(heads) == len(tails) == 0
    assert whole == pytest.approx(2.5)
