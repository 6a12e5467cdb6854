"""Claims about features of signals: what they say, and that ONNX Runtime and torch agree."""

from __future__ import annotations

import numpy as np
import pytest

from training.features.input_features import InputFeatures
from training.features.kinds import features_of
from training.features.signal.scout import SignalScout
from training.search.selector_graph import check_feature_graph
from zoo.errors import DataError
from zoo.inputs.kinds import IMAGE
from zoo.inputs.signal import Signal
from zoo.models.session import open_session

KINDS = [Signal(), Signal("int16", 16000), Signal("float32")]


def values(kind: Signal, signal: np.ndarray) -> dict[str, float]:
    features = features_of(kind)
    grid = features.grid_for([])
    session = open_session(features.graph(features.names, grid=grid).SerializeToString(), name="features")
    found = session.run(["features"], kind.feeds(kind.one(signal)))[0][0]
    return dict(zip(features.names, found.tolist(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_computes_what_torch_does(kind: Signal) -> None:
    features = features_of(kind)
    grid = features.grid_for([])
    for names in (features.names, features.watched, ("log_length",)):
        content = features.graph(names, grid=grid).SerializeToString()
        check_feature_graph(content, names, grid, kind)


def test_bytes_are_told_by_what_they_are_made_of() -> None:
    text = values(KINDS[0], np.frombuffer(b"def f(x):\n    return x + 1\n" * 9, np.uint8))
    noise = values(KINDS[0], np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8))
    zeros = values(KINDS[0], np.zeros(300, np.uint8))
    assert text["lower_case_share"] > 0.4 > noise["lower_case_share"]
    assert zeros["entropy"] < 0.1 < text["entropy"] < noise["entropy"] < 8.01
    assert zeros["zero_share"] == pytest.approx(1)
    assert text["log_length"] == pytest.approx(np.log(9 * 27))


def test_a_tone_has_its_energy_in_one_band() -> None:
    t = np.arange(16000)
    high, low = (np.sin(2 * np.pi * t / period).astype(np.float32) for period in (4, 128))
    assert values(KINDS[2], high)["band_1_energy"] > values(KINDS[2], low)["band_1_energy"] + 1
    assert values(KINDS[2], low)["band_6_energy"] > values(KINDS[2], high)["band_6_energy"] + 1
    assert values(KINDS[2], high)["crossing_rate"] > 5 * values(KINDS[2], low)["crossing_rate"]


@pytest.mark.parametrize("kind", KINDS)
def test_features_depend_on_what_is_read_and_on_the_length_alone(kind: Signal) -> None:
    features = features_of(kind)
    grid, rng = features.grid_for([]), np.random.default_rng(0)
    batch = np.stack([kind.random((1, 5000), rng) for _ in range(2)])
    read = features.read(batch, grid)
    assert (read.shape[1:], read.dtype.type) == features.reading(grid)
    names = tuple(name for name in features.names if name != "log_length")
    module = InputFeatures(names, grid=grid, kind=kind)
    changed = batch.copy()
    gone = np.setdiff1d(np.arange(5000), features.read(np.arange(5000)[np.newaxis], grid))
    changed[:, gone] = 0
    np.testing.assert_array_equal(module.of(batch), module.of(changed))


def test_a_scout_learns_what_is_written_at_the_beginning() -> None:
    kind, rng = KINDS[0], np.random.default_rng(0)
    signals = rng.integers(97, 123, (96, 1024), dtype=np.uint8)
    right = rng.random((96, 1)) < 0.5
    signals[right[:, 0], :8] = 48
    features = features_of(kind)
    scout = features.fit_scout(signals, right, ("m",))
    again = SignalScout.from_onnx(scout.to_onnx())
    np.testing.assert_array_equal(scout.log_odds(signals), again.log_odds(signals))
    assert ((scout.log_odds(signals) > 0) == right).mean() > 0.9
    graph = features.graph(("mean", *scout.names), grid=1024, scout=scout).SerializeToString()
    got = open_session(graph, name="features").run(["features"], {"signal": signals})[0]
    np.testing.assert_allclose(got[:, 1:], scout.log_odds(signals), atol=1e-4)


def test_features_and_grids_that_there_are_not_are_refused() -> None:
    features = features_of(KINDS[1])
    for names, grid, message in (
        (("entropy",), 2048, "expected features among log_length"),
        (("mean",), 1000, "multiple of 1024"),
        ((), 2048, "got none"),
    ):
        with pytest.raises(DataError, match=message):
            features.graph(names, grid=grid)
    assert features_of(IMAGE).names[0] == "luma_mean"
