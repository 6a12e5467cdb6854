"""Sessions that run many images in parts, so that no inference takes too many."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from selector.answering.batches import per_inference
from selector.answering.runners import Sessions
from selector.policies.staged import State

Floats = NDArray[np.float32]


class InParts:
    """The sessions of a runner, for any number of images of one size.

    A policy decides about all of them together, and hands on to a dearer model what several parts left over:
    so that model runs on full parts, too.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def logits(self, name: str, batch: NDArray[np.uint8]) -> Floats:
        """As of :class:`.Sessions`."""
        return in_parts(lambda part: self._sessions.logits(name, part), batch)

    def embedded(self, name: str, batch: NDArray[np.uint8], width: int) -> tuple[Floats, Floats]:
        """As of :class:`.Sessions`."""
        found = [self._sessions.embedded(name, part, width) for part in _parts(batch)]
        return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])

    def scores(self, batch: NDArray[np.uint8]) -> Floats:
        """As of :class:`.Sessions`."""
        return in_parts(self._sessions.scores, batch)

    def features(self, batch: NDArray[np.uint8]) -> Floats:
        """As of :class:`.Sessions`."""
        return in_parts(self._sessions.features, batch)

    def judge(self, state: State, logits: Floats, features: Floats | None) -> tuple[Floats, Floats]:
        """As of :class:`.Sessions`; a few numbers an image, which are looked at together."""
        return self._sessions.judge(state, logits, features)


def _parts(batch: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    step = per_inference(batch)
    return [batch[i : i + step] for i in range(0, len(batch), step)]


def in_parts(run: Callable[[NDArray[np.uint8]], Floats], batch: NDArray[np.uint8]) -> Floats:
    """What `run` returns for a batch ``[N, H, W, 3]``, of parts that are not too much for one inference."""
    parts = _parts(batch)
    return run(batch) if len(parts) == 1 else np.concatenate([run(part) for part in parts])
