"""Claims about bench: a busy machine is said, waited for within limits, and measured again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

import zoo.models.timing
from selector.answering.measuring.throughput import measure_throughput
from selector.commands.bench import _measured, _notes, _shown
from tests.support.colours import latency_table
from tests.support.command_line import CommandLine
from zoo import LatencyTable, Zoo
from zoo.errors import DigestError, LatencyError
from zoo.models.latency import summarise
from zoo.models.timing import Times

if TYPE_CHECKING:
    from tests.support.one_files import OneFiles


@pytest.fixture
def quiet(small_zoo: Zoo) -> LatencyTable:
    return latency_table(small_zoo)


def busy_of(table: LatencyTable) -> LatencyTable:
    waited = np.where(np.arange(100) % 4 == 0, 5.0, 0.0)
    latency = summarise(Times(np.full(100, 6.0), waited))
    rows = {name: msgspec.structs.replace(row, latency=latency) for name, row in table.models.items()}
    return msgspec.structs.replace(table, models=rows)


def test_a_busy_machine_is_said_with_the_share(quiet: LatencyTable) -> None:
    rows = {name: row.latency for name, row in quiet.models.items()}
    assert _notes(rows, quiet, 0) == []
    (note,) = _notes({}, busy_of(quiet), 30)
    assert note.startswith("BUSY after 30 s of waiting for a quiet machine: other programs interrupted 50%")


def test_without_a_wait_there_is_one_measurement(quiet: LatencyTable) -> None:
    made = iter([busy_of(quiet), quiet])
    assert _measured(lambda: next(made), 0).busy


def test_with_a_wait_it_is_measured_again_until_it_was_quiet(
    quiet: LatencyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo.models.timing, "wait_quiet", lambda seconds, most: seconds > 0)
    made = iter([busy_of(quiet), busy_of(quiet), quiet])
    assert not _measured(lambda: next(made), 600).busy
    assert next(made, None) is None


def test_the_table_shows_shape_and_interruptions_and_two_peaks_are_said(quiet: LatencyTable) -> None:
    latency = summarise([1.0] * 60 + [1.5] * 40)
    shown = _shown({"tiny": latency})
    assert shown.splitlines()[0].split()[-5:] == ["ms", "interrupted", "min", "..", "p99"]
    assert shown.splitlines()[2].endswith("0%  █          ▆")
    (note,) = _notes({"tiny": latency}, quiet, 0)
    assert note.startswith("Two peaks: tiny at 1.000 and 1.500 ms")


def test_with_more_threads_the_note_says_what_can_be_told(quiet: LatencyTable) -> None:
    many = msgspec.structs.replace(quiet, threads=4)
    (note,) = _notes({}, many, 0)
    assert "With 4 threads" in note


def test_a_selector_in_one_file_is_measured_as_a_whole(one_files: OneFiles, zooselect: CommandLine) -> None:
    file = one_files["cascade"]
    said = zooselect("bench", file, "--throughput", "--workers", 1, "--seconds", 0.01)
    assert "predict_batch" in said.out
    assert f"got the file {file}. Measure the bundle" in zooselect("bench", file, code=1).err
    told = zooselect("bench", file, "--throughput", "--provider", "CPU", code=1).err
    assert "expected --throughput or --provider, got both" in told


def test_throughput_is_measured_of_threads_and_of_processes(zooselect: CommandLine, small_zoo: Zoo) -> None:
    small_zoo.remove("small")
    small_zoo.remove("tiny")
    said = zooselect("bench", small_zoo.folder, "--throughput", "--workers", 1, "--seconds", 0.01)
    rows = [line.split()[:2] for line in said.out.splitlines()[3:]]
    assert rows == [["full", "threads"], ["full", "processes"]]
    with pytest.raises(LatencyError, match="expected 1 to 256 workers, got 0"):
        measure_throughput(small_zoo.folder, [np.zeros((8, 8, 3), np.uint8)], workers=0)
    (small_zoo.folder / small_zoo.card("full").file).unlink()
    with pytest.raises(DigestError):
        measure_throughput(small_zoo.folder, [np.zeros((8, 8, 3), np.uint8)], workers=1)
