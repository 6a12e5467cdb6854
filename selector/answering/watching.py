"""Watching: a monitor is told what answered images look like and how sure the models were."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from selector.answering.batches import Batch, Portion, run_pieces
from selector.answering.engine import Engine
from selector.answering.runners import Outcome
from selector.drift.monitor import Monitor


class Watch:
    """The monitor of a bundle with the engine that computes what it looks at."""

    def __init__(self, engine: Engine, monitor: Monitor) -> None:
        self._engine = engine
        self.monitor = monitor

    @property
    def alarm(self) -> bool:
        """Whether inputs are not like those of the certificates any more."""
        return self.monitor.alarm

    def notice_one(self, image: NDArray[np.uint8], outcome: Outcome) -> None:
        """Note one image ``[1, H, W, 3]`` with what became of it."""
        self.notice(image, [outcome])

    def notice(self, images: Batch, outcomes: Sequence[Outcome]) -> None:
        """Note images with what became of them."""
        monitor = self.monitor
        alone = len(outcomes) == 1
        if alone and monitor.passes():
            return
        if isinstance(images, Portion):
            features = run_pieces(lambda batch: [*self._engine.watched(batch)], images)
        else:
            features = [*self._engine.watched(images)]
        for values, outcome in zip(features, outcomes, strict=True):
            if not alone and monitor.passes():
                continue
            confidence = outcome.confidence
            monitor.update(values, None if confidence is None else (outcome.path[0], confidence))
