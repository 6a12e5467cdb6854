"""A clock that goes on only when it is told to: on the wall alone, or on the wall and in the processor."""

from __future__ import annotations

import pytest

import zoo.models.timing


class Clock:
    """Stands in for the module ``time`` where calls are timed."""

    def __init__(self) -> None:
        self.wall = 0
        self.processor = 0

    def perf_counter_ns(self) -> int:
        return self.wall

    def thread_time_ns(self) -> int:
        return self.processor

    def process_time_ns(self) -> int:
        return self.processor

    def work(self, seconds: float) -> None:
        self.wait(seconds)
        self.processor += round(seconds * 1e9)

    def wait(self, seconds: float) -> None:
        self.wall += round(seconds * 1e9)


def install(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time calls by a clock of this kind."""
    made = Clock()
    monkeypatch.setattr(zoo.models.timing, "time", made)
    return made
