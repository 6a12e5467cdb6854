"""Claims about signals: what is one, what a file holds, and what is said of anything else."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from zoo.errors import InputError
from zoo.inputs import signal_files
from zoo.inputs.kind import InputRecord
from zoo.inputs.kinds import IMAGE, Signal, kind_of

BYTES, SOUND, SENSOR = Signal(), Signal("int16", 16000), Signal("float32")


@pytest.mark.parametrize("kind", [BYTES, SOUND, SENSOR])
def test_a_kind_survives_its_way_through_a_record(kind: Signal) -> None:
    assert kind_of(kind.record) == kind
    assert kind_of(None) is IMAGE
    assert IMAGE.record is None


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (InputRecord(kind="smell"), "expected a kind of input among image, .*signal.*, got 'smell'"),
        (InputRecord(kind="signal", settings={"type": "int8"}), "Invalid enum value 'int8'"),
        (InputRecord(kind="signal", settings={"rate": 0}), "rate: expected 1 to 10,000,000"),
        (InputRecord(kind="signal", settings={"pitch": 1}), "has no settings pitch"),
    ],
)
def test_a_record_of_no_kind_is_refused(record: InputRecord, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind_of(record)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (BYTES, b"", "at least one sample, got an empty signal"),
        (BYTES, np.zeros(3), r"signal uint8 \[L\], got float64 \[3\]. Bytes are uint8"),
        (BYTES, 5, "got int. Give bytes, an array or the path of a file"),
        (SOUND, b"ab", "got 2 bytes. Say what they hold"),
        (SOUND, np.zeros(3, np.float32), r"\(signal \* 32767\).round"),
        (SOUND, np.zeros((3, 2), np.int16), "Take one channel"),
        (SENSOR, np.zeros(3, np.int16), r"\(signal / 32768\).astype"),
        (SENSOR, np.array([1, np.nan], np.float32), "expected finite samples"),
        (SENSOR, np.zeros(0, np.float32), "an empty signal"),
    ],
)
def test_anything_else_is_told_how_it_becomes_a_signal(kind: Signal, given: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind.one(given)


def test_bytes_are_taken_as_they_are_without_a_copy() -> None:
    whole = np.frombuffer(b"abc", np.uint8)
    assert np.shares_memory(BYTES.one(whole), whole)
    assert BYTES.one(memoryview(b"abc")).tolist() == [[97, 98, 99]]
    assert BYTES.one(memoryview(b"abc")[::2]).tolist() == [[97, 99]]


@pytest.mark.parametrize(("width", "channels"), [(1, 1), (2, 1), (2, 2), (3, 1), (4, 1)])
def test_sound_of_any_depth_becomes_one_channel(tmp_path: Path, width: int, channels: int) -> None:
    real = np.array([0.0, 0.5, -0.5, 0.25])
    whole = np.round(real * (2 ** (8 * width - 1))).astype(np.int64) + (128 if width == 1 else 0)
    content = b"".join(int(v).to_bytes(width, "little", signed=width > 1) * channels for v in whole)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((channels, width, 16000, 0, "NONE", ""))
        file.writeframes(content)
    np.testing.assert_allclose(SOUND.load(tmp_path / "a.wav"), real * 32768, atol=1)
    np.testing.assert_allclose(SENSOR.load(tmp_path / "a.wav"), real, atol=1e-2 if width == 1 else 1e-4)


def test_files_that_are_too_large_or_broken_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "good.npy", np.zeros(5, np.int16))
    assert len(SOUND.load(tmp_path / "good.npy")) == 5
    np.save(tmp_path / "two.npy", np.zeros((2, 2), np.int16))
    with (tmp_path / "object.npy").open("wb") as object_file:
        header = {"descr": "|O", "fortran_order": False, "shape": (1,)}
        np.lib.format.write_array_header_1_0(object_file, header)
    (tmp_path / "cut.wav").write_bytes(b"RIFF\x10\x00\x00\x00WAVE")
    with wave.open(str(tmp_path / "whole.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(200))
    (tmp_path / "short.wav").write_bytes((tmp_path / "whole.wav").read_bytes()[:100])
    for name, message in {
        "two.npy": r"expected an array int16 \[L\]",
        "object.npy": "expected a .npy file",
        "cut.wav": "expected a .wav file",
        "short.wav": "expected 100 samples, as the head of the file says, got 28",
        "none.wav": "No such file",
    }.items():
        with pytest.raises(InputError, match=f"{name}: .*{message}"):
            SOUND.load(tmp_path / name)
    (tmp_path / "large").write_bytes(b"0123456789")
    monkeypatch.setattr(signal_files, "MAX_SAMPLES", 9)
    with pytest.raises(InputError, match="large: expected at most 9 bytes, got more"):
        BYTES.load(tmp_path / "large")


def test_the_reference_is_the_same_everywhere() -> None:
    for kind in (BYTES, SOUND, SENSOR):
        signal = kind.reference((1, 600))
        assert (signal.shape, signal.dtype) == ((600,), np.dtype(kind.type))
        assert len(np.unique(signal)) > 100
    assert BYTES.reference((1, 4)).tolist() == BYTES.reference((1, 9))[:4].tolist()
