"""The monitor: false alarms are as rare as promised, changes show soon, and bad input does no harm."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from selector.device.reconciler import ALL_INPUTS, numbers
from selector.drift.monitor import BLOCK_INPUTS, RECENT_INPUTS, DriftFeature, DriftStatus, Monitor, evidence
from selector.drift.reference import DriftReference
from selector.telemetry.report import Drift
from training.fitting.drift_bins import drift_feature
from zoo.errors import BundleError

NAMES = ("light", "noise", "colour")


def samples(count: int, seed: int, *, light: float = 0.0) -> np.ndarray:
    """Three dependent features ``[count, 3]``."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(count, 1))
    return (common + rng.normal(size=(count, 3)) + [light, 0, 0]).astype(np.float32)


def reference(
    calibration: np.ndarray, *, alpha: float = 0.01, models: tuple[str, ...] = ()
) -> DriftReference:
    """What the monitor compares with; the confidence of every model is spread like the last feature."""
    known = samples(2000, seed=99)
    return DriftReference(
        alpha=alpha,
        features=tuple(drift_feature(name, known[:, i], calibration[:, i]) for i, name in enumerate(NAMES)),
        confidence={model: drift_feature(model, known[:, 2], calibration[:, 2]) for model in models},
        file="drift-0123456789ab.onnx",
        sha256="0" * 64,
        size_bytes=1,
    )


def delay(monitor: Monitor, stream: np.ndarray) -> int:
    """How many inputs until the alarm; one more than there are without one."""
    return next((i + 1 for i, values in enumerate(stream) if monitor.update(values)), len(stream) + 1)


def test_false_alarms_are_rarer_than_promised_over_long_streams() -> None:
    alarms = 0
    for seed in range(60):
        pool = samples(300 + 300, seed)
        alarms += delay(Monitor(reference(pool[:300], alpha=0.1), seed), pool[300:]) <= 300
    assert alarms <= 0.1 * 60


@pytest.mark.parametrize("quiet", [0, 2000])
def test_notices_a_change_within_a_hundred_inputs_however_late_it_comes(quiet: int) -> None:
    monitor = Monitor(reference(samples(500, 1)))
    assert delay(monitor, samples(quiet, 2)) > quiet
    assert delay(monitor, samples(200, 3, light=-3)) <= 100


def test_says_what_moved_and_by_how_much() -> None:
    monitor = Monitor(reference(samples(500, 1)))
    assert monitor.moved == ()
    delay(monitor, samples(200, 3, light=4))
    status = monitor.status()
    assert status.moved[0] == "light"
    assert status.evidence["light"] > status.evidence["colour"]
    assert status.log_evidence >= math.log(1 / 0.01)


def test_an_alarm_stays_until_it_is_reset() -> None:
    monitor = Monitor(reference(samples(500, 1)))
    delay(monitor, samples(200, 3, light=4))
    assert all(monitor.update(values) for values in samples(500, 4))
    monitor.reset()
    assert (monitor.alarm, monitor.seen, len(monitor.recent), monitor.moved) == (False, 0, 0, ())
    assert not any(monitor.update(values) for values in samples(300, 5))


def test_notices_when_only_the_confidence_of_a_model_changes() -> None:
    monitor = Monitor(reference(samples(500, 1), models=("tiny", "small")))
    stream = samples(200, 2)
    assert any(monitor.update(values, ("tiny", -9.0)) for values in stream)
    assert monitor.moved == ("confidence tiny",)


def test_confidences_of_two_models_are_kept_apart() -> None:
    monitor = Monitor(reference(samples(500, 1), models=("tiny", "small")))
    fine, bad = samples(200, 2), samples(200, 3, light=0)
    for i in range(200):
        monitor.update(fine[i], ("small", float(bad[i, 2])))
    assert not monitor.alarm
    assert any(monitor.update(values, ("tiny", -9.0)) for values in samples(300, 4))


def test_a_model_without_a_reference_does_not_count() -> None:
    monitor = Monitor(reference(samples(500, 1)))
    for values in samples(200, 2):
        monitor.update(values, ("other", -9.0))
    assert not monitor.alarm


