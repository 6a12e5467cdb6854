"""Claims about the follower: it works when it is woken, and only as long as it is wanted."""

from __future__ import annotations

import gc
import threading

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


def test_where_its_thread_is_gone_it_gets_another() -> None:
    """As in the copy of a process, which has no threads but its own."""
    owner = Owner()
    owner.follower._thread = threading.Thread(target=lambda: None)
    owner.follower.wake()
    assert owner.follower._thread.is_alive()
    assert owner.called.wait(30)
