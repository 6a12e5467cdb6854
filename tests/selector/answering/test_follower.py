"""Claims about the follower: it works when it is woken, and only as long as it is wanted."""

from __future__ import annotations

import gc
import os
import threading
import warnings
from pathlib import Path

import pytest

from selector.answering.follower import Follower
from tests.support.small_device import until


class Owner:
    """Counts how often it was called."""

    def __init__(self) -> None:
        self.calls = 0
        self.called = threading.Event()
        self.follower = Follower(self.work)

    def work(self) -> None:
        self.calls += 1
        self.called.set()


def test_it_calls_its_owner_each_time_it_is_woken() -> None:
    owner = Owner()
    for _ in range(3):
        owner.called.clear()
        owner.follower.wake()
        assert owner.called.wait(30)
    assert owner.calls == 3


def test_it_ends_with_its_owner() -> None:
    owner = Owner()
    thread = owner.follower._thread
    owner.follower.wake()
    assert owner.called.wait(30)
    del owner
    gc.collect()
    until(lambda: not thread.is_alive())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_the_copy_of_a_process_gets_a_thread_of_its_own(tmp_path: Path) -> None:
    owner = Owner()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python advises against forks of processes with threads
        child = os.fork()
    if not child:
        owner.follower.wake()
        (tmp_path / "called").write_text(str(owner.called.wait(30)))
        os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "called").read_text() == "True"
