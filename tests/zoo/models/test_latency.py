"""Claims about latency: measured fairly, described honestly, refused when stale."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoo.models.latency
from tests.support.small_models import add_colours, build_onnx, plain_image
from zoo import Latency, LatencyTable, Zoo
from zoo.errors import CardError, ImageError, LatencyError, SchemaVersionError
from zoo.models.latency import load_table, machine, measure, save_table, summarise, time_interleaved
from zoo.models.model import Model

IMAGES = [plain_image("red"), plain_image("blue")]


@pytest.fixture
def table(small_zoo: Zoo) -> LatencyTable:
    return measure(small_zoo, IMAGES, device="this-machine", runs=30)


def test_every_call_runs_once_a_round_on_the_input_of_the_round() -> None:
    seen: list[tuple[str, int]] = []
    calls = {name: lambda item, name=name: seen.append((name, item)) for name in "abc"}
    times = time_interleaved(calls, [10, 20], runs=5, warm_up=2)
    rounds = [seen[i : i + 3] for i in range(0, len(seen), 3)]
    assert len(rounds) == 7
    assert all({name for name, _ in one} == set("abc") for one in rounds)
    assert [{item for _, item in one} for one in rounds[2:]] == [{10}, {20}, {10}, {20}, {10}]
    assert {name: values.shape for name, values in times.items()} == dict.fromkeys("abc", (5,))


def test_the_order_of_the_rounds_is_random_balanced_and_repeatable() -> None:
    def order(seed: int) -> list[str]:
        seen: list[str] = []
        calls = {name: lambda _, name=name: seen.append(name) for name in "abc"}
        time_interleaved(calls, [0], runs=300, warm_up=0, seed=seed)
        return seen

    assert order(1) == order(1) != order(2)
    first = collections.Counter(order(1)[::3])
    assert min(first[name] for name in "abc") > 70  # 100 expected, 8 standard deviation


class Clock:
    """A clock that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(zoo.models.latency, "time", made)
    return made


def test_times_are_milliseconds_of_the_call_alone(clock: Clock) -> None:
    calls = {"slow": lambda _: clock.pass_by(0.005), "fast": lambda _: clock.pass_by(0.0001)}
    times = time_interleaved(calls, [0], runs=20, warm_up=1, progress=True)
    assert times["slow"] == pytest.approx([5.0] * 20)
    assert times["fast"] == pytest.approx([0.1] * 20)


def test_warm_up_rounds_do_not_count(clock: Clock) -> None:
    calls = iter([0.3, 0.3, *[0.001] * 10])
    times = time_interleaved({"cold": lambda _: clock.pass_by(next(calls))}, [0], runs=10, warm_up=2)
    assert times["cold"] == pytest.approx([1.0] * 10)


def test_the_first_run_of_a_burst_does_not_count(clock: Clock) -> None:
    seen: list[str] = []

    def call(name: str) -> None:
        clock.pass_by(0.001 if seen and seen[-1] == name else 0.3)  # slow where another ran before
        seen.append(name)

    calls = {name: lambda _, name=name: call(name) for name in "ab"}
    times = time_interleaved(calls, [0], runs=20, warm_up=5, burst=5)
    assert all(values == pytest.approx([1.0] * 20) for values in times.values())


def test_the_interval_of_the_median_covers_it_95_times_in_100() -> None:
    rng = np.random.default_rng(7)
    for runs in (20, 101, 200):
        samples = rng.lognormal(0.0, 0.8, (2000, runs))  # median 1 ms, the long tail of real timings
        latencies = [summarise(sample) for sample in samples]
        covered = np.mean([one.p50_low_ms <= 1.0 <= one.p50_high_ms for one in latencies])
        assert 0.94 <= covered <= 0.99, f"{covered} for {runs} runs"


def test_the_interval_of_the_median_is_no_wider_than_it_has_to_be() -> None:
    latency = summarise(np.arange(1, 1001, dtype=float))
    assert latency.p50_low_ms == pytest.approx(500.5 - 31, abs=2)
    assert latency.p50_high_ms == pytest.approx(500.5 + 31, abs=2)


@given(st.lists(st.floats(1e-4, 1e6), min_size=1, max_size=60))
def test_the_figures_of_a_summary_are_ordered(times: list[float]) -> None:
    latency = summarise(times)
    assert latency.p50_low_ms <= latency.p50_ms <= latency.p50_high_ms
    assert latency.p50_ms <= latency.p95_ms * (1 + 1e-9)
    assert min(times) * (1 - 1e-9) <= latency.mean_ms <= max(times) * (1 + 1e-9)
    assert latency.runs == len(times)


