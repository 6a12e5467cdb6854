"""Servers on the way of an answer: how long they may take, whether they are there, what they were sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from selector.answering.runners import Sessions
from selector.bundle.bundle import Bundle
from selector.telemetry.demand import RemoteUse
from zoo.errors import CircuitOpenError, PrecisionError, UnreachableError

REMOTE_DEADLINE_S = 1.0  # of an answer that asks a server, all of it
FIRST_ABSENCE_S = 1.0  # for so long a server is not asked after a failure; doubled with each that follows
LONGEST_ABSENCE_S = 60.0  # of one that answers probes, but no input in time
PROBE_DEADLINE_S = 2.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 5.0  # after a probe that failed; doubled with each that follows
_MARGIN = 1.5  # what is kept for the local answer, over the longest that one took


class TooLateError(UnreachableError):
    """Too little time is left to ask a server: it was not asked."""


class Reach:
    """Whether servers are asked now, and counts of what was. Safe to use from several threads.

    After a failure no answer asks a server, until one has answered a *probe*: a made-up input that is sent in
    a thread of its own. Answers begin the probes and do not wait for them, so nothing is sent while nothing
    is asked for.
    """

    def __init__(self) -> None:
        self.inputs = 0  # that servers answered
        self.sent_bytes = 0  # for these
        self.failures = 0  # answers for which a server was asked in vain
        self.away = False  # whether a server failed, and has answered no probe since
        self._absence_s, self._pause_s = FIRST_ABSENCE_S, FIRST_PAUSE_S
        self._next_probe = -float("inf")
        self._local_s = 0.0
        self._lock = threading.Lock()

    def used(self) -> RemoteUse:
        """The counts, for a report."""
        with self._lock:
            return RemoteUse(inputs=self.inputs, sent_bytes=self.sent_bytes, failures=self.failures)

    def failed(self, *, asked: bool = True) -> None:
        """Note that a server did not answer in time, or with something else; or was not `asked`."""
        with self._lock:
            self.failures += asked
            if not self.away:  # of several at a time the first counts
                self.away, self._pause_s = True, FIRST_PAUSE_S
                self._next_probe = time.monotonic() + self._absence_s
                if asked:
                    self._absence_s = min(2 * self._absence_s, LONGEST_ABSENCE_S)

    def reached(self, inputs: int, sent_bytes: int) -> None:
        """Note that a server answered so many inputs."""
        with self._lock:
            self.inputs += inputs
            self.sent_bytes += sent_bytes
            self.away, self._absence_s = False, FIRST_ABSENCE_S

    def look(self, probe: Callable[[float], None]) -> None:
        """While a server is away: try in a thread whether it is there again, where it is time for that.

        Parameters
        ----------
        probe
            Asks servers, and raises where they have not answered by a time of the monotonic clock.
        """
        with self._lock:
            now = time.monotonic()
            if not self.away or now < self._next_probe:
                return
            self._next_probe = now + PROBE_DEADLINE_S + self._pause_s  # later, where its thread is lost
        until = now + PROBE_DEADLINE_S
        threading.Thread(target=self._look, args=(probe, until), name="zooselect-probe", daemon=True).start()

    def _look(self, probe: Callable[[float], None], until: float) -> None:
        try:
            probe(until)
        except Exception as error:  # whatever it is, nothing was answered
            with self._lock:
                if isinstance(error, CircuitOpenError):  # nobody was asked
                    self._next_probe = time.monotonic() + FIRST_PAUSE_S
                    return
                self._next_probe = time.monotonic() + self._pause_s
                self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        else:
            self.away = False

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
