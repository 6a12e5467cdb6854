"""Outcomes of a table: whether answers were right and what they cost was measured elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from training.outcomes.outcomes import Outcomes

_NOTHING: Any = np.empty((0, 0))


@dataclass(frozen=True)
class TableOutcomes(Outcomes):
    """Outcomes of n samples and M models whose answers are known by their quality, cost and score alone.

    Where all models gave logits of the same classes, ``logits`` holds them; otherwise it holds one number a
    model ``[n, M, 1]``, how sure it was, as log-odds (see :func:`training.routing.scales.scaled`).
    """

    quality: NDArray[Any] = field(default_factory=lambda: _NOTHING)  # [n, M], bool, or float64 where graded
    paid: NDArray[np.float64] = field(default_factory=lambda: _NOTHING)  # [n, M], cost of every answer
    scores: NDArray[np.float64] = field(default_factory=lambda: _NOTHING)  # [n, M], as in the table
    # [n, M] probabilities of being right, from features; of samples that an estimator learned from they are
    # those of others that did not. [n, 0] where there are none.
    estimated: NDArray[np.float32] = field(default_factory=lambda: _NOTHING)

    per_sample: ClassVar[tuple[str, ...]] = (*Outcomes.per_sample, "quality", "paid", "scores", "estimated")

    @property
    def graded(self) -> bool:
        """Whether answers have a quality between 0 and 1, else they are right or wrong."""
        return self.quality.dtype.kind == "f"

    @property
    def combinable(self) -> bool:
        return bool(self.logits.shape[2] > 1)

    @cached_property
    def log_odds(self) -> NDArray[np.float64]:
        """How sure models were ``[n, M]``, as log-odds."""
        if self.combinable:
            known: NDArray[np.float64] = super().log_odds
            return known
        return self.logits[:, :, 0].astype(np.float64)

    @cached_property
    def right(self) -> NDArray[Any]:
        """Whether answers are right, bool ``[n, M]``; where graded, their quality."""
        return self.quality

    def right_after(self, ran: Sequence[str], answer: NDArray[np.floating]) -> NDArray[Any]:
        if self.combinable:
            return self.right_of(answer)
        known: NDArray[Any] = self.quality[:, self.models.index(ran[-1])]
        return known

    def charge(self, paths: Sequence[Sequence[str]], costs: NDArray[np.float64]) -> NDArray[np.float64]:
        """What was paid for each of K paths ``[n, K]``."""
        places = [[self.models.index(name) for name in path] for path in paths]
        return np.stack([self.paid[:, some].sum(axis=1) for some in places], axis=1)

    def with_models(self, names: Sequence[str]) -> Self:
        columns = [self.models.index(name) for name in names]
        names_of_fields = (
            "logits",
            "quality",
            "paid",
            "scores",
            *(("estimated",) if self._estimates else ()),
        )
        kept = {name: getattr(self, name)[:, columns] for name in names_of_fields}
        return replace(self, models=tuple(names), **kept)

    def scores_of(self, names: Sequence[str]) -> NDArray[np.float32] | None:
        if not self._estimates:
            return None
        return self.estimated[:, [self.models.index(name) for name in names]]

    @property
    def _estimates(self) -> bool:
        return bool(self.estimated.shape[1])

    def rounded(self, seed: int) -> Self:
        """The same with answers that are right or wrong: right with the probability that is their quality.

        Policies learn from right and wrong answers. Every sample has one random number for all models, so a
        better answer is never wrong where a worse one is right, and means stay what they are. Certificates
        and
        figures are about the qualities themselves.
        """
        if not self.graded:
            return self
        drawn = np.random.default_rng(seed).random(len(self))
        return replace(self, quality=self.quality > drawn[:, np.newaxis])

    def mean_costs(self) -> dict[str, float]:
        """Mean of what was paid, per model."""
        return dict(zip(self.models, self.paid.mean(axis=0).tolist(), strict=True))

    @property
    def fixed_costs(self) -> bool:
        """Whether every answer of a model costs the same."""
        return bool((self.paid == self.paid[:1]).all())
