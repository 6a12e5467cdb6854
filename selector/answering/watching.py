"""Watching: a monitor is told what answered images look like and how sure the models were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from selector.answering.batches import Batch, Portion
from selector.answering.beside import beside
from selector.answering.engine import Engine
from selector.answering.runners import Outcome
from selector.bundle.bundle import Bundle, DeviceCosts
from selector.drift.blocks import LEAST_EVERY, Blocks, Submit, every_for
from selector.drift.monitor import Confidence, DriftStatus, Monitor
from selector.policies.rules import log_odds_of
from zoo.inputs.kind import Batch as Rows

# An image above this does not wait: a copy would take memory, and what the monitor takes is little beside it.
_MOST_BYTES = 2**18


_Waiting: TypeAlias = "tuple[Rows, Outcome]"  # one input; a plain tuple, as answers wait for it


def one_of(bundle: Bundle, costs: DeviceCosts, *, brisk: bool) -> int:
    """One of how many inputs is looked at while nothing speaks for a change; a `brisk` watch passes few.

    An answer takes as long as the cheapest model on the device at least, or of all where none is.
    """
    least_ms = min(costs.models[name] for name in bundle.local or costs.models)
    return LEAST_EVERY if brisk else every_for(least_ms)


class Watch:
    """The monitor of a bundle with the engine that computes what it looks at.

    Images wait until a few can be looked at together, in another thread where there is a core for it. Safe to
    use from several threads.

    Parameters
    ----------
    before
        The watch that this one takes the place of; what waits there waits here.
    submit
        Has something done in another thread; None: everything is done in that of the answers.
    every
        One of how many inputs is looked at while nothing speaks for a change; see :func:`.blocks.every_for`.
    """

    def __init__(
        self,
        engine: Engine,
        monitor: Monitor,
        before: Watch | None = None,
        submit: Submit | None = beside,
        *,
        every: int = LEAST_EVERY,
    ) -> None:
        self._engine = engine
        self._opened = False
        self._submit = submit
        self._blocks: Blocks[_Waiting] = Blocks(monitor, every=every) if before is None else before._blocks

    @property
    def monitor(self) -> Monitor:
        """What looks at them; it may be ahead of what counts."""
        return self._blocks.monitor

    @property
    def every(self) -> int:
        """One of how many inputs is looked at while nothing speaks for a change."""
        return self._blocks.every

    @property
    def alarm(self) -> bool:
        """Whether inputs are not like those of the certificates any more."""
        return self._blocks.alarm

    @property
    def seen(self) -> int:
        """Inputs since the beginning or the last reset, with those that wait."""
        return self._blocks.seen

    def status(self) -> DriftStatus:
        """What the monitor has seen, once it has looked at all that waits."""
        return self._blocks.status(self._look)

    def reset(self) -> None:
        """Forget all inputs, and an alarm with them."""
        self._blocks.reset()

    def notice(self, images: Batch, outcomes: Sequence[Outcome]) -> None:
        """Note images with what became of them."""
        every = images.images if isinstance(images, Portion) else images
        for i, outcome in enumerate(outcomes):
            number = self._blocks.comes()
            if number:
                self._note(number, every[i] if isinstance(every, list) else every[i : i + 1], outcome, None)

    def notice_one(self, image: Rows, outcome: Outcome) -> None:
        """Note a batch of one input with what became of it."""
        number = self._blocks.comes()
        if number:
            self._note(number, image, outcome, self._submit)

    def _note(self, number: int, image: Rows, outcome: Outcome, submit: Submit | None) -> None:
        if not self._opened:  # what cannot be watched is said at the first image
            self._engine.open_drift()
            self._opened = True
        waits = isinstance(image, np.ndarray) and image.nbytes <= _MOST_BYTES

        def kept() -> _Waiting:
            return image.copy() if waits else image, outcome

        self._blocks.note(number, kept, self._look, alone=not waits, submit=submit)

    def _look(self, waiting: Sequence[_Waiting]) -> tuple[NDArray[np.float32], list[Confidence | None]]:
        features = self.features([image for image, _ in waiting])
        return features, [self.confidence(outcome) for _, outcome in waiting]

    def confidence(self, outcome: Outcome) -> Confidence | None:
        """The first model of an outcome and the log-odds of its answer, where they are watched."""
        sure = outcome.confidence
        if isinstance(sure, list):
            sure, _ = log_odds_of(sure)
        return None if sure is None else (outcome.path[0], sure)

    def features(self, waiting: Sequence[Rows]) -> NDArray[np.float32]:
        """What the monitor looks at ``[n, F]``, of n batches of one input."""
        if len({image.shape for image in waiting}) == 1:
            return self._engine.watched(waiting[0] if len(waiting) == 1 else np.concatenate(waiting))
        return np.concatenate([self._engine.watched(image) for image in waiting])
