"""Limits: how many requests a key may make, and how many lines a log takes, as token buckets."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict

import msgspec

log = logging.getLogger("zooselect.serve")


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """So many at once, and so many more a second."""

    burst: float
    per_s: float


MAX_LOG_PLACES = 1000
MAX_TOLD_CHARACTERS = 300
LOG_RATE = Rate(burst=20, per_s=0.1)  # lines of one place in the code


class Buckets:
    """One bucket for each key; a bucket that is full again is forgotten.

    Parameters
    ----------
    most
        Keys that are remembered. Beyond them the key that was seen least recently is forgotten.
    """

    def __init__(self, rate: Rate, *, most: int = 100_000) -> None:
        self._rate = rate
        self._most = most
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key → level, at this time

    def wait_s(self, key: str, now: float) -> float:
        """Take one from the bucket of `key`: 0, or the seconds after which it will hold one again."""
        level, then = self._levels.get(key, (self._rate.burst, now))
        level = min(self._rate.burst, level + max(now - then, 0.0) * self._rate.per_s)
        wait = 0.0
        if level >= 1.0:
            level -= 1.0
        else:
            wait = (1.0 - level) / self._rate.per_s
        self._levels[key] = (level, now)
        self._levels.move_to_end(key)
        self._forget(now)
        return wait

    def _forget(self, now: float) -> None:
        full_after = self._rate.burst / self._rate.per_s
        while self._levels:
            key, (_, then) = next(iter(self._levels.items()))
            if len(self._levels) <= self._most and now - then < full_after:
                return
            del self._levels[key]


class LogLimit(logging.Filter):
    """Lets warnings and errors of one place in the code through at a rate, whatever clients do.

    How many were left out is said by the next line of the place, or by :meth:`tell`. For a handler, so that
    every logger is limited. Safe to use from several threads.
    """

    def __init__(self, rate: Rate = LOG_RATE) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._buckets = Buckets(rate, most=MAX_LOG_PLACES)
        self._left_out: dict[tuple[str, int], tuple[int, str]] = {}  # place → lines, and the last of them

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written; called by logging."""
        if record.levelno < logging.WARNING:
            return True
        place = (record.pathname, record.lineno)
        message = record.getMessage()
        with self._lock:
            count, _ = self._left_out.pop(place, (0, ""))
            if self._buckets.wait_s(f"{place}", time.monotonic()):
                self._left_out[place] = (count + 1, message)
                return False
        if count:
            record.msg, record.args = f"{message} ({count} such lines before it were left out)", None
        return True

    def tell(self) -> None:
        """Say how many lines were left out since the last one that was written."""
        with self._lock:
            left_out, self._left_out = self._left_out, {}
        for count, message in left_out.values():
            log.info("%d lines were left out, the last one: %s", count, message[:MAX_TOLD_CHARACTERS])
