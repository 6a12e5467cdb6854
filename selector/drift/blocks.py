"""Blocks: inputs are looked at several together, beside the answers, and count from a fixed input on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from selector.drift.monitor import Confidence, DriftStatus, Floats, Monitor

LAG_INPUTS = 2  # after the last one of a block, until what was seen in it counts

T = TypeVar("T")
# What the monitor is to note of inputs that waited: features float32 [n, F], and confidences.
Look = Callable[[Sequence[T]], tuple[Floats, Sequence[Confidence | None]]]
# Has a function called at some time, in another thread; False: there is none.
Submit = Callable[[Callable[[], None]], bool]


class Blocks(Generic[T]):
    """Which inputs a monitor looks at, which of them together, and from which input on that counts.

    A block is looked at while the next inputs are answered, and counts from the :data:`LAG_INPUTS`-th of them
    on; whoever comes to that input first waits for it, or looks at the block itself. So the state after n
    inputs depends on these alone, not on threads and clocks. Once something speaks for a change, every input
    is looked at where it comes, and counts at once. Safe to use from several threads.
    """

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.alarm = monitor.alarm  # as far as it counts
        self.seen = monitor.seen  # inputs since the beginning or the last reset, with those that wait
        self._block = monitor.block
        self._may_pass = monitor.may_pass
        self._passed_last = False
        self._waiting: list[T] = []
        self._numbers: list[int] = []
        self._under_way: _Block[T] | None = None
        self._due = 0  # the input at which it counts
        self._lock = threading.Lock()

    def note(
        self, item: Callable[[], T], look: Look[T], *, alone: bool = False, submit: Submit | None = None
    ) -> None:
        """Note the next input, unless it passes.

        Parameters
        ----------
        item
            Gives what is kept of it.
        alone
            Look at it now, with all that wait: it is too large to be kept.
        submit
            Has a block looked at beside what follows; None: it is looked at now, and counts when it would.
        """
        with self._lock:
            self.seen += 1
            self._passed_last = self._may_pass and not self._passed_last
            if not self._passed_last:
                self._waiting.append(item())
                self._numbers.append(self.seen)
                if alone:
                    self._flush(look)
            if self._under_way is not None and self.seen >= self._due:
                self._take()
            if len(self._waiting) >= self._block:
                self._start(look, submit)
                if self._block == 1:
                    self._take()

    def reset(self) -> None:
        """Forget all inputs, and an alarm with them."""
        with self._lock:
            if self._under_way is not None:
                self._under_way.drop()
            self._under_way = None
            self._waiting, self._numbers = [], []
            self.monitor.reset()
            self.seen = 0
            self._count()

    def status(self, look: Look[T]) -> DriftStatus:
        """What the monitor has seen, once it has looked at all that wait; that counts then."""
        with self._lock:
            self._flush(look)
            self.monitor.pass_over(self.seen - self.monitor.seen)
            return self.monitor.status()

    def _start(self, look: Look[T], submit: Submit | None) -> None:
        block = _Block(self.monitor, look, self._waiting, self._numbers)
        self._waiting, self._numbers = [], []
        self._under_way, self._due = block, self.seen + LAG_INPUTS
        if self._block == 1 or submit is None or not submit(block.run):
            block.run()

    def _take(self) -> None:
        block, self._under_way = self._under_way, None
        if block is not None:
            block.run()
            if block.error is not None:
                raise block.error
            self._count()

    def _flush(self, look: Look[T]) -> None:
        self._take()
        if self._waiting:
            self._start(look, None)
            self._take()

    def _count(self) -> None:
        """From now on, what the monitor has seen counts."""
        monitor = self.monitor
        self.alarm, self._block, self._may_pass = monitor.alarm, monitor.block, monitor.may_pass
        self._passed_last = False


class _Block(Generic[T]):
    """Inputs that one thread looks at, whichever comes first."""

    def __init__(self, monitor: Monitor, look: Look[T], items: Sequence[T], numbers: Sequence[int]) -> None:
        self.error: Exception | None = None
        self._monitor, self._look = monitor, look
        self._items, self._numbers = items, numbers
        self._lock = threading.Lock()

    def run(self) -> None:
        """Look, unless that was done; wait while another thread does."""
        with self._lock:
            items, self._items = self._items, ()
            if not items:
                return
            try:
                values, confidences = self._look(items)
                self._monitor.update_block(values, confidences, numbers=self._numbers)
            except Exception as error:  # raised where it counts
                self.error = error

    def drop(self) -> None:
        """Never look, unless that was done."""
        with self._lock:
            self._items = ()
