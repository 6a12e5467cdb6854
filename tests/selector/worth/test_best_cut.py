"""Claims about where a model is best cut: it weighs bytes, round trips and both machines."""

from __future__ import annotations

import math

import numpy as np
import pytest

from selector.worth.best_cut import (
    ANSWER_BYTES,
    HERE,
    LEAST_SAVED,
    LOGIT_BYTES,
    REQUEST_BYTES,
    THERE,
    Conditions,
    Way,
    all_ways,
    fastest,
    needed_mbps,
)
from tests.support.made_cuts import CLASSES, made_cuts
from zoo.errors import DataError


def best(rate: float, rtt: float, slower: float, *, raw_stays: bool = False) -> Way:
    return all_ways(made_cuts(), Conditions(rate, rtt, slower), raw_stays=raw_stays)[0]


def test_a_total_is_head_link_and_tail() -> None:
    at = Conditions(rate_mbps=8.0, rtt_ms=20.0, slower=4.0)
    found = {(way.where, way.sends): way for way in all_ways(made_cuts(), at)}
    assert len(found) == 1 + 3 + 3, "packed codes are never sent"
    answer = CLASSES * LOGIT_BYTES + ANSWER_BYTES
    assert found[HERE, ""].total_ms == 40.0
    whole = found[THERE, "jpeg"]
    assert whole.total_ms == pytest.approx(4 * 0.5 + 20 + (5_000 + REQUEST_BYTES + answer) / 1e3 + 0.25 + 10)
    late = found["late", "8-bit"]
    assert late.number == 3
    assert late.device_ms == pytest.approx(4 * 3.0)
    assert late.network_ms == pytest.approx(20 + (2_000 + REQUEST_BYTES + answer) / 1e3)
    assert late.server_ms == 7.0


def test_the_best_place_moves_with_link_and_device() -> None:
    assert best(0.01, 20, 1).where == HERE
    assert best(1000, 1, 8).where == THERE
    assert best(1, 5, 8).where == "late"
    ways = [best(rate, 5, 8).device_ms for rate in (0.01, 1, 1000)]
    assert ways == sorted(ways, reverse=True)


def test_a_server_is_not_asked_for_what_times_vary_by() -> None:
    table = made_cuts()
    here = fastest(all_ways(table, Conditions(1, 5, 8)), where=HERE)
    assert here is not None
    for rtt in np.linspace(5, 120, 200):
        first, *rest = all_ways(table, Conditions(1, float(rtt), 8))
        saved = here.total_ms - min(way.total_ms for way in (first, *rest))
        assert (first.where == HERE) == (saved <= LEAST_SAVED * here.total_ms)


def test_the_image_may_have_to_stay() -> None:
    ways = all_ways(made_cuts(), Conditions(1000, 1, 8), raw_stays=True)
    assert {way.where for way in ways} == {HERE, "early", "late"}
    assert ways[0].where == "early"


def test_the_least_rate_at_which_a_cut_pays_is_told() -> None:
    table = made_cuts()
    least = needed_mbps(table, Conditions(1, 5, 8))
    assert least is not None
    for rate, faster in ((least * 0.99, False), (least * 1.01, True)):
        ways = all_ways(table, Conditions(rate, 5, 8))
        cut, here = fastest(ways, cut=True), fastest(ways, where=HERE)
        assert cut is not None
        assert here is not None
        assert (ways.index(cut) < ways.index(here)) == faster
    assert needed_mbps(table, Conditions(1, 100, 1)) is None


@pytest.mark.parametrize(
    ("rate", "rtt", "slower", "words"),
    [
        (0, 1, 1, "a rate above 0 Mbit/s, got 0"),
        (-1, 1, 1, "a rate above 0"),
        (math.nan, 1, 1, "a rate above 0"),
        (math.inf, 1, 1, "a rate above 0"),
        (1, -1, 1, "a round trip of 0 ms or more, got -1"),
        (1, math.nan, 1, "a round trip of 0 ms"),
        (1, 1, 0, "positive number of times slower, got 0"),
        (1, 1, -2, "positive number of times slower"),
    ],
)
def test_impossible_conditions_are_refused(rate: float, rtt: float, slower: float, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Conditions(rate, rtt, slower)
