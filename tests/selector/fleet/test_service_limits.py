"""Tokens and rate limits."""

from __future__ import annotations

import logging
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import selector.fleet.rate_limits
from selector.fleet.rate_limits import Buckets, LogLimit, Rate
from selector.fleet.tokens import Tokens
from zoo.errors import CardError, ServiceError


def test_a_token_is_found_by_its_digest_alone(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    token = tokens.add("device", "cameras")
    operator = tokens.add("operator")
    assert token not in tokens.path.read_text()
    found = Tokens(tokens.path).find(token)
    assert found is not None
    assert (found.role, found.group) == ("device", "cameras")
    assert getattr(tokens.find(operator), "role", None) == "operator"
    assert len({tokens.add("device", "cameras") for _ in range(5)}) == 5


def test_tokens_that_are_made_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: Tokens(path).add("device", "cameras"), range(12)))
    tokens = Tokens(path)
    assert all(tokens.find(one) for one in made)


@pytest.mark.parametrize("wrong", ["", "zd_", "x" * 10_000, "\udcff", "Ω"])
def test_another_token_is_not(tmp_path: Path, wrong: str) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    assert tokens.find(wrong) is None
    token = tokens.add("device", "cameras")
    assert [tokens.find(one) for one in (wrong, token[:-1], token.upper())] == [None] * 3


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    token = tokens.add("operator")
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    tokens.path.chmod(0o640)
    with pytest.raises(ServiceError, match="chmod 600"):
        Tokens(tokens.path)
    tokens.path.chmod(0o600)
    assert Tokens(tokens.path).find(token) is not None


def test_a_withdrawn_token_stops_working_at_once(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    token = tokens.add("device", "cameras")
    assert tokens.find(token)
    tokens.path.write_text('{"schema_version": 1, "tokens": []}')
    assert tokens.find(token) is None
    tokens.path.unlink()
    assert tokens.find(token) is None


@pytest.mark.parametrize("group", ["../x", "A", None])
def test_a_token_of_no_proper_group_is_not_made(tmp_path: Path, group: str | None) -> None:
    with pytest.raises(CardError, match="group"):
        Tokens(tmp_path / "tokens.json").add("device", group)
    assert not (tmp_path / "tokens.json").exists()


def test_a_damaged_file_of_tokens_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.touch(mode=0o600)
    path.write_text('{"schema_version": 1, "tokens": [{"sha256": "abc"}]}')
    with pytest.raises(CardError, match="TokenFile"):
        Tokens(path)


def test_a_bucket_allows_a_burst_and_then_its_rate() -> None:
    buckets = Buckets(Rate(burst=3, per_s=0.5))
    assert [buckets.wait_s("a", 10.0) for _ in range(4)] == [0, 0, 0, 2.0]
    assert buckets.wait_s("b", 10.0) == 0
    assert buckets.wait_s("a", 11.0) == 1.0
    assert buckets.wait_s("a", 12.0) == 0


def test_the_table_of_buckets_is_bounded_and_empties() -> None:
    buckets = Buckets(Rate(burst=2, per_s=1), most=50)
    for i in range(500):
        buckets.wait_s(str(i), 0.0)
    assert len(buckets._levels) == 50
    buckets.wait_s("last", 100.0)
    assert len(buckets._levels) == 1


@given(st.lists(st.floats(0, 100), max_size=60))
def test_no_more_pass_than_burst_and_rate_allow(times: list[float]) -> None:
    buckets = Buckets(Rate(burst=5, per_s=0.7))
    passed = sum(not buckets.wait_s("a", when) for when in sorted(times))
    assert passed <= 5 + 0.7 * (max(times, default=0.0) - min(times, default=0.0)) + 1e-6


def test_a_flood_of_warnings_is_a_few_lines_and_their_count(caplog: pytest.LogCaptureFixture) -> None:
    limit = LogLimit(Rate(burst=3, per_s=1e-6))
    flooded = logging.getLogger("flooded")
    caplog.handler.addFilter(limit)
    try:
        with caplog.at_level(logging.INFO):
            for i in range(50):
                flooded.warning("request %d is invalid", i)
            flooded.warning("something else")
            flooded.info("a new assignment")
            limit.tell()
            limit.tell()
    finally:
        caplog.handler.removeFilter(limit)
    assert caplog.messages == [
        *(f"request {i} is invalid" for i in range(3)),
        "something else",
        "a new assignment",
        "47 lines were left out, the last one: request 49 is invalid",
    ]


def test_the_line_after_a_flood_says_how_many_were_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(selector.fleet.rate_limits.time, "monotonic", lambda: now)
    limit = LogLimit(Rate(burst=1, per_s=0.1))
    record = logging.LogRecord("x", logging.ERROR, "file", 7, "no %s", ("room",), None)
    assert [limit.filter(record) for _ in range(5)] == [True, False, False, False, False]
    now = 10.0
    assert limit.filter(record)
    assert record.getMessage() == "no room (4 such lines before it were left out)"
