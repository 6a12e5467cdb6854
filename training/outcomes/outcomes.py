"""Outcomes: for every sample and model what was answered, whether it is right, and how sure the model was."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from selector.policies.rules import confidence
from training.data.splits import CERTIFY, FIT, TEST, TUNE
from training.features.feature_kind import Readings
from training.features.kinds import features_of
from training.features.pool import NAMES
from training.outcomes.parts import (
    SAMPLES_FILE,
    ProfileRecord,
    embedding_folder,
    is_complete,
    part_path,
    parts_folder,
    read_parts,
    read_profile_record,
    read_table,
    stored_features,
)
from training.outcomes.shards import MAX_EMBEDDING, PIXELS
from zoo.errors import DataError, StaleError
from zoo.models.zoo import Zoo

Some = TypeVar("Some", bound="Outcomes")
_PER_SAMPLE = ("ids", "labels", "environments", "groups", "splits", "logits", "features")


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
    embeddings: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)  # model → [n, D], where given
    top_k: int = 1  # an answer is right when the label is among its k most probable classes

    per_sample: ClassVar[tuple[str, ...]] = _PER_SAMPLE  # fields with one row a sample

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def predicted(self) -> NDArray[np.intp]:
        """Predicted class ``[n, M]``."""
        classes: NDArray[np.intp] = self.logits.argmax(axis=2)
        return classes

    @property
    def combinable(self) -> bool:
        """Whether answers of several models can be combined into one: all gave logits of the same classes."""
        return True

    @cached_property
    def log_odds(self) -> NDArray[np.float64]:
        """Log-odds of the predicted class ``[n, M]``; see :func:`selector.policies.rules.confidence`."""
        return np.stack([confidence(self.logits[:, j])[0] for j in range(len(self.models))], 1)

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether the answer is right ``[n, M]``."""
        if self.top_k == 1:
            right: NDArray[np.bool_] = self.predicted == self.labels[:, np.newaxis]
            return right
        return np.stack([self.right_of(self.logits[:, j]) for j in range(len(self.models))], axis=1)

    def right_of(self, answer: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether answers ``[n, C]`` (probabilities or logits) are right ``[n]``."""
        if self.top_k == 1:
            top: NDArray[np.bool_] = answer.argmax(axis=1) == self.labels
            return top
        ranked = np.argsort(-answer, axis=1, kind="stable")[:, : self.top_k]
        among: NDArray[np.bool_] = (ranked == self.labels[:, np.newaxis]).any(axis=1)
        return among

    def right_after(self, ran: Sequence[str], answer: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether `answer` ``[n, C]``, given once the models `ran` have answered, is right ``[n]``."""
        return self.right_of(answer)

    def charge(self, paths: Sequence[Sequence[str]], costs: NDArray[np.float64]) -> NDArray[np.float64]:
        """What ending on each path costs: the expected `costs` ``[K]``, or what was paid ``[n, K]``."""
        return costs

    def judged(self, *, top_k: int = 1, agree_with: str | None = None) -> Outcomes:
        """The same outcomes with another notion of a right answer.

        Parameters
        ----------
        top_k
            Right is an answer with the label among its `top_k` most probable classes.
        agree_with
            Right is what this model says, whatever the label: for samples without trustworthy labels.

        Raises
        ------
        DataError
            When `top_k` is not between 1 and the number of classes - 1, or the model is unknown.
        """
        if not 1 <= top_k < len(self.classes):
            raise DataError(
                f"expected top-k with k from 1 to {len(self.classes) - 1}, got {top_k} "
                f"with {len(self.classes)} classes."
            )
        if agree_with is None:
            return replace(self, top_k=top_k)
        if agree_with not in self.models:
            raise DataError(f"expected a model among {', '.join(self.models)}, got {agree_with!r}.")
        labels = self.predicted[:, self.models.index(agree_with)].astype(np.int64)
        return replace(self, top_k=top_k, labels=labels)

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Self:
        """The samples of a mask or of indices."""
        embeddings = {name: values[chosen] for name, values in self.embeddings.items()}
        kept = {name: getattr(self, name)[chosen] for name in self.per_sample}
        return replace(self, **kept, embeddings=embeddings)

    def split(self, *names: str) -> Self:
        """The samples of the named splits; raises :class:`DataError` when there is none."""
        mask = np.isin(self.splits, names)
        if not mask.any():
            raise DataError(f"expected samples in split {' or '.join(names)}, got none. Profile more images.")
        return self.rows(mask)

    def environment(self, name: str) -> Self:
        """The samples of one environment; raises :class:`DataError` when there is none."""
        mask = self.environments == name
        if not mask.any():
            raise DataError(
                f"expected an environment of the profile, got {name!r}. It has: "
                f"{', '.join(sorted(set(self.environments.tolist())))}. Name one of these, or profile more."
            )
        return self.rows(mask)

    def check_finite(self) -> None:
        """Raise :class:`DataError` where a logit or a feature is NaN or infinite."""
        for what, values in (("logits", self.logits), ("features", self.features)):
            bad = ~np.isfinite(values).reshape(len(self), -1).all(axis=1)
            if bad.any():
                raise DataError(
                    f"expected finite {what}, got NaN or infinity for {int(bad.sum()):,} samples, the first "
                    f"of them {str(self.ids[bad.argmax()])!r}. Profile again, or leave the model out."
                )

    def with_models(self, names: Sequence[str]) -> Self:
        """Only the named models, in that order."""
        columns = [self.models.index(name) for name in names]
        return replace(self, models=tuple(names), logits=self.logits[:, columns])

    def feature_columns(self, names: Sequence[str]) -> NDArray[np.float32]:
        """The named features ``[n, F]``, in that order."""
        columns = [self.feature_names.index(name) for name in names]
        return np.ascontiguousarray(self.features[:, columns])

    def scores_of(self, names: Sequence[str]) -> NDArray[np.float32] | None:
        """Scores of the named models ``[n, M]`` from features, where they were worked out before."""
        return None

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
    samples = read_table(path / SAMPLES_FILE, record.samples)
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
        [
            read_parts(parts_folder(path, name, record), record, columns["id"], len(record.classes), chosen)
            for name in models
        ],
        axis=1,
    )
    features_folder, feature_names = stored_features(path, record)
    return Outcomes(
        classes=record.classes,
        models=models,
        ids=columns["id"][chosen],
        labels=labels,
        environments=columns["environment"][chosen],
        groups=columns["group"][chosen],
        splits=columns["split"][chosen],
        logits=logits,
        features=read_parts(features_folder, record, columns["id"], len(feature_names), chosen),
        feature_names=feature_names,
        embeddings=_embeddings(path, models, record, columns["id"], chosen),
    )


