"""Servers on the way of an answer: how long they may take, whether they are there, what they were sent."""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from selector.answering.runners import Sessions
from selector.bundle.bundle import Bundle
from zoo.errors import PrecisionError, UnreachableError

REMOTE_DEADLINE_S = 1.0  # of an answer that asks a server, all of it
FIRST_ABSENCE_S = 1.0  # for so long a server is not asked after a failure; doubled with each that follows
LONGEST_ABSENCE_S = 60.0
_MARGIN = 1.5  # what is kept for the local answer, over the longest that one took


class TooLateError(UnreachableError):
    """Too little time is left to ask a server: it was not asked."""


class Reach:
    """Whether servers are asked now, and counts of what was. Safe to use from several threads."""

    def __init__(self) -> None:
        self.asked = 0  # inputs that were sent
        self.sent_bytes = 0
        self.failures = 0  # requests without a usable answer in time
        self._absence_s = FIRST_ABSENCE_S
        self._away_until = -float("inf")
        self._local_s = 0.0

    @property
    def away(self) -> bool:
        """Whether a server failed so lately that none is asked."""
        return time.perf_counter() < self._away_until

    def failed(self) -> None:
        """Note that a server did not answer in time, or with something else."""
        self.failures += 1
        self._away_until = time.perf_counter() + self._absence_s
        self._absence_s = min(2 * self._absence_s, LONGEST_ABSENCE_S)

    def reached(self) -> None:
        """Note that a server answered."""
        self._absence_s = FIRST_ABSENCE_S

    def took(self, seconds: float) -> None:
        """Note how long one local answer took; the longest counts, and is forgotten slowly."""
        self._local_s = max(seconds, 0.99 * self._local_s)

    def reserve_s(self, expected_s: float) -> float:
        """What is to be left of a deadline for the local answer."""
        return _MARGIN * max(self._local_s, expected_s)


class Opened(Sessions, Protocol):
    """The sessions of a bundle, which can also ask servers."""

    bundle: Bundle

    def ask(self, name: str, batch: NDArray[np.uint8], deadline_s: float) -> NDArray[np.float32]:
        """Logits ``[N, C]`` of a model on a server, or :class:`UnreachableError` after `deadline_s`."""
        ...


class Asking:
    """The sessions of an engine for one answer, with the time by which servers must have answered.

    Parameters
    ----------
    until
        On the performance counter, in seconds.
    """

    def __init__(self, engine: Opened, reach: Reach, until: float) -> None:
        self._engine, self._reach, self._until = engine, reach, until
        self.scores, self.features, self.judge = engine.scores, engine.features, engine.judge

    def logits(self, name: str, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits ``[N, C]`` of one model, here or from its server.

        Raises
        ------
        UnreachableError
            When its server does not give them in time.
        """
        remote = self._engine.bundle.card(name).remote
        if remote is None:
            return self._engine.logits(name, batch)
        left = self._until - time.perf_counter()
        if left <= 0:
            raise TooLateError(f"expected time to ask for model {name!r}, got none that is left.")
        self._reach.asked += len(batch)
        self._reach.sent_bytes += len(batch) * remote.uplink_bytes
        logits = self._engine.ask(name, batch, left)
        self._reach.reached()
        return logits

    def embedded(
        self, name: str, batch: NDArray[np.uint8], width: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits and embedding of a model on the device; servers give no embeddings."""
        return self._engine.embedded(name, batch, width)


def deadline_of(asked: float | None) -> float:
    """The deadline of an answer in seconds; raises :class:`PrecisionError` when it is none."""
    if asked is None:
        return REMOTE_DEADLINE_S
    if isinstance(asked, bool) or not isinstance(asked, int | float) or not 0 < asked < 1e6:
        raise PrecisionError(
            f"expected remote_deadline_s above 0 and below 1,000,000 seconds, got {asked!r}. "
            "To ask no server at all, give never_remote (--never-remote)."
        )
    return float(asked)
