"""Claims about trials: a process that was started beforehand is used once, or ended."""

from __future__ import annotations

from pathlib import Path

import pytest

import zoo.process
from zoo.client.selftest import Trials

ECHO = "import sys; sys.stdin.buffer.readline(); sys.stdout.write(sys.stdin.read())"


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trials:
    """Trials whose processes say what they are told."""
    monkeypatch.setattr(zoo.process, "_START", ECHO)
    return Trials(tmp_path)


def test_a_process_is_used_once(trials: Trials) -> None:
    with trials:
        trials.prepare()
        ready = trials._ready
        trials.prepare()
        assert trials._ready is ready
        assert trials.run(b"first", timeout_s=30).said == b"first"
        assert ready is not None
        assert ready._process.returncode == 0
        assert trials.run(b"second", timeout_s=30).said == b"second"


def test_what_was_not_used_is_ended(trials: Trials) -> None:
    with trials:
        trials.prepare()
        ready = trials._ready
    assert ready is not None
    assert ready._process.returncode is not None


def test_one_that_has_ended_meanwhile_shows_when_it_is_used(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo.process, "_START", "import sys; sys.exit('no room')")
    with trials:
        trials.prepare()
        assert trials._ready is not None
        trials._ready._process.wait(30)
        done = trials.run(b"x" * 2**20, timeout_s=30)
    assert (done.status, done.words) == (1, "no room")


def test_one_that_takes_too_long_is_ended(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo.process, "_START", "import time; time.sleep(60)")
    with trials:
        trials.prepare()
        slow = trials._ready
        with pytest.raises(TimeoutError):
            trials.run(b"", timeout_s=0.1)
    assert slow is not None
    assert slow._process.returncode is not None
