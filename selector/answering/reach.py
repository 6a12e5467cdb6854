"""Servers on the way of an answer: how long they may take, whether they are there, what they were sent."""

from __future__ import annotations

import threading
import time
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from selector.answering.runners import Sessions
from selector.bundle.bundle import Bundle
from selector.telemetry.demand import RemoteUse
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
        self.inputs = 0  # that servers answered
        self.sent_bytes = 0  # for these
        self.failures = 0  # answers for which a server was asked in vain
        self._absence_s = FIRST_ABSENCE_S
        self._away_until = -float("inf")
        self._local_s = 0.0
        self._lock = threading.Lock()

    @property
    def away(self) -> bool:
        """Whether a server failed so lately that none is asked."""
        return time.monotonic() < self._away_until

    def used(self) -> RemoteUse:
        """The counts, for a report."""
        with self._lock:
            return RemoteUse(inputs=self.inputs, sent_bytes=self.sent_bytes, failures=self.failures)

    def failed(self, *, asked: bool = True) -> None:
        """Note that a server did not answer in time, or with something else; or was not `asked`."""
        now = time.monotonic()
        with self._lock:
            self.failures += asked
            if now >= self._away_until:  # of several at a time the first counts
                self._away_until = now + self._absence_s
                if asked:
                    self._absence_s = min(2 * self._absence_s, LONGEST_ABSENCE_S)

    def reached(self, inputs: int, sent_bytes: int) -> None:
        """Note that a server answered so many inputs."""
        with self._lock:
            self.inputs += inputs
            self.sent_bytes += sent_bytes
            self._absence_s, self._away_until = FIRST_ABSENCE_S, -float("inf")

    def took(self, seconds: float) -> None:
        """Note how long one local answer took; the longest counts, and is forgotten slowly."""
        self._local_s = max(seconds, 0.99 * self._local_s)

    def reserve_s(self, expected_s: float) -> float:
        """What is to be left of a deadline for the local answer."""
        return _MARGIN * max(self._local_s, expected_s)


class Opened(Sessions, Protocol):
    """The sessions of a bundle, which can also ask servers."""

    bundle: Bundle

    def ask(self, name: str, batch: NDArray[np.uint8], until: float) -> tuple[NDArray[np.float32], int]:
        """Logits ``[N, C]`` of a model on a server, and the bytes sent, or :class:`UnreachableError`."""
        ...


class Asking:
    """The sessions of an engine for one answer, with the time by which servers must have answered.

    Parameters
    ----------
    until
        In seconds of the monotonic clock.
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
        if time.monotonic() >= self._until:
            raise TooLateError(
                f"expected time to ask for model {name!r}, got none that is left. Give a longer "
                "remote_deadline_s (--remote-deadline-ms)."
            )
        logits, sent_bytes = self._engine.ask(name, batch, self._until)
        self._reach.reached(len(batch), sent_bytes)
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
