"""Claims about models of signals: what goes into the network, and which networks are wrapped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from torch import nn

from tests.support.small_signals import CLASSES, network
from zoo import Zoo
from zoo.convert.add import add_signal
from zoo.convert.signals.export_signal import export_signal_module
from zoo.convert.signals.import_signal import wrap_signal
from zoo.convert.signals.signal_front import SignalFront
from zoo.errors import ModelError
from zoo.inputs.signal import Signal
from zoo.models.session import open_session

BYTES, SOUND = Signal(), Signal("int16", 16000)
STRIPPED = open_session(
    SignalFront(BYTES, first=5, last=3, pad=256, strip=8).model(type=TensorProto.INT32).SerializeToString(),
    name="front",
)


def seen(content: bytes) -> list[int]:
    return STRIPPED.run(None, {"signal": np.frombuffer(content, np.uint8)[np.newaxis]})[0][0].tolist()


@settings(max_examples=60, deadline=None)
@given(st.text(" \n\tabc", min_size=1, max_size=30).map(str.encode))
def test_white_space_is_stripped_at_the_outer_ends_as_python_does(content: bytes) -> None:
    first, last = list(content[:8].lstrip()[:5]), list(content[-8:].rstrip()[-3:])
    assert seen(content) == first + [256] * (5 - len(first)) + [256] * (3 - len(last)) + last


def test_a_short_signal_is_padded_and_a_long_one_loses_its_middle() -> None:
    front = SignalFront(BYTES, first=3, last=2, pad=256)
    session = open_session(front.model(type=TensorProto.INT64).SerializeToString(), name="front")
    for content, wanted in {
        b"ab": [97, 98, 256, 97, 98],
        b"a": [97, 256, 256, 256, 97],
        b"abcdefg": [97, 98, 99, 102, 103],
    }.items():
        got = session.run(None, {"signal": np.frombuffer(content, np.uint8)[np.newaxis]})[0]
        assert got[0].tolist() == wanted


def test_sound_is_scaled_for_networks_of_real_numbers() -> None:
    front = SignalFront(SOUND, first=4)
    session = open_session(front.model(form="channel first").SerializeToString(), name="front")
    got = session.run(None, {"signal": np.array([[16384, -32768]], np.int16)})[0]
    assert got.tolist() == [[[0.5, -1.0, 0.0, 0.0]]]


@pytest.mark.parametrize("shape", [("N", 8), (1, 8), ("N", 1, 8), ("N", 8, 1)])
@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT, TensorProto.UINT8])
def test_networks_of_usual_types_and_axes_are_wrapped(shape: tuple[int | str, ...], kind: int) -> None:
    front = SignalFront(BYTES, first=5, last=3, pad=0)
    content = wrap_signal(network(8, scale=0.01, kind=kind, shape=shape), front, name="net", classes=CLASSES)
    session = open_session(content, name="net")
    rows = np.arange(40, dtype=np.uint8).reshape(2, 20)
    logits = session.run(["logits"], {"signal": rows})[0]
    means = [np.r_[row[:5], row[-3:]].mean() for row in rows]
    np.testing.assert_allclose(logits[:, 1], 0.01 * np.array(means), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SignalFront(BYTES, first=0), "expected 1 to .* samples together"),
        (lambda: SignalFront(BYTES, first=9, strip=5), "expected to strip white space of at least the 9"),
        (lambda: SignalFront(SOUND, first=9, strip=9), "of bytes alone"),
        (
            lambda: wrap_signal(network(8, scale=1), SignalFront(BYTES, first=9), name="n", classes=CLASSES),
            r"expected an input \[N, 9\].*got 'numbers' int32 \[N, 8\]",
        ),
    ],
)
def test_fronts_and_networks_that_do_not_fit_are_refused(make: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make()  # type: ignore[operator]


def test_a_network_of_ours_is_exported_and_counted(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Embedding(257, 2), nn.Flatten(), nn.Linear(8, 2))
    front = SignalFront(BYTES, first=4, pad=256)
    content = export_signal_module(module, front, name="net", classes=CLASSES)
    session = open_session(content, name="net")
    got = session.run(["logits"], {"signal": np.array([[1, 2]], np.uint8)})[0]
    with torch.inference_mode():
        wanted = module(torch.tensor([[1, 2, 256, 256]])).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    card = add_signal(
        Zoo.create(tmp_path / "z"), "net", network(8, scale=1), SignalFront(BYTES, first=8), CLASSES
    )
    assert (card.resolution, card.macs, card.kind) == ((1, 8), 16, BYTES)
    assert onnx.load_model_from_string(content).graph.input[0].name == "signal"
