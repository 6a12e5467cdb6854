"""Claims about latency: measured fairly, described honestly, refused when stale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.clock import Clock, install
from tests.support.small_models import add_colours, build_onnx, plain_image
from zoo import LatencyTable, Zoo
from zoo.errors import CardError, ImageError, LatencyError, SchemaVersionError
from zoo.models.latency import load_table, measure, save_table, summarise
from zoo.models.machine import machine
from zoo.models.model import Model
from zoo.models.timing import Times

IMAGES = [plain_image("red"), plain_image("blue")]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return install(monkeypatch)


@pytest.fixture
def table(small_zoo: Zoo) -> LatencyTable:
    return measure(small_zoo, IMAGES, device="this-machine", runs=30)


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
    assert latency.runs == len(times) == len(latency.times_ms)
    assert latency.interrupted == 0
    assert latency.p95_ms <= (latency.p99_ms or 0) * (1 + 1e-9)


@pytest.mark.parametrize("times", [[], [1.0, np.nan], [1.0, 0.0], [1.0, np.inf], [-1.0]])
def test_refuses_times_that_cannot_be(times: list[float]) -> None:
    with pytest.raises(LatencyError, match="expected positive finite times"):
        summarise(times)


def test_measures_every_model_and_describes_the_machine(small_zoo: Zoo, table: LatencyTable) -> None:
    assert tuple(table.models) == small_zoo.names
    assert table.image == (8, 8)
    assert table.machine == machine()
    assert table.machine.cores >= 1
    assert all(row.latency.runs + (row.latency.interrupted or 0) == 30 for row in table.models.values())
    assert set(table.costs_ms(small_zoo)) == set(small_zoo.names)


def test_each_model_gets_the_time_that_its_own_answers_took(
    small_zoo: Zoo, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, taken = Model.logits, {"tiny": 0.001, "small": 0.002, "full": 0.007}

    def logits(model: Model, images: np.ndarray) -> np.ndarray:
        clock.work(taken[model.card.name])
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
        ('"schema_version": 2', '"schema_version": 9', SchemaVersionError, "got 9"),
        ('"threads": 1', '"threads": 0', CardError, r"`\$\.threads`"),
        ('"runs": ', '"runs": -', CardError, r"`\$\.models\[\.\.\.\]\.latency\.runs`"),
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
    with pytest.raises(LatencyError, match="at most 10,000 runs per model, got 10,001"):
        measure(small_zoo, IMAGES, device="here", runs=10_001)
    with pytest.raises(ImageError, match="expected a uint8 array"):
        measure(small_zoo, [IMAGES[0][..., 0]], device="here")


@pytest.mark.parametrize("setting", [{"device": "My Phone"}, {"device": ""}, {"threads": 0}])
def test_refuses_settings_before_it_measures_what_could_not_be_read_back(
    small_zoo: Zoo, setting: dict[str, Any]
) -> None:
    with pytest.raises(LatencyError, match=f"{next(iter(setting))}: Expected"):
        measure(small_zoo, IMAGES, **{"device": "here", **setting})


def test_interrupted_runs_are_counted_and_left_out_of_every_figure() -> None:
    wall, waited = np.full(100, 1.0), np.zeros(100)
    wall[10], waited[10] = 9.0, 8.0  # run 11 follows it
    found = summarise(Times(wall, waited))
    assert (found.runs, found.interrupted, found.share_interrupted) == (98, 2, 0.02)
    assert found.p50_ms == found.mean_ms == found.p99_ms == found.typical_ms == 1.0
    assert set(found.times_ms) == {1.0}


def test_where_every_run_was_interrupted_the_shortest_is_shown_and_the_share_says_so() -> None:
    found = summarise(Times(np.arange(30, 0, -1.0), np.full(30, 8.0)))
    assert (found.p50_ms, found.runs, found.interrupted, found.share_interrupted) == (1.0, 1, 29, 29 / 30)


def test_a_machine_is_busy_from_a_tenth_of_interrupted_runs_on(
    small_zoo: Zoo, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Model.logits

    def table(every: int) -> LatencyTable:
        calls = iter(range(10_000))

        def logits(model: Model, images: np.ndarray) -> np.ndarray:
            clock.work(0.001)
            if next(calls) % every == 0:
                clock.wait(0.004)
            return answer(model, images)

        monkeypatch.setattr(Model, "logits", logits)
        return measure(small_zoo, IMAGES, device="here", runs=200)

    quiet, busy = table(60), table(10)
    assert not quiet.busy
    assert busy.busy
    assert 0.1 < (busy.share_interrupted() or 0) < 0.4
    assert busy.share_interrupted(["nobody"]) is None
    assert busy.costs_ms(small_zoo) == pytest.approx(dict.fromkeys(small_zoo.names, 1.0))


def test_a_table_of_the_first_version_opens_and_what_it_lacks_is_unknown(
    small_zoo: Zoo, tmp_path: Path
) -> None:
    latency = {
        "p50_ms": 1.0,
        "p50_low_ms": 0.9,
        "p50_high_ms": 1.1,
        "p95_ms": 2.0,
        "mean_ms": 1.5,
        "runs": 30,
    }
    machine = {"processor": "p", "cores": 1, "system": "s", "python": "3", "onnxruntime": "1"}
    record = {
        "schema_version": 1,
        "device": "old",
        "threads": 1,
        "image": [8, 8],
        "machine": machine,
        "models": {card.name: {"sha256": card.sha256, "latency": latency} for card in small_zoo.cards},
        "selector": None,
    }
    (tmp_path / "old.json").write_text(json.dumps(record))
    table = load_table(tmp_path / "old.json")
    row = table.models["tiny"].latency
    assert (row.p99_ms, row.interrupted, row.share_interrupted, row.times_ms) == (None, None, None, ())
    assert (table.share_interrupted(), table.busy, table.provider, table.clock) == (None, False, None, None)
    assert table.costs_ms(small_zoo)["tiny"] == 1.0, "the median: interrupted runs may be in the mean"


def test_a_table_says_provider_and_clock(small_zoo: Zoo, table: LatencyTable) -> None:
    assert (table.provider, table.clock) == ("CPUExecutionProvider", "thread")
    assert measure(small_zoo, IMAGES, device="here", runs=20, threads=2).clock == "process"
