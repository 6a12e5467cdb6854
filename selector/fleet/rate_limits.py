"""Limits: how many requests a key may make, as token buckets in a table of bounded size."""

from __future__ import annotations

from collections import OrderedDict

import msgspec


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """So many at once, and so many more a second."""

    burst: float
    per_s: float


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
