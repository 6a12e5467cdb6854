"""Blocks: inputs are looked at several together, beside the answers, and count from a fixed input on."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from selector.drift.monitor import Confidence, DriftStatus, Floats, Monitor

LEAST_EVERY = 2  # while nothing speaks for a change, one of so many inputs is looked at, at least
MOST_EVERY = 8

# Milliseconds of answers, at least, for each input that is looked at. Right after a model, looking takes some
# 40 µs; of those, answers in another thread wait for 10 to 20.
_MS_A_LOOK = 0.8

T = TypeVar("T")
# What the monitor is to note of inputs that waited: features float32 [n, F], and confidences.
Look = Callable[[Sequence[T]], tuple[Floats, Sequence[Confidence | None]]]
# Has a function called at some time, in another thread; False: there is none.
Submit = Callable[[Callable[[], None]], bool]


def every_for(answer_ms: float) -> int:
    """One of how many inputs is looked at while nothing speaks for a change, beside answers of so long.

    The faster answers are, the more of them pass: looking takes about the same share of the time, and a
    change shows as soon by the clock, though after more inputs.

    Examples
    --------
    >>> every_for(1.0), every_for(0.2), every_for(0.0)
    (2, 4, 8)
    """
    wanted = _MS_A_LOOK / max(answer_ms, _MS_A_LOOK / MOST_EVERY)
    return max(LEAST_EVERY, min(MOST_EVERY, math.ceil(wanted - 1e-9)))


class Blocks(Generic[T]):
    """Which inputs a monitor looks at, which of them together, and from which input on that counts.

    A block is looked at while the next inputs are answered, and counts some inputs later; whoever comes to
    that input first waits for it, or looks at the block itself. So the state after n inputs depends on these
    alone, not on threads and clocks. Once something speaks for a change, every input is looked at where it
    comes, and counts at once. Safe to use from several threads.

    Parameters
    ----------
    every
        One of how many inputs is looked at while nothing speaks for a change; see :func:`every_for`.
    """

    def __init__(self, monitor: Monitor, *, every: int = LEAST_EVERY) -> None:
        self.monitor = monitor
        self.every = every
        self.seen = monitor.seen  # inputs since the beginning or the last reset, with those that wait
        self._lock = threading.Lock()
        self._waiting: list[T] = []
        self._numbers: list[int] = []
        self._under_way: _Block[T] | None = None
        self._due = 0  # the input at which it counts
        self._look_at = 0  # the next input to look at
        self._begin()

    def _begin(self) -> None:
        self._last = self.seen  # that was looked at
        self._coming = itertools.count(self.seen + 1)
        self._count(self.seen)
        self._plan()

    def comes(self) -> int:
        """Count the next input: its number where it is to be noted, 0 where it passes."""
        number = next(self._coming)
        self.seen = number
        return number if number >= self._something_at else 0

    def note(
        self,
        number: int,
        item: Callable[[], T],
        look: Look[T],
        *,
        alone: bool = False,
        submit: Submit | None = None,
    ) -> None:
        """Note an input that does not pass.

        Parameters
        ----------
        number
            As :meth:`comes` gave it.
        item
            Gives what is kept of it, where it is looked at.
        alone
            Look at it now, with all that wait: it is too large to be kept.
        submit
            Has a block looked at beside what follows; None: it is looked at now, and counts when it would.
        """
        with self._lock:
            if number >= self._look_at or self._step == 1:
                number = max(number, self._look_at - 1)  # threads do not always come in the order of numbers
                self._waiting.append(item())
                self._numbers.append(number)
                self._last, self._look_at = number, number + self._step
                if alone:
                    self._flush(number, look)
            if self._under_way is not None and number >= self._due:
                self._take(number)
            if len(self._waiting) >= self._block:
                self._start(number, look, submit)
                if self._block == 1:
                    self._take(number)
            self._plan()

    def reset(self) -> None:
        """Forget all inputs, and an alarm with them."""
        with self._lock:
            if self._under_way is not None:
                self._under_way.drop()
            self._under_way = None
            self._waiting, self._numbers = [], []
            self.monitor.reset()
            self.seen = 0
            self._begin()

    def status(self, look: Look[T]) -> DriftStatus:
        """What the monitor has seen, once it has looked at all that wait; that counts then."""
        with self._lock:
            self._flush(self.seen, look)
            self._plan()
            self.monitor.pass_over(max(0, self.seen - self.monitor.seen))
            return self.monitor.status()

    def _start(self, number: int, look: Look[T], submit: Submit | None) -> None:
        block = _Block(self.monitor, look, self._waiting, self._numbers)
        self._waiting, self._numbers = [], []
        self._under_way = block
        self._due = number + max(LEAST_EVERY, min(self.every - 1, self._block))
        if self._block == 1 or submit is None or not submit(block.run):
            block.run()

    def _take(self, number: int) -> None:
        block, self._under_way = self._under_way, None
        if block is not None:
            block.run()
            if block.error is not None:
                raise block.error
            self._count(number)

    def _flush(self, number: int, look: Look[T]) -> None:
        self._take(number)
        if self._waiting:
            self._start(number, look, None)
            self._take(number)

    def _count(self, number: int) -> None:
        """From this input on, what the monitor has seen counts."""
        monitor = self.monitor
        self.alarm, self._block = monitor.alarm, monitor.block  # as far as they count
        self._step = self.every if monitor.may_pass else 1
        planned = self._last + self._step
        self._look_at = planned if planned > number else number + self._step

    def _plan(self) -> None:
        """Set the next input at which anything is to be done."""
        waits = self._under_way is not None
        self._something_at = min(self._look_at, self._due) if waits else self._look_at


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
