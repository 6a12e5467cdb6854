"""Calls that end in time, whatever happens within them: made in threads that nobody has to wait for."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from zoo.errors import DeadlineError

MAX_WORKERS = 16  # with one stuck, as in a look-up of a name, others go on; with all of them stuck none
EARLY_S = 0.001  # before the deadline the wait ends, for the way back
T = TypeVar("T")


class _Call(Generic[T]):
    """A call, and what came of it."""

    def __init__(self, call: Callable[[], T]) -> None:
        self.call = call
        self.value: T | None = None
        self.error: BaseException | None = None
        self.done = threading.Event()

    def make(self) -> None:
        try:
            self.value = self.call()
        except BaseException as error:  # raised where it is waited for
            self.error = error
        self.done.set()


class Workers:
    """Threads for calls with a deadline. A name's look-up has no time-out, nor has a proxy's connection.

    Examples
    --------
    >>> import time
    >>> from zoo.remote.workers import Workers
    >>> Workers().run(lambda: 1 + 1, deadline=time.monotonic() + 5)
    2
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[queue.SimpleQueue[_Call[Any] | None]] = []
        self._busy = 0

    def run(self, call: Callable[[], T], *, deadline: float) -> T:
        """What `call` returns, or an error at `deadline` of the monotonic clock; the call is left alone then.

        Raises
        ------
        DeadlineError
            When it is not done by then, or too many calls never ended.
        """
        waits = _Call(call)
        with self._lock:
            orders = self._idle.pop() if self._idle else None
            if orders is None and self._busy >= MAX_WORKERS:
                raise DeadlineError(f"expected an answer, got none to {self._busy} requests that still wait.")
            self._busy += 1
        if orders is None:
            orders = queue.SimpleQueue()
            threading.Thread(target=self._work, args=(orders,), name="zooselect-remote", daemon=True).start()
        orders.put(waits)
        if not waits.done.wait(max(0.0, deadline - time.monotonic() - EARLY_S)):
            raise DeadlineError("expected an answer in time, got none.")
        if waits.error is not None:
            raise waits.error
        return waits.value  # type: ignore[return-value]  # it is done

    @property
    def busy(self) -> int:
        """Calls that have not ended, whether or not they are waited for."""
        return self._busy

    def close(self) -> None:
        """Let the threads that wait end."""
        with self._lock:
            idle, self._idle = self._idle, []
        for orders in idle:
            orders.put(None)

    def _work(self, orders: queue.SimpleQueue[_Call[Any] | None]) -> None:
        while (waits := orders.get()) is not None:
            waits.make()
            del waits
            with self._lock:
                self._busy -= 1
                self._idle.append(orders)
