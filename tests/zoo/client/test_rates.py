"""Claims about rates: those of the standards, and less for what is shared."""

from __future__ import annotations

import pytest

from tests.support.small_releases import index_of
from zoo.client.rates import bits_per_s, rate_table, rate_text
from zoo.errors import ZooError


def test_138_mb_within_a_second_take_1_1_gbit_s() -> None:
    """3GPP TS 22.261, 7.10."""
    assert rate_text(bits_per_s(138_000_000, 1.0)) == "1.1 Gbit/s"
    assert bits_per_s(138_000_000, 10.0) == pytest.approx(110.4e6)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0, "0 bit/s"),
        (999.9, "1 kbit/s"),
        (64e3, "64 kbit/s"),
        (12.34e6, "12.3 Mbit/s"),
        (999.96e6, "1 Gbit/s"),
    ],
)
def test_a_rate_is_told_in_the_unit_that_reads_best(rate: float, text: str) -> None:
    assert rate_text(rate) == text


def test_the_table_has_every_model_whole_and_without_what_others_have() -> None:
    zoo = index_of({"full": {"trunk": 990_000}, "dark": {"trunk": 990_000, "head": 9_990}, "tiny": {}})
    rows = rate_table(zoo, (1.0, 4.0))
    assert [(row.name, row.size_bytes, row.own_bytes) for row in rows] == [
        ("dark", 1_000_000, 10_000),
        ("full", 990_010, 10),
        ("tiny", 10, 10),
    ]
    assert rows[0].mbit_per_s == (8.0, 2.0)
    assert rows[0].own_mbit_per_s == pytest.approx((0.08, 0.02))


@pytest.mark.parametrize("deadline", [0.0, -1.0, float("nan")])
def test_a_deadline_is_a_positive_time(deadline: float) -> None:
    with pytest.raises(ZooError, match="expected a deadline of more than 0 seconds"):
        bits_per_s(1, deadline)
