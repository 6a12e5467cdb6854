"""What expanding a zoo will do: the versions of one model, and which images are used for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.data.images import LabelledImages
from training.data.seen import seen_in_training
from training.data.splits import FIT, TUNE, Splits, without_training_images
from training.networks.calibration_images import calibration_part
from training.networks.distill import SIZES
from training.networks.variants import Variant, plan_variants
from zoo.errors import CardError, DataError
from zoo.models.card import ModelCard, TrainedOn, match_classes
from zoo.models.zoo import Zoo, held_message

MIN_JUDGES = 50  # images


@dataclass(frozen=True)
class Plan:
    """What is to be made, and with which images."""

    zoo: Zoo
    card: ModelCard
    variants: tuple[Variant, ...]
    learned: LabelledImages  # the whole data that versions learn from
    part: TrainedOn  # of these
    learn: LabelledImages  # that part
    judges: LabelledImages


def plan_expansion(
    zoo: Zoo,
    name: str,
    data: LabelledImages,
    *,
    training: LabelledImages | None = None,
    sides: Sequence[int] | None = None,
    students: Sequence[str] = (),
    share: float | None = None,
    seed: int = 0,
    judges: int = 1_000,
    force: bool = False,
) -> Plan:
    """Which versions of a model would be made, and which images would be used for what.

    Parameters
    ----------
    data
        Labelled images that no model has learned from. Those of the splits ``fit`` and ``tune`` judge.
    training
        Images to learn from; by default a share of `data`, which is remembered.
    sides, students
        See :func:`training.networks.variants.plan_variants`. Students need `training`.
    share
        Of the images to learn from; by default that of other models, or 0.4; of `training` all.
    judges
        Most images that judge.

    Raises
    ------
    CardError
        When the zoo holds another model of a version's name, and not `force`.
    ClassMismatchError
        When the model does not know a class of the images.
    DataError
        When there are too few images, or a student has no name in :data:`training.networks.distill.SIZES`.
    ModelError
        When no versions of the model can be made.

    Examples
    --------
    >>> from training.networks.expand import plan_expansion
    >>> plan = plan_expansion(zoo, "full", images, sides=[8])
    >>> len(plan.variants)
    7
    """
    card = zoo.card(name)
    unknown = [student for student in students if student not in SIZES]
    if unknown:
        raise DataError(f"expected sizes out of {', '.join(SIZES)}, got {unknown[0]!r}. Choose among them.")
    if students and training is None:
        raise DataError("expected images to train on where a network is taught: give --train DATA as well.")
    variants = plan_variants(card, sides=sides, students=students)
    for one in (data, *([] if training is None else [training])):
        match_classes(one.classes, card.classes, model=name)
    for variant in variants:
        if not force and variant.name in zoo.names and zoo.card(variant.name).parent != variant.parent:
            raise CardError(held_message(variant.name))
    learned = data if training is None else training
    share = 1.0 if share is None and training is not None else share
    part, learn = calibration_part(zoo, learned, share=share, seed=seed)
    splits = without_training_images(Splits(seed=seed), zoo.cards, data)
    if training is None:
        splits = Splits(seed=part.seed, train=part.share)
    allowed = np.isin(splits.assign(data.groups), (FIT, TUNE)) & ~seen_in_training(zoo, zoo.cards, data)
    if training is not None:
        allowed &= ~np.isin(data.contents, learn.contents)
    rows = np.random.default_rng(part.seed).permutation(np.flatnonzero(allowed))[:judges]
    if len(rows) < MIN_JUDGES:
        raise DataError(
            f"expected at least {MIN_JUDGES} images in the splits 'fit' and 'tune' to judge with, got "
            f"{len(rows)} of {len(data)}. Give more labelled images, or a smaller --share."
        )
    return Plan(zoo, card, variants, learned, part, learn, data.subset(np.sort(rows)))
