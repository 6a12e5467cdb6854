"""Outcomes: for every sample and model what was answered, whether it is right, and how sure the model was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from selector.policy import top_log_odds
from training.features import NAMES
from training.profile import (
    FEATURES,
    SAMPLES_FILE,
    ProfileRecord,
    part_path,
    parts_folder,
    read_profile_record,
)
from training.splits import CERTIFY, FIT, TEST, TUNE
from zoo.directory import Zoo
from zoo.errors import DataError, StaleError


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of n samples and M models with C classes."""

    classes: tuple[str, ...]
    models: tuple[str, ...]
    ids: NDArray[np.str_]  # [n]
    labels: NDArray[np.int64]  # [n], indices into classes
    environments: NDArray[np.str_]  # [n]
    groups: NDArray[np.str_]  # [n]
    splits: NDArray[np.str_]  # [n]
    logits: NDArray[np.float32]  # [n, M, C]
    features: NDArray[np.float32]  # [n, F]
    feature_names: tuple[str, ...] = NAMES

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def _tops(self) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        pairs = [top_log_odds(self.logits[:, j]) for j in range(len(self.models))]
        return np.stack([top for top, _ in pairs], 1), np.stack([odds for _, odds in pairs], 1)

    @property
    def predicted(self) -> NDArray[np.intp]:
        """Predicted class ``[n, M]``."""
        return self._tops[0]

    @property
    def log_odds(self) -> NDArray[np.float64]:
        """Log-odds of the predicted class ``[n, M]``; see :func:`selector.policy.top_log_odds`."""
        return self._tops[1]

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether the answer is right ``[n, M]``."""
        right: NDArray[np.bool_] = self.predicted == self.labels[:, np.newaxis]
        return right

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Outcomes:
        """The samples of a mask or of indices."""
        return replace(
            self,
            ids=self.ids[chosen],
            labels=self.labels[chosen],
            environments=self.environments[chosen],
            groups=self.groups[chosen],
            splits=self.splits[chosen],
            logits=self.logits[chosen],
            features=self.features[chosen],
        )

    def split(self, *names: str) -> Outcomes:
        """The samples of the named splits; raises :class:`DataError` when there is none."""
        mask = np.isin(self.splits, names)
        if not mask.any():
            raise DataError(f"expected samples in split {' or '.join(names)}, got none. Profile more images.")
        return self.rows(mask)

    def with_models(self, names: Sequence[str]) -> Outcomes:
        """Only the named models, in that order."""
        columns = [self.models.index(name) for name in names]
        return replace(self, models=tuple(names), logits=self.logits[:, columns])

    def accuracy(self) -> dict[str, float]:
        """Share of right answers over all samples, per model."""
        return dict(zip(self.models, self.right.mean(axis=0).tolist(), strict=True))


def load_outcomes(
    folder: str | Path, *, zoo: Zoo | None = None, splits: Sequence[str] = (FIT, TUNE, CERTIFY)
) -> Outcomes:
    """Read outcomes from a finished profile.

    Parameters
    ----------
    zoo
        When given, only its models are read, and they must be the ones that were profiled.
    splits
        Which samples to read. The test split is read only when it is named: choices are made without it.

    Raises
    ------
    StaleError
        When a model of `zoo` has changed since, or was added.
    DataError
        When there is no finished profile, or a part is missing or damaged.
    """
    path = Path(folder)
    record = read_profile_record(path)
    if zoo is not None:
        _check_fresh(record, zoo, path)
    samples = _read_table(path / SAMPLES_FILE, record.samples)
    columns = {
        name: np.array(samples[name].to_pylist()) for name in ("id", "label", "environment", "group", "split")
    }
    chosen = np.isin(columns["split"], splits)
    if not chosen.any():
        raise DataError(
            f"{path}: expected samples in split {' or '.join(splits)}, got none. Profile more images."
        )
    index = {name: i for i, name in enumerate(record.classes)}
    try:
        labels = np.array([index[name] for name in columns["label"][chosen]], dtype=np.int64)
    except KeyError as error:
        raise DataError(
            f"{path / SAMPLES_FILE}: unknown label {str(error.args[0])!r}. Profile again with --restart."
        ) from None
    models = tuple(record.models) if zoo is None else zoo.names
    logits = np.stack(
        [_read_parts(path, name, record, columns["id"], len(record.classes))[chosen] for name in models],
        axis=1,
    )
    return Outcomes(
        classes=record.classes,
        models=models,
        ids=columns["id"][chosen],
        labels=labels,
        environments=columns["environment"][chosen],
        groups=columns["group"][chosen],
        splits=columns["split"][chosen],
        logits=logits,
        features=_read_parts(path, FEATURES, record, columns["id"], len(NAMES))[chosen],
    )


ALL_SPLITS = (FIT, TUNE, CERTIFY, TEST)


def _check_fresh(record: ProfileRecord, zoo: Zoo, folder: Path) -> None:
    current = {card.name: card.sha256 for card in zoo.cards}
    changed = sorted(name for name in current if record.models.get(name) not in (None, current[name]))
    added = sorted(set(current) - set(record.models))
    if changed or added:
        parts = [
            f"{what}: {', '.join(names)}" for what, names in (("changed", changed), ("added", added)) if names
        ]
        raise StaleError(
            f"the profile in {folder} is stale; models {'; '.join(parts)}. "
            "Run 'zooselect profile' again: only what is missing is computed."
        )


def _read_parts(
    folder: Path, name: str, record: ProfileRecord, ids: NDArray[np.str_], width: int
) -> NDArray[np.float32]:
    values = np.empty((record.samples, width), dtype=np.float32)
    for part, first in enumerate(range(0, record.samples, record.part_rows)):
        last = min(first + record.part_rows, record.samples)
        path = part_path(parts_folder(folder, name, record), part)
        table = _read_table(path, last - first)
        flat = table["values"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        if table["id"].to_pylist() != ids[first:last].tolist() or flat.size != (last - first) * width:
            raise DataError(f"{path}: rows do not belong to {SAMPLES_FILE}. Delete it and profile again.")
        values[first:last] = flat.reshape(last - first, width)
    return values


def _read_table(path: Path, rows: int) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{path}: expected a Parquet file of a profile, got: {str(error)[:200]}. "
            "Delete it if it is there, and run 'zooselect profile' again."
        ) from error
    if table.num_rows != rows:
        raise DataError(f"{path}: expected {rows} rows, got {table.num_rows}. Delete it and profile again.")
    return table
