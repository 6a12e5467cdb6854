"""Watching: a monitor is told what answered images look like and how sure the models were."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selector.answering.batches import Batch, Portion
from selector.answering.engine import Engine
from selector.answering.runners import Outcome
from selector.drift.monitor import DriftStatus, Monitor
from zoo.inputs.kind import Batch as Rows

# An image above this does not wait: a copy would take memory, and what the monitor takes is little beside it.
_MOST_BYTES = 2**18


class _Waiting(NamedTuple):
    image: Rows  # one input
    confidence: tuple[str, float] | None


class Watch:
    """The monitor of a bundle with the engine that computes what it looks at.

    Images wait until a few can be looked at together, which takes half the time. Safe to use from several
    threads.

    Parameters
    ----------
    before
        The watch that this one takes the place of; what waits there waits here.
    """

    def __init__(self, engine: Engine, monitor: Monitor, before: Watch | None = None) -> None:
        self._engine = engine
        self._opened = False
        self.monitor = monitor
        self._waiting: list[_Waiting] = [] if before is None else before._waiting
        self._lock: threading.Lock = threading.Lock() if before is None else before._lock

    @property
    def alarm(self) -> bool:
        """Whether inputs are not like those of the certificates any more."""
        return self.monitor.alarm

    @property
    def seen(self) -> int:
        """Inputs since the beginning or the last reset, with those that wait."""
        return self.monitor.seen + len(self._waiting)

    def status(self) -> DriftStatus:
        """What the monitor has seen, once it has looked at all that waits."""
        self.look()
        return self.monitor.status()

    def reset(self) -> None:
        """Forget all inputs, and an alarm with them."""
        with self._lock:
            self._waiting.clear()
        self.monitor.reset()

    def notice(self, images: Batch, outcomes: Sequence[Outcome]) -> None:
        """Note images with what became of them."""
        every = images.images if isinstance(images, Portion) else images
        for i, outcome in enumerate(outcomes):
            self.notice_one(every[i] if isinstance(every, list) else every[i : i + 1], outcome)

    def notice_one(self, image: Rows, outcome: Outcome) -> None:
        """Note a batch of one input with what became of it."""
        monitor = self.monitor
        if monitor.passes():
            return
        if not self._opened:  # what cannot be watched is said at the first image
            self._engine.open_drift()
            self._opened = True
        sure = outcome.confidence
        known = None if sure is None else (outcome.path[0], sure)
        waits = isinstance(image, np.ndarray) and image.nbytes <= _MOST_BYTES
        self._waiting.append(_Waiting(image.copy() if waits else image, known))
        if not waits or len(self._waiting) >= monitor.block:
            self.look()

    def look(self) -> None:
        """Have the monitor look at all that waits."""
        with self._lock:
            waiting = self._waiting[:]
            del self._waiting[: len(waiting)]
            if not waiting:
                return
            values = self.features([one.image for one in waiting])
            self.monitor.update_block(values, [one.confidence for one in waiting])

    def features(self, waiting: Sequence[Rows]) -> NDArray[np.float32]:
        """What the monitor looks at ``[n, F]``, of n batches of one input."""
        if len({image.shape for image in waiting}) == 1:
            return self._engine.watched(waiting[0] if len(waiting) == 1 else np.concatenate(waiting))
        return np.concatenate([self._engine.watched(image) for image in waiting])
