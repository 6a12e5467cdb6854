"""Claims about the spread of times: two peaks are called so, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.models.spread import bars, two_peaks

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "times",
    [
        RNG.normal(1.0, 0.05, 300),
        RNG.uniform(0.5, 1.5, 300),
        1 + RNG.exponential(0.3, 300),
        RNG.lognormal(0, 0.4, 300),
        np.full(50, 1.0),
        np.concatenate([np.full(295, 1.0), np.full(5, 9.0)]),
        np.concatenate([RNG.normal(1.0, 0.005, 150), RNG.normal(1.05, 0.005, 150)]),
        [],
        [1.0],
    ],
    ids=["normal", "uniform", "exponential", "log-normal", "equal", "outliers", "near", "none", "one"],
)
def test_one_peak_is_one_peak(times: list[float]) -> None:
    assert two_peaks(times) is None


@pytest.mark.parametrize("share", [0.15, 0.5, 0.85])
def test_two_speeds_of_a_processor_are_two_peaks(share: float) -> None:
    fast = RNG.random(400) < share
    times = np.where(fast, RNG.normal(1.0, 0.03, 400), RNG.normal(1.5, 0.04, 400))
    found = two_peaks(times)
    assert found is not None
    assert found == pytest.approx((1.0, 1.5), rel=0.03)


def test_bars_show_where_times_are() -> None:
    assert bars([1.0] * 90 + [2.0] * 10, width=4) == "█  ▁"
    assert bars([1.0] * 5) == "█"
    assert bars([]) == ""
    assert len(bars(RNG.normal(1, 0.1, 500))) == 12
