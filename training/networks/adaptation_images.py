"""The images of an adaptation: which are learned from, which judge, and what is right on them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.data.images import LabelledImages
from training.data.splits import FIT, TRAIN, Splits
from training.networks.distill import logits_of, usual_part
from zoo.cores import allowed_cores
from zoo.errors import DataError
from zoo.models.card import ModelCard, TrainedOn, match_classes
from zoo.models.model import Model
from zoo.models.zoo import Zoo

MIN_IMAGES = 100  # fewer cannot show that a child is better than its parent
MAX_IMAGES = 20_000  # that are learned from, unless told otherwise
HELD_OUT_SHARE = 0.2  # of the images, which decide whether the child is better
MAX_HELD_OUT_IMAGES = 2_000


@dataclass(frozen=True)
class Examples:
    """Images with what is right on them, as indices of the model's classes."""

    data: LabelledImages
    labels_from: str | None  # model whose answers are right; else the labels of the data are
    part: TrainedOn  # of the data; all images of both kinds are from it
    learn: LabelledImages
    labels: NDArray[np.int64]
    logits: NDArray[np.float32] | None  # of the model that labelled them, in the order of the model's classes
    held: LabelledImages
    truth: NDArray[np.int64]
    missing: tuple[str, ...]  # classes without an image


def gather(
    zoo: Zoo,
    card: ModelCard,
    data: LabelledImages,
    *,
    labels_from: str | None,
    share: float | None,
    seed: int | None,
    images: int,
    allow_missing: bool,
    progress: bool,
) -> Examples:
    """Deal the images out and find out what is right on them; see :func:`training.networks.adapt.adapt`.

    Raises
    ------
    ClassMismatchError
        When the model or the labelling model does not know the classes.
    DataError
        When a model is to label its own images, there are too few of them, or a class has none.
    """
    if labels_from == card.name:
        raise DataError(
            f"expected labels from a more accurate model than {labels_from!r} itself. Name another."
        )
    teacher = None if labels_from is None else zoo.model(labels_from, threads=allowed_cores())
    part = usual_part(card, data, share, seed)
    learn, held = learned_part(data, part, images)
    labels, logits = _labels(card, teacher, learn, progress=progress)
    missing = _missing(card, labels, allow_missing=allow_missing)
    truth, _ = _labels(card, teacher, held, progress=progress)
    return Examples(data, labels_from, part, learn, labels, logits, held, truth, missing)


def learned_part(data: LabelledImages, part: TrainedOn, images: int) -> tuple[LabelledImages, LabelledImages]:
    """At most `images` to learn from, and those held out; all variants of an original are on one side.

    Raises
    ------
    DataError
        When there are too few.
    """
    dealt = Splits(
        seed=part.seed, train=part.share, fit=1 - HELD_OUT_SHARE, tune=HELD_OUT_SHARE, certify=0.0, test=0.0
    )
    given = np.flatnonzero(dealt.assign(data.groups) == TRAIN)
    judges = replace(dealt, train=0.0).assign([data.groups[i] for i in given]) != FIT
    rng = np.random.default_rng(part.seed)
    learn, held = (
        np.sort(rng.permutation(rows)[:most])
        for rows, most in ((given[~judges], images), (given[judges], MAX_HELD_OUT_IMAGES))
    )
    if len(given) < MIN_IMAGES or len(learn) < 2 or len(held) < 1:
        raise DataError(
            f"expected at least {MIN_IMAGES} images to adapt a model with, {HELD_OUT_SHARE:.0%} of them to "
            f"judge it, got {len(given)} ({part.share:.0%} of {len(data)}). "
            "Give more images, or use more of them with --share 1."
        )
    return data.subset(learn), data.subset(held)


def right_answers(card: ModelCard, content: bytes, known: Examples, *, progress: bool) -> NDArray[np.bool_]:
    """On which of the held-out images a model is right, run from its ONNX file."""
    model = Model(card, content, threads=allowed_cores())
    said = logits_of(model, card.classes, known.held, progress=progress).argmax(1)
    right: NDArray[np.bool_] = said == known.truth
    return right


def _labels(
    card: ModelCard, teacher: Model | None, data: LabelledImages, *, progress: bool
) -> tuple[NDArray[np.int64], NDArray[np.float32] | None]:
    if teacher is None:
        columns = np.array(match_classes(data.classes, card.classes, model=card.name), dtype=np.int64)
        return columns[data.labels], None
    logits = logits_of(teacher, card.classes, data, progress=progress)
    return logits.argmax(1).astype(np.int64), logits


def _missing(card: ModelCard, labels: NDArray[np.int64], *, allow_missing: bool) -> tuple[str, ...]:
    missing = tuple(card.classes[i] for i in sorted(set(range(len(card.classes))) - set(labels.tolist())))
    if missing and (not allow_missing or len(card.classes) - len(missing) < 2):
        names = ", ".join(map(repr, missing[:5])) + (f" and {len(missing) - 5} more" if missing[5:] else "")
        raise DataError(
            f"expected images of every class that {card.name!r} knows, got none of {names}; it would forget "
            "them. Add images of them, or keep its head as it is with --allow-missing."
        )
    return missing
