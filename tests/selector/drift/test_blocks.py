"""Blocks: what counts after so many inputs depends on these alone, whoever looks at them and when."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pytest

from selector.drift.blocks import LEAST_EVERY, MOST_EVERY, Blocks, Look, Submit, every_for
from selector.drift.monitor import BLOCK_INPUTS, Monitor
from tests.selector.drift.test_drift import reference, samples

Row = np.ndarray


def look(rows: Sequence[Row]) -> tuple[np.ndarray, list[None]]:
    return np.stack(rows), [None] * len(rows)


def in_a_thread(work: Callable[[], None]) -> bool:
    threading.Thread(target=work).start()
    return True


def note(
    blocks: Blocks[Row],
    row: Row,
    look: Look[Row] = look,
    *,
    alone: bool = False,
    submit: Submit | None = None,
) -> None:
    number = blocks.comes()
    if number:
        blocks.note(number, lambda: row, look, alone=alone, submit=submit)


WAYS: list[Submit | None] = [None, lambda work: False, lambda work: True, in_a_thread]


def followed(
    stream: np.ndarray, submit: Submit | None, *, alone: int = -1, every: int = LEAST_EVERY
) -> list[tuple[bool, int]]:
    """After every input, whether there was an alarm, and how many were seen; then what the monitor says."""
    blocks: Blocks[Row] = Blocks(Monitor(reference(samples(500, 1))), every=every)
    found: list = []
    for i, row in enumerate(stream):
        note(blocks, row, alone=i == alone, submit=submit)
        found.append((blocks.alarm, blocks.seen))
    return [*found, blocks.status(look)]


@pytest.mark.parametrize("every", [LEAST_EVERY, 3, 4, MOST_EVERY])
@pytest.mark.parametrize("alone", [-1, 75])
def test_the_state_after_so_many_inputs_is_the_same_however_they_are_looked_at(
    alone: int, every: int
) -> None:
    for before in (0, 100):
        stream = np.concatenate([samples(before, 2), samples(120, 3, light=-3)])
        first, *others = [followed(stream, submit, alone=alone, every=every) for submit in WAYS]
        assert all(other == first for other in others)
        assert first[-2] == (True, before + 120)
        assert first[-1].seen == before + 120
        assert first[-1].since < 120


def test_a_block_counts_some_inputs_after_its_last_one() -> None:
    far = Monitor(msgspec.structs.replace(reference(samples(500, 1)), alpha=0.5))
    blocks: Blocks[Row] = Blocks(far)
    for _ in range(BLOCK_INPUTS + LEAST_EVERY):
        assert not blocks.alarm, "what was seen does not count yet"
        note(blocks, np.full(3, 9, np.float32))
    assert blocks.alarm


def test_what_cannot_be_looked_at_is_said_where_it_would_count() -> None:
    def fails(rows: Sequence[Row]) -> tuple[np.ndarray, list[None]]:
        raise ValueError("no features")

    for submit in WAYS:
        blocks: Blocks[Row] = Blocks(Monitor(reference(samples(50, 1))))
        for row in samples(BLOCK_INPUTS + LEAST_EVERY - 1, 2):
            note(blocks, row, fails, submit=submit)
        with pytest.raises(ValueError, match="no features"):
            note(blocks, np.zeros(3, np.float32), fails, submit=submit)
        note(blocks, np.zeros(3, np.float32), submit=submit)
        assert blocks.status(look).seen == BLOCK_INPUTS + LEAST_EVERY + 1


def test_a_reset_forgets_what_waits_and_what_is_under_way() -> None:
    for submit in WAYS:
        blocks: Blocks[Row] = Blocks(Monitor(reference(samples(50, 1))))
        for row in samples(BLOCK_INPUTS + 1, 2):
            note(blocks, row, submit=submit)
        blocks.reset()
        status = blocks.status(look)
        assert (status.seen, status.recent, blocks.seen) == (0, (), 0)


@pytest.mark.parametrize("every", [LEAST_EVERY, 3, 4, MOST_EVERY])
def test_while_nothing_speaks_for_a_change_one_of_so_many_inputs_is_looked_at(every: int) -> None:
    blocks: Blocks[Row] = Blocks(Monitor(reference(samples(500, 1))), every=every)
    looked: list[int] = []
    for i, row in enumerate(samples(2000, 2)):
        number = blocks.comes()
        if number:
            blocks.note(number, lambda i=i, row=row: looked.append(i) or row, look)  # type: ignore[misc]
    assert blocks.status(look).seen == 2000
    steps = np.bincount(np.diff(looked))
    assert {*steps.nonzero()[0].tolist()} <= {1, every - 1, every}, "all or one of so many"
    assert steps[every] > steps[1]


def test_threads_that_come_at_once_are_all_counted() -> None:
    blocks: Blocks[Row] = Blocks(Monitor(reference(samples(500, 1))), every=3)

    def ask() -> None:
        for row in samples(500, 2):
            note(blocks, row, submit=in_a_thread)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for row in samples(1, 2):
        note(blocks, row)
    status = blocks.status(look)
    assert status.seen == blocks.seen == 2001
    assert status.since <= status.seen


def test_the_faster_answers_are_the_more_inputs_pass() -> None:
    found = [every_for(ms) for ms in (100.0, 0.8, 0.4, 0.25, 0.1, 0.01, 0.0)]
    assert found == [2, 2, 2, 4, 8, 8, 8]