def _embeddings(
    folder: Path,
    models: Sequence[str],
    record: ProfileRecord,
    ids: NDArray[np.str_],
    chosen: NDArray[np.bool_],
) -> dict[str, NDArray[np.float32]]:
    """The embeddings of those models that give them, in the profile."""
    found = {}
    for name in models:
        parts = embedding_folder(folder, name, record)
        if is_complete(parts, record):
            width = _width(part_path(parts, 0))
            found[name] = read_parts(parts, record, ids, width, chosen)
    return found


def _width(path: Path) -> int:
    """How many numbers a sample has in a part of embeddings."""
    try:
        width = int(pq.read_schema(path).field("values").type.list_size)
    except (OSError, KeyError, AttributeError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{path}: expected embeddings, got another file. Delete it and profile again."
        ) from error
    if not 0 < width <= MAX_EMBEDDING:
        raise DataError(f"{path}: expected 1 to {MAX_EMBEDDING} numbers a sample, got {width}. Delete it.")
    return width


def has_pixels(folder: str | Path) -> bool:
    """Whether a finished profile holds the pixels that features read; those of earlier versions do not."""
    path = Path(folder)
    record = read_profile_record(path)
    return is_complete(parts_folder(path, PIXELS, record), record)


def load_pixels(
    folder: str | Path, *, ids: Sequence[str] | NDArray[np.str_] | None = None,
    splits: Sequence[str] = (FIT, TUNE, CERTIFY),
) -> Readings:  # fmt: skip
    """Pixels uint8 ``[n, grid, grid, 3]`` that the features of a profile were computed from.

    Of other kinds of input what their features read, such as samples ``[n, grid]`` of signals.

    Parameters
    ----------
    ids
        Which samples, in which order; by default all of `splits`, in the order of :func:`load_outcomes`.
    splits
        Which samples to read without `ids`. The test split is read only when it is named.

    Raises
    ------
    DataError
        When the profile holds no pixels, a sample is unknown, or a part is damaged.
    """
    path = Path(folder)
    record = read_profile_record(path)
    parts = parts_folder(path, PIXELS, record)
    if not is_complete(parts, record):
        raise DataError(
            f"expected pixels in the profile {folder}, got none: an earlier version made it. "
            "Run 'zooselect profile' again: only what is missing is computed."
        )
    samples = read_table(path / SAMPLES_FILE, record.samples)
    known = np.array(samples["id"].to_pylist())
    wanted = np.isin(np.array(samples["split"].to_pylist()), splits) if ids is None else np.isin(known, ids)
    shape, kind = features_of(record.kind).reading(record.grid)
    rows = read_parts(parts, record, known, math.prod(shape), wanted, kind)
    pixels = rows.reshape(-1, *shape)
    if ids is None:
        return pixels
    places = {name: place for place, name in enumerate(known[wanted].tolist())}
    unknown = [name for name in map(str, ids) if name not in places]
    if unknown:
        raise DataError(f"expected samples of the profile {folder}, got {unknown[0]!r}. Name others.")
    return pixels[[places[name] for name in map(str, ids)]]


def pixels_of(folder: str | Path, ids: NDArray[np.str_]) -> Readings:
    """:func:`load_pixels` of the named samples."""
    return load_pixels(folder, ids=ids)


def with_features(outcomes: Some, names: Sequence[str], values: NDArray[np.float32]) -> Some:
    """The same outcomes with further features ``[n, K]``, such as a scout's, after those of the profile."""
    if values.shape != (len(outcomes), len(names)) or set(names) & set(outcomes.feature_names):
        raise DataError(
            f"expected new features [{len(outcomes)}, {len(names)}] with names of their own, "
            f"got {list(values.shape)} named {', '.join(names)}."
        )
    return replace(
        outcomes,
        features=np.concatenate([outcomes.features, values.astype(np.float32)], axis=1),
        feature_names=(*outcomes.feature_names, *names),
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


def accuracy_on_test(folder: Path, zoo: Zoo) -> dict[str, float]:
    """Share of right answers of every model on the test split of a profile; what ``publish`` asks for."""
    return load_outcomes(folder, zoo=zoo, splits=(TEST,)).accuracy()