def test_a_stream_that_stands_still_is_noticed() -> None:
    monitor = Monitor(reference(samples(500, 1)))
    assert delay(monitor, np.repeat(samples(1, 2), 200, axis=0)) <= 100


def test_a_constant_feature_stays_quiet_and_is_noticed_when_it_changes() -> None:
    flat = samples(500, 1)
    flat[:, 0] = 0.25
    known = drift_feature("light", np.full(50, 0.25, np.float32), flat[:, 0])
    monitor = Monitor(msgspec.structs.replace(reference(flat), features=(known,)))
    assert delay(monitor, np.full((1000, 1), 0.25 + 1e-6, np.float32)) > 1000
    assert delay(monitor, np.full((100, 1), 0.26, np.float32)) <= 100


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_features_that_are_no_numbers_are_a_change(bad: float) -> None:
    monitor = Monitor(reference(samples(500, 1), models=("tiny",)))
    for values in samples(20, 2):
        monitor.update(values, ("tiny", bad))
    assert delay(monitor, np.full((100, 3), bad, np.float32)) <= 100
    assert len(monitor.recent) == 20
    assert b"null" not in msgspec.json.encode(monitor.status())


def test_one_calibration_sample_is_enough_to_stay_honest() -> None:
    alarms = sum(
        delay(Monitor(reference(pool[:1], alpha=0.1), seed), pool[1:]) <= 200
        for seed in range(60)
        for pool in [samples(201, seed)]
    )
    assert alarms <= 6


@pytest.mark.parametrize("shape", [(2,), (4,), (1, 3)])
def test_another_number_of_features_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BundleError, match="expected 3 features"):
        Monitor(reference(samples(50, 1))).update(np.zeros(shape, np.float32))


def stream_delay(monitor: Monitor, stream: np.ndarray) -> int:
    """As :func:`delay`, where inputs may pass."""
    return next(
        (i + 1 for i, values in enumerate(stream) if not monitor.passes() and monitor.update(values)),
        len(stream) + 1,
    )


def test_inputs_that_pass_make_false_alarms_no_less_rare() -> None:
    alarms = 0
    for seed in range(60):
        pool = samples(300 + 300, seed)
        alarms += stream_delay(Monitor(reference(pool[:300], alpha=0.1), seed), pool[300:]) <= 300
    assert alarms <= 0.1 * 60


def test_inputs_pass_while_nothing_changes_and_hardly_afterwards() -> None:
    monitor = Monitor(reference(samples(500, 1)))
    quiet = [monitor.passes() or monitor.update(values) for values in samples(1000, 2)]
    assert 250 <= sum(quiet) <= 500
    assert not monitor.alarm
    assert monitor.seen == 1000
    assert monitor.status().seen == 1000
    alone = Monitor(reference(samples(500, 1)))
    delay(alone, samples(1000, 2))
    changed = samples(200, 3, light=-3)
    late = stream_delay(monitor, changed)
    assert late <= delay(alone, changed) + 10
    assert not any(monitor.passes() or not monitor.update(values) for values in samples(100, 4))


@pytest.mark.parametrize("light", [0.0, -1.0])
@pytest.mark.parametrize("sure", [True, False])
def test_a_block_is_what_its_inputs_are_one_by_one(light: float, sure: bool) -> None:
    one, many = (Monitor(reference(samples(500, 1), models=("tiny",))) for _ in range(2))
    stream = samples(120, 2, light=light)
    known = [("tiny", float(i % 3)) if sure else None for i in range(120)]
    for values, confidence in zip(stream, known, strict=True):
        one.update(values, confidence)
    for i in range(0, 120, 8):
        many.update_block(stream[i : i + 8], known[i : i + 8])
    first, second = one.status(), many.status()
    assert (first.seen, first.alarm, first.since, first.recent) == (
        second.seen,
        second.alarm,
        second.since,
        second.recent,
    )
    assert first.log_evidence == pytest.approx(second.log_evidence)
    assert first.evidence == pytest.approx(second.evidence)


