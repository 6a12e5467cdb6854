"""Claims about timing: in turns, by two clocks, and what was interrupted is left out."""

from __future__ import annotations

import collections
from collections.abc import Callable

import numpy as np
import pytest

from tests.support.clock import Clock, install
from zoo.errors import LatencyError
from zoo.models.timing import Times, clock_of, time_interleaved, wait_quiet, waiting_share


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return install(monkeypatch)


def test_every_call_runs_once_a_round_on_the_input_of_the_round() -> None:
    seen: list[tuple[str, int]] = []
    calls = {name: lambda item, name=name: seen.append((name, item)) for name in "abc"}
    times = time_interleaved(calls, [10, 20], runs=5, warm_up=2)
    rounds = [seen[i : i + 3] for i in range(0, len(seen), 3)]
    assert len(rounds) == 7
    assert all({name for name, _ in one} == set("abc") for one in rounds)
    assert [{item for _, item in one} for one in rounds[2:]] == [{10}, {20}, {10}, {20}, {10}]
    assert {name: values.wall_ms.shape for name, values in times.items()} == dict.fromkeys("abc", (5,))


def test_the_order_of_the_rounds_is_random_balanced_and_repeatable() -> None:
    def order(seed: int) -> list[str]:
        seen: list[str] = []
        calls = {name: lambda _, name=name: seen.append(name) for name in "abc"}
        time_interleaved(calls, [0], runs=300, warm_up=0, seed=seed)
        return seen

    assert order(1) == order(1) != order(2)
    first = collections.Counter(order(1)[::3])
    assert min(first[name] for name in "abc") > 70  # 100 expected, 8 standard deviation


def test_times_are_milliseconds_of_the_call_alone(clock: Clock) -> None:
    calls = {"slow": lambda _: clock.work(0.005), "fast": lambda _: clock.work(0.0001)}
    times = time_interleaved(calls, [0], runs=20, warm_up=1, progress=True)
    assert times["slow"].wall_ms == pytest.approx([5.0] * 20)
    assert times["fast"].wall_ms == pytest.approx([0.1] * 20)


def test_warm_up_rounds_do_not_count(clock: Clock) -> None:
    calls = iter([0.3, 0.3, *[0.001] * 10])
    times = time_interleaved({"cold": lambda _: clock.work(next(calls))}, [0], runs=10, warm_up=2)
    assert times["cold"].wall_ms == pytest.approx([1.0] * 10)


def test_the_first_run_of_a_burst_does_not_count(clock: Clock) -> None:
    seen: list[str] = []

    def call(name: str) -> None:
        clock.work(0.001 if seen and seen[-1] == name else 0.3)  # slow where another ran before
        seen.append(name)

    calls = {name: lambda _, name=name: call(name) for name in "ab"}
    times = time_interleaved(calls, [0], runs=20, warm_up=5, burst=5)
    assert all(values.wall_ms == pytest.approx([1.0] * 20) for values in times.values())


def _waiting(clock: Clock, waits: set[int]) -> Callable[[object], None]:
    """A call of a millisecond that waits for a processor when it is called the n-th time."""
    count = iter(range(1000))

    def call(_: object) -> None:
        clock.work(0.001)
        if next(count) in waits:
            clock.wait(0.004)

    return call


def test_a_run_that_waited_for_a_processor_is_interrupted_and_so_is_the_next(clock: Clock) -> None:
    found = time_interleaved({"a": _waiting(clock, {3, 9})}, [0], runs=20, warm_up=0, burst=20)["a"]
    # one run before the burst does not count
    assert np.flatnonzero(found.interrupted).tolist() == [2, 3, 8, 9]
    assert found.kept_ms == pytest.approx([1.0] * 16)
    assert found.share_interrupted == 0.2


def test_a_run_after_a_wait_between_runs_is_left_out() -> None:
    found = Times(np.full(5, 1.0), np.array([0, 0, 3.0, 0, 0]))
    assert np.flatnonzero(found.interrupted).tolist() == [2, 3]


def test_small_differences_of_the_clocks_are_no_interruption() -> None:
    assert not Times(np.array([0.05, 10.0]), np.array([0.019, 0.29])).interrupted.any()
    assert Times(np.array([0.05, 10.0]), np.array([0.021, 0.31])).interrupted.all()


def test_where_all_runs_were_interrupted_the_shortest_is_kept_and_the_share_is_one() -> None:
    found = Times(np.array([9.0, 8.0, 9.0]), np.full(3, 7.0))
    assert found.share_interrupted == 1.0
    assert found.kept_ms.tolist() == [8.0]


def test_the_clock_is_that_of_the_thread_where_one_does_all_the_work() -> None:
    assert (clock_of(1), clock_of(2)) == ("thread", "process")


def test_waits_until_the_machine_is_quiet_or_the_time_is_over() -> None:
    now, shares = [0.0], iter([0.9, 0.5, 0.05])

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def waiting() -> float:
        return now[0]

    assert wait_quiet(60, most=0.1, look=lambda: next(shares), now=waiting, sleep=sleep)
    assert now[0] == 4.0, "looked three times"
    assert not wait_quiet(5, most=0.1, look=lambda: 0.9, now=waiting, sleep=sleep)
    assert now[0] == 9.0, "waited as long as was allowed and no longer"
    with pytest.raises(LatencyError, match="0 or more, got nan"):
        wait_quiet(float("nan"), most=0.1)


def test_the_share_of_waiting_is_between_none_and_all() -> None:
    assert 0 <= waiting_share(5) <= 1
