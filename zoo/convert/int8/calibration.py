"""Choosing how ranges are measured: 8-bit models and their parent compared on images that set no range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from scipy.stats import binomtest
from tqdm import tqdm

from zoo.convert.int8.compress import MIN_IMAGES, quantize_int8
from zoo.convert.int8.ranges import Feeds
from zoo.cores import allowed_cores
from zoo.errors import ModelError
from zoo.inputs.kind import InputKind, Item
from zoo.inputs.kinds import IMAGE
from zoo.models.session import open_session

GOOD_AGREEMENT = 0.95  # share of images with the parent's class at which no other calibration is tried
MIN_AGREEMENT = 0.90  # share below which, by more than chance explains, a model is not added
HELD_OUT_EVERY = 4  # of the images one in so many sets no range, where none are given for the comparison
_CONFIDENCE = 0.95  # of the interval that chance is told by


class Calibration(NamedTuple):
    """One way of measuring ranges, and whether the first and the last layer stay in float."""

    cut: float = 0.0  # share of the values above a range, and below it
    float_ends: bool = False
    least_error: bool = False  # ranges that change the values least, by the squared error

    def __str__(self) -> str:
        percentile = f"percentile {100 * (1 - self.cut):.5g}" if self.cut else "min-max"
        ranges = "least-error" if self.least_error else percentile
        return f"{ranges} ranges" + (", first and last layer in float" if self.float_ends else "")


# In the order of what they cost, in accuracy on usual networks and in time on the device.
CALIBRATIONS = (
    Calibration(),
    Calibration(cut=1e-5),
    Calibration(cut=1e-3),
    Calibration(least_error=True),
    Calibration(float_ends=True),
    Calibration(cut=1e-3, float_ends=True),
)


@dataclass(frozen=True)
class Trial:
    """One calibration, and how often its model gave the parent's class to the held-out images."""

    calibration: Calibration
    agreement: float


@dataclass(frozen=True)
class Quantised:
    """The best 8-bit version of a model, and how it compares with it."""

    content: bytes  # the ONNX file
    best: Trial
    trials: tuple[Trial, ...]  # in the order in which they were tried
    images: int  # that ranges were measured on
    held_out: int  # images that the two were compared on
    apart: bool  # whether these set no range

    @property
    def too_different(self) -> bool:
        """Whether the agreement is below :data:`MIN_AGREEMENT` by more than chance explains."""
        agreed = round(self.best.agreement * self.held_out)
        found = binomtest(agreed, self.held_out).proportion_ci(_CONFIDENCE)
        return bool(found.high < MIN_AGREEMENT)

    def describe(self) -> str:
        """How the ranges were measured and what came of it, in words."""
        return (
            f"{self.best.calibration}; the parent's class for {self.best.agreement:.1%} of "
            f"{self.held_out} {'other' if self.apart else 'of these'} images"
        )


def quantize_best(
    content: bytes,
    images: Sequence[Item],
    *,
    name: str,
    kind: InputKind = IMAGE,
    held_out: Sequence[Item] = (),
    like: bytes | None = None,
    enough: float = GOOD_AGREEMENT,
    progress: bool = False,
) -> Quantised:
    """Quantise a model with one calibration after another until one agrees with it.

    Ranges from the smallest to the largest value suit most networks. Where a few values are far from all
    others, as in MobileNetV3, they leave few steps for the rest; percentiles that cut these values off then
    keep the answers (Wu et al. 2020, "Integer quantization for deep learning inference", arXiv:2004.09602).

    Parameters
    ----------
    content, images, name, kind, like
        As for :func:`zoo.convert.int8.compress.quantize_int8`. With `like`, the same layers stay in float.
    held_out
        Images for the comparison, uint8 ``[H, W, 3]`` each; by default every fourth of `images`.
    enough
        Share of the held-out images with the parent's class at which no other calibration is tried; with 1,
        all of them are, unless one agrees everywhere.
    progress
        Show bars when it takes longer than two seconds.

    Returns
    -------
    Quantised
        The first version that gives the parent's class to at least `enough` of the held-out
        images, else the best one. Whoever adds it looks at ``too_different`` first. A calibration after the
        first that the quantiser cannot do is passed over.

    Raises
    ------
    DataError, InputError, ModelError
        What :func:`zoo.convert.int8.compress.quantize_int8` raises.

    Examples
    --------
    >>> from zoo.convert.int8.calibration import CALIBRATIONS
    >>> str(CALIBRATIONS[1])
    'percentile 99.999 ranges'
    """
    apart = bool(held_out)
    if not held_out:
        images, held_out = _deal(images)
        apart = bool(held_out)
    judges = [kind.feeds(kind.one(image)) for image in held_out or images]
    expected: NDArray[np.int64] | None = None
    versions: list[tuple[Trial, bytes]] = []
    ways = [one for one in CALIBRATIONS if like is None or not one.float_ends]
    for calibration in ways:
        try:
            made = quantize_int8(
                content,
                images,
                name=name,
                kind=kind,
                like=like,
                cut=calibration.cut,
                least_error=calibration.least_error,
                float_ends=calibration.float_ends or None,
                progress=progress,
            )
        except ModelError:
            if not versions:  # else there is a version, and this way to a better one is closed
                raise
            continue
        if expected is None:
            expected = _classes(content, name, judges, progress=progress)
        said = _classes(made, name, judges, progress=progress)
        versions.append((Trial(calibration, float((said == expected).mean())), made))
        if versions[-1][0].agreement >= enough:
            break
    best, made = max(versions, key=lambda version: version[0].agreement)
    return Quantised(made, best, tuple(trial for trial, _ in versions), len(images), len(judges), apart)


def _deal(images: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
    """Images that set ranges, and those held out; the least that set ranges come first."""
    held = range(HELD_OUT_EVERY - 1, len(images), HELD_OUT_EVERY)[: max(0, len(images) - MIN_IMAGES)]
    chosen = set(held)
    return [image for i, image in enumerate(images) if i not in chosen], [images[i] for i in held]


def _classes(content: bytes, name: str, images: Sequence[Feeds], *, progress: bool) -> NDArray[np.int64]:
    """The class that a model gives to every image; one at a time, as their sizes may differ."""
    session: InferenceSession = open_session(content, name=name, threads=allowed_cores())
    bar = tqdm(
        images, desc=f"asking {name}", unit="image", delay=2, disable=not progress or None, leave=False
    )
    said = [int(session.run(["logits"], image)[0].argmax()) for image in bar]
    return np.array(said, dtype=np.int64)
