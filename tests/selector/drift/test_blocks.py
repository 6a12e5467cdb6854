"""Blocks: what counts after so many inputs depends on these alone, whoever looks at them and when."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pytest

from selector.drift.blocks import LAG_INPUTS, Blocks, Submit
from selector.drift.monitor import BLOCK_INPUTS, Monitor
from tests.selector.drift.test_drift import reference, samples

Row = np.ndarray


def look(rows: Sequence[Row]) -> tuple[np.ndarray, list[None]]:
    return np.stack(rows), [None] * len(rows)


def in_a_thread(work: Callable[[], None]) -> bool:
    threading.Thread(target=work).start()
    return True


WAYS: list[Submit | None] = [None, lambda work: False, lambda work: True, in_a_thread]


def followed(stream: np.ndarray, submit: Submit | None, *, alone: int = -1) -> list[tuple[bool, int]]:
    """After every input, whether there was an alarm, and how many were seen; then what the monitor says."""
    blocks: Blocks[Row] = Blocks(Monitor(reference(samples(500, 1))))
    found: list = []
    for i, row in enumerate(stream):
        blocks.note(lambda row=row: row, look, alone=i == alone, submit=submit)  # type: ignore[misc]
        found.append((blocks.alarm, blocks.seen))
    return [*found, blocks.status(look)]


@pytest.mark.parametrize("alone", [-1, 75])
def test_the_state_after_so_many_inputs_is_the_same_however_they_are_looked_at(alone: int) -> None:
    for before in (0, 100):
        stream = np.concatenate([samples(before, 2), samples(60, 3, light=-3)])
        first, *others = [followed(stream, submit, alone=alone) for submit in WAYS]
        assert all(other == first for other in others)
        assert first[-2] == (True, before + 60)
        assert first[-1].seen == before + 60
        assert first[-1].since < 60


def test_a_block_counts_some_inputs_after_its_last_one() -> None:
    far = Monitor(msgspec.structs.replace(reference(samples(500, 1)), alpha=0.5))
    blocks: Blocks[Row] = Blocks(far)
    for _ in range(BLOCK_INPUTS + LAG_INPUTS):
        assert not blocks.alarm, "what was seen does not count yet"
        blocks.note(lambda: np.full(3, 9, np.float32), look)
    assert blocks.alarm


def test_what_cannot_be_looked_at_is_said_where_it_would_count() -> None:
    def fails(rows: Sequence[Row]) -> tuple[np.ndarray, list[None]]:
        raise ValueError("no features")

    for submit in WAYS:
        blocks: Blocks[Row] = Blocks(Monitor(reference(samples(50, 1))))
        for row in samples(BLOCK_INPUTS + LAG_INPUTS - 1, 2):
            blocks.note(lambda row=row: row, fails, submit=submit)  # type: ignore[misc]
        with pytest.raises(ValueError, match="no features"):
            blocks.note(lambda: np.zeros(3, np.float32), fails, submit=submit)
        blocks.note(lambda: np.zeros(3, np.float32), look, submit=submit)
        assert blocks.status(look).seen == BLOCK_INPUTS + LAG_INPUTS + 1


def test_a_reset_forgets_what_waits_and_what_is_under_way() -> None:
    for submit in WAYS:
        blocks: Blocks[Row] = Blocks(Monitor(reference(samples(50, 1))))
        for row in samples(BLOCK_INPUTS + 1, 2):
            blocks.note(lambda row=row: row, look, submit=submit)  # type: ignore[misc]
        blocks.reset()
        status = blocks.status(look)
        assert (status.seen, status.recent, blocks.seen) == (0, (), 0)