def test_a_block_of_several_models_is_looked_at_one_by_one() -> None:
    one, many = (Monitor(reference(samples(500, 1), models=("tiny", "small"))) for _ in range(2))
    stream = samples(24, 2)
    known = [(("tiny", "small")[i % 2], 1.0) for i in range(24)]
    for values, confidence in zip(stream, known, strict=True):
        one.update(values, confidence)
    many.update_block(stream, known)
    assert one.status() == many.status()


def test_inputs_wait_only_while_nothing_speaks_for_a_change() -> None:
    monitor = Monitor(reference(samples(500, 1)))
    assert monitor.block == BLOCK_INPUTS
    delay(monitor, samples(40, 3, light=-3))
    assert monitor.block == 1


def test_what_passed_is_not_among_the_latest() -> None:
    monitor = Monitor(reference(samples(500, 1)))
    stream = samples(RECENT_INPUTS * 3, 2)
    looked = [values for values in stream if not monitor.passes() and monitor.update(values) is False]
    assert len(looked) < len(stream)
    np.testing.assert_array_equal(monitor.recent, looked[-RECENT_INPUTS:])


def test_keeps_the_latest_inputs_in_order() -> None:
    monitor = Monitor(reference(samples(50, 1)))
    stream = samples(RECENT_INPUTS + 40, 2)
    for values in stream:
        monitor.update(values)
    assert (monitor.recent == stream[-RECENT_INPUTS:]).all()


def test_several_threads_may_update_it() -> None:
    monitor = Monitor(reference(samples(500, 1)))
    stream = samples(400, 2)
    threads = [
        threading.Thread(target=lambda i=i: [monitor.update(v) for v in stream[i::4]]) for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert monitor.seen == 400
    assert not monitor.alarm


def test_the_evidence_against_what_a_window_comes_from_is_the_smallest() -> None:
    bright, dark = reference(samples(500, 1)), reference(samples(500, 1, light=-2))
    for seed in range(20):
        window = samples(RECENT_INPUTS, 50 + seed, light=-2)
        assert evidence(dark, NAMES, window) < math.log(100) < evidence(bright, NAMES, window)


def test_only_features_that_both_know_count_as_evidence() -> None:
    window = samples(RECENT_INPUTS, 2, light=9)
    known = reference(samples(500, 1))
    assert evidence(known, ("other", "noise", "colour"), window) < math.log(100)
    assert evidence(known, ("other", "else", "more"), window) == math.inf
    assert evidence(known, NAMES[::-1], window[:, ::-1]) == evidence(known, NAMES, window)


def test_a_status_travels_as_json_and_fits_into_a_report() -> None:
    monitor = Monitor(reference(samples(500, 1), models=("tiny",)))
    for values in samples(300, 3, light=9):
        monitor.update(values, ("tiny", 0.0))
    status = monitor.status()
    assert msgspec.json.decode(msgspec.json.encode(status), type=DriftStatus) == status
    told = numbers(status)
    assert told[0].name == ALL_INPUTS
    assert told[0].alarm
    assert [one.name for one in told if one.alarm][1] == "light"
    sent = msgspec.json.encode(Drift(bundle="birds", numbers=told))
    assert msgspec.json.decode(sent, type=Drift).numbers == told


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(edges=[1.0, 1.0, 2.0]), "ascending"),
        (lambda f: f.update(edges=[1.0, 1e39, 2e39]), "<= 3"),
        (lambda f: f.update(counts=[1, 2]), "one more than edges"),
        (lambda f: f.update(counts=[1, 2, -3, 4]), ">= 0"),
        (lambda f: f.update(edges=[]), "length >= 1"),
        (lambda f: f.update(name="a/b"), "matching regex"),
    ],
)
def test_a_damaged_feature_is_refused(change: Callable[[dict[str, object]], None], message: str) -> None:
    record: dict[str, object] = {"name": "light", "edges": [0.0, 1.0, 2.0], "counts": [1, 2, 3, 4]}
    change(record)
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(record, DriftFeature)


def test_two_features_of_one_name_are_refused() -> None:
    one = reference(samples(50, 1)).features[0]
    with pytest.raises(ValueError, match="distinct"):
        msgspec.structs.replace(reference(samples(50, 1)), features=(one, one))
