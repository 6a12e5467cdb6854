"""How often each model of a profile is right, read a part at a time: all logits may not fit into memory."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from training.data.splits import TEST
from training.outcomes.parts import SAMPLES_FILE, ProfileRecord, part_path, parts_folder


@dataclass(frozen=True)
class ProfiledAccuracy:
    """Shares of right answers on the samples of all splits but the test split."""

    samples: int
    models: dict[str, float]  # most accurate first
    commonest: str  # the label that most samples have
    chance: float  # how often its name alone would be right

    @property
    def near_chance(self) -> tuple[str, ...]:
        """Models that are not clearly better than the commonest label."""
        limit = least_above_chance(self.chance, self.samples)
        return tuple(name for name, share in self.models.items() if share < limit)


def least_above_chance(chance: float, samples: int) -> float:
    """The share of right answers from which a model is clearly better: two standard errors above chance."""
    return chance + 2 * math.sqrt(chance * (1 - chance) / samples)


def profiled_accuracy(folder: str | Path, record: ProfileRecord) -> ProfiledAccuracy | None:
    """Accuracy of all models of a finished profile; None where it has test samples only."""
    source = Path(folder)
    samples = pq.read_table(source / SAMPLES_FILE, columns=["label", "split"]).to_pydict()
    used = np.array(samples["split"]) != TEST
    if not used.any():
        return None
    index = {name: i for i, name in enumerate(record.classes)}
    labels = np.array([index[name] for name in samples["label"]])
    shares: dict[str, float] = {}
    for name in record.models:
        right = 0
        parts = parts_folder(source, name, record)
        for part, first in enumerate(range(0, record.samples, record.part_rows)):
            column = pq.read_table(part_path(parts, part), columns=["values"])["values"].combine_chunks()
            logits = column.flatten().to_numpy().reshape(len(column), -1)
            rows = slice(first, first + len(logits))
            right += int(((logits.argmax(axis=1) == labels[rows]) & used[rows]).sum())
        shares[name] = right / int(used.sum())
    commonest, count = Counter(labels[used].tolist()).most_common(1)[0]
    return ProfiledAccuracy(
        int(used.sum()),
        dict(sorted(shares.items(), key=lambda item: -item[1])),
        record.classes[commonest],
        count / int(used.sum()),
    )
