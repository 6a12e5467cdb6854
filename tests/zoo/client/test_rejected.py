"""Claims about what failed its test here: it is remembered, and not for ever."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zoo.client.rejected
from tests.support.small_releases import model_release
from zoo.client.rejected import MAX_REJECTED, REJECTION_LIFETIME_S, Rejected
from zoo.releases.release import ModelRelease

BAD = model_release("bad", {"weights": 5})


@pytest.fixture
def rejected(tmp_path: Path) -> Rejected:
    return Rejected(tmp_path / "rejected.json")


def test_it_is_remembered_by_whoever_opens_the_store_next(rejected: Rejected) -> None:
    assert rejected.why(BAD) is None
    rejected.add(BAD, "a crash")
    assert Rejected(rejected.path).why(BAD) == "a crash"
    assert rejected.why(model_release("good", {"weights": 5})) is None


@pytest.mark.parametrize("change", [{"version": 2}, {"peak_memory_bytes": 2000}])
def test_another_release_of_the_model_gets_a_chance(rejected: Rejected, change: dict[str, int]) -> None:
    rejected.add(BAD, "a crash")
    newer: ModelRelease = msgspec.structs.replace(BAD, **change)
    assert rejected.why(newer) is None
    rejected.add(newer, "another crash")
    assert len(json.loads(rejected.path.read_bytes())["rejections"]) == 1


@pytest.mark.parametrize("seconds", [REJECTION_LIFETIME_S + 1, -10.0])
def test_it_is_tried_again_after_a_day_or_when_the_clock_was_set_back(
    rejected: Rejected, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    rejected.add(BAD, "short of memory")
    later = zoo.client.rejected.time.time() + seconds
    monkeypatch.setattr(zoo.client.rejected.time, "time", lambda: later)
    assert rejected.why(BAD) is None


def test_it_is_tried_again_with_another_runtime(rejected: Rejected, monkeypatch: pytest.MonkeyPatch) -> None:
    rejected.add(BAD, "an unknown operator")
    monkeypatch.setattr("onnxruntime.__version__", "99.0.0")
    assert rejected.why(BAD) is None


def test_only_the_latest_are_kept(rejected: Rejected) -> None:
    releases = [model_release(f"bad-{i}", {"weights": 5}) for i in range(MAX_REJECTED + 2)]
    for release in releases:
        rejected.add(release, "x" * 5000)
    assert [rejected.why(release) is None for release in releases] == [True, True] + [False] * MAX_REJECTED
    assert rejected.path.stat().st_size < 2**18


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200) | st.just(b'{"schema_version": 2}') | st.just(b"[" * 3000))
def test_a_damaged_file_counts_as_empty_and_is_replaced(rejected: Rejected, content: bytes) -> None:
    rejected.path.write_bytes(content)
    assert rejected.why(BAD) is None
    rejected.add(BAD, "a crash")
    assert rejected.why(BAD) == "a crash"
