"""The images that ranges of 8-bit models are measured on, and others that compare them with their parents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.images import LabelledImages
from training.data.splits import TRAIN, Splits, without_training_images
from training.networks.distill import TRAIN_SHARE
from zoo.errors import DataError
from zoo.models.card import TrainedOn
from zoo.models.zoo import Zoo

MIN_IMAGES = 8  # that ranges are measured on


def calibration_part(
    zoo: Zoo, data: LabelledImages, *, share: float | None, seed: int
) -> tuple[TrainedOn, LabelledImages]:
    """The part of the data to calibrate on: what models of the zoo learned from, if any did."""
    known = without_training_images(Splits(seed=seed), zoo.cards, data)
    share = (known.train or TRAIN_SHARE) if share is None else share
    splits = Splits(seed=known.seed, train=share)
    part = TrainedOn(data_sha256=data.originals_sha256, share=share, seed=known.seed)
    chosen = splits.assign(data.groups) == TRAIN
    if int(chosen.sum()) < MIN_IMAGES:
        raise DataError(
            f"expected at least {MIN_IMAGES} calibration images, got {int(chosen.sum())} ({share:.0%} of "
            f"{len(data)}). Give more images, or use more of them with --share 1."
        )
    return part, data.subset(chosen)


def read_some(
    data: LabelledImages, count: int, *, seed: int, progress: bool
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """Random images to measure ranges on, at most `count`, and others to compare on."""
    chosen = np.random.default_rng(seed).permutation(len(data))[: 2 * count]
    measured = max(min(count, MIN_IMAGES, len(chosen)), min(count, len(chosen) - len(chosen) // 4))
    bar = tqdm(
        chosen.tolist(), desc="reading", unit="image", delay=2, disable=not progress or None, leave=False
    )
    pixels = [data.image(index) for index in bar]
    return pixels[:measured], pixels[measured:]
