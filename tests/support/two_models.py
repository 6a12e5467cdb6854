"""Outcomes of two made-up models, a cheap and a dear one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.data.splits import FIT
from training.outcomes.outcomes import Outcomes


def made(
    chances: Sequence[float], count: int = 3000, *, seed: int = 0, environments: Sequence[str] = ("",)
) -> Outcomes:
    """Outcomes of a cheap and a dear model that are right with these chances; the sure are right more often.

    Every original is there once an environment; nothing is dealt out yet.
    """
    rng = np.random.default_rng(seed)
    copies = len(environments)
    right = rng.random((count * copies, 2)) < chances
    labels = rng.integers(0, 3, count).repeat(copies)
    told = np.where(right, labels[:, None], (labels[:, None] + 1) % 3)
    logits = np.zeros((len(labels), 2, 3))
    sure = rng.uniform(0.2, 3.0, right.shape) + 1.5 * right
    np.put_along_axis(logits, told[..., None], sure[..., None], axis=2)
    originals = [f"{i:05d}" for i in range(count) for _ in range(copies)]
    there = list(environments) * count
    return Outcomes(
        classes=("a", "b", "c"),
        models=("tiny", "full"),
        ids=np.array([f"{name}-{place}" for name, place in zip(originals, there, strict=True)]),
        labels=labels,
        environments=np.array(there),
        groups=np.array(originals),
        splits=np.full(len(labels), FIT),
        logits=logits.astype(np.float32),
        features=np.zeros((len(labels), 1), np.float32),
        feature_names=("nothing",),
    )
