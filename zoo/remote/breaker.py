"""A circuit breaker: after some failures in a row a server is not asked for a while, then tried again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

FAILURES = 3
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 5.0


class Breaker:
    """Closed it lets each request through; open none; half open one, whose outcome decides. Thread-safe.

    Parameters
    ----------
    failures
        In a row, after which it opens.
    first_wait_s, longest_wait_s
        Seconds until it lets one request through; they double with each that fails.

    Examples
    --------
    >>> from zoo.remote.breaker import Breaker
    >>> breaker = Breaker(failures=1)
    >>> breaker.allows(), breaker.failed(), breaker.allows()
    (True, None, False)
    """

    def __init__(
        self,
        *,
        failures: int = FAILURES,
        first_wait_s: float = FIRST_WAIT_S,
        longest_wait_s: float = LONGEST_WAIT_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._first_s, self._longest_s, self._now = failures, first_wait_s, longest_wait_s, now
        self._in_a_row = 0
        self._wait_s = first_wait_s
        self._until = -1.0  # when one request may go through; before that none
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether a request would not be sent now."""
        with self._lock:
            return self._in_a_row >= self._most and self._now() < self._until

    @property
    def left_s(self) -> float:
        """Seconds until a request is let through."""
        with self._lock:
            return max(0.0, self._until - self._now()) if self._in_a_row >= self._most else 0.0

    def allows(self) -> bool:
        """Whether a request may be sent; who is told so says how it went."""
        with self._lock:
            if self._in_a_row < self._most:
                return True
            now = self._now()
            if now < self._until:
                return False
            self._until = now + self._wait_s  # others wait for the outcome of this one
            return True

    def worked(self) -> None:
        """Note that the server answered: closed from now on."""
        with self._lock:
            self._in_a_row, self._wait_s = 0, self._first_s

    def failed(self) -> None:
        """Note that it did not."""
        with self._lock:
            self._in_a_row += 1
            if self._in_a_row > self._most:
                self._wait_s = min(2 * self._wait_s, self._longest_s)
            if self._in_a_row >= self._most:
                self._until = self._now() + self._wait_s