@pytest.mark.parametrize("times", [[], [1.0, np.nan], [1.0, 0.0], [1.0, np.inf], [-1.0]])
def test_refuses_times_that_cannot_be(times: list[float]) -> None:
    with pytest.raises(LatencyError, match="expected positive finite times"):
        summarise(times)


def test_measures_every_model_and_describes_the_machine(small_zoo: Zoo, table: LatencyTable) -> None:
    assert tuple(table.models) == small_zoo.names
    assert table.image == (8, 8)
    assert table.machine == machine()
    assert table.machine.cores >= 1
    assert all(isinstance(row.latency, Latency) and row.latency.runs == 30 for row in table.models.values())
    assert set(table.costs_ms(small_zoo)) == set(small_zoo.names)


def test_each_model_gets_the_time_that_its_own_answers_took(
    small_zoo: Zoo, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, taken = Model.logits, {"tiny": 0.001, "small": 0.002, "full": 0.007}

    def logits(model: Model, images: np.ndarray) -> np.ndarray:
        clock.pass_by(taken[model.card.name])
        return answer(model, images)

    monkeypatch.setattr(Model, "logits", logits)
    costs = measure(small_zoo, IMAGES, device="here", runs=20).costs_ms(small_zoo)
    assert costs == pytest.approx({"tiny": 1.0, "small": 2.0, "full": 7.0})


def test_a_table_survives_a_round_trip(table: LatencyTable, tmp_path: Path) -> None:
    save_table(table, tmp_path / "latency" / "here.json")
    assert load_table(tmp_path / "latency" / "here.json") == table


def test_refuses_a_table_that_does_not_know_a_model(small_zoo: Zoo, table: LatencyTable) -> None:
    add_colours(small_zoo, "new", build_onnx())
    message = "'new' is not in the latency table of device 'this-machine', which holds: tiny, small, full"
    with pytest.raises(LatencyError, match=f"{message}. Measure again"):
        table.costs_ms(small_zoo)


def test_refuses_a_table_of_a_model_that_changed_since(small_zoo: Zoo, table: LatencyTable) -> None:
    add_colours(small_zoo, "tiny", build_onnx(work=1))
    with pytest.raises(LatencyError, match="'tiny' has changed since the latency table"):
        table.costs_ms(small_zoo)


def test_a_table_still_serves_a_zoo_that_lost_a_model(small_zoo: Zoo, table: LatencyTable) -> None:
    small_zoo.remove("small")
    assert list(table.costs_ms(small_zoo)) == ["tiny", "full"]


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ('"schema_version": 1', '"schema_version": 9', SchemaVersionError, "got 9"),
        ('"threads": 1', '"threads": 0', CardError, r"`\$\.threads`"),
        ('"runs": 30', '"runs": -1', CardError, r"`\$\.models\[\.\.\.\]\.latency\.runs`"),
        ('"p50_ms": ', '"p50_ms": -', CardError, r"latency\.p50_ms`"),
        ('"device": ', '"gadget": ', CardError, "gadget"),
    ],
)
def test_refuses_a_damaged_table(
    table: LatencyTable, tmp_path: Path, old: str, new: str, error: type[Exception], message: str
) -> None:
    save_table(table, tmp_path / "here.json")
    content = (tmp_path / "here.json").read_text()
    assert old in content
    (tmp_path / "here.json").write_text(content.replace(old, new))
    with pytest.raises(error, match=message):
        load_table(tmp_path / "here.json")


def test_says_what_is_missing_for_a_measurement(small_zoo: Zoo, tmp_path: Path) -> None:
    with pytest.raises(LatencyError, match="got 3 models and 0 images"):
        measure(small_zoo, [], device="here")
    with pytest.raises(LatencyError, match="got 0 models and 2 images"):
        measure(Zoo.create(tmp_path / "empty"), IMAGES, device="here")
    with pytest.raises(LatencyError, match="at least 20 runs per model for a p95, got 5"):
        measure(small_zoo, IMAGES, device="here", runs=5)
    with pytest.raises(ImageError, match="expected a uint8 array"):
        measure(small_zoo, [IMAGES[0][..., 0]], device="here")


@pytest.mark.parametrize("setting", [{"device": "My Phone"}, {"device": ""}, {"threads": 0}])
def test_refuses_settings_before_it_measures_what_could_not_be_read_back(
    small_zoo: Zoo, setting: dict[str, Any]
) -> None:
    with pytest.raises(LatencyError, match=f"{next(iter(setting))}: Expected"):
        measure(small_zoo, IMAGES, **{"device": "here", **setting})
