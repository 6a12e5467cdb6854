"""8-bit codes of a tensor that is sent: their ranges, measured on images, and what they cost in answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from tqdm import tqdm

from zoo.convert.cut.cuttable import IMAGE, LOGITS, with_outputs
from zoo.convert.cut.places import Place
from zoo.convert.cut.split import Steps, can_have_channels, with_codes
from zoo.cores import allowed_cores
from zoo.errors import DataError, ModelError
from zoo.inputs.image import check_image
from zoo.models.session import open_session

MIN_IMAGES = 8
GOOD_AGREEMENT = 0.99  # share of images with the whole model's class at which channels are not tried
_HIGHEST = 255

Images = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class Range:
    """Smallest and largest value of each channel of a tensor; both reach 0, so that 0 stays 0."""

    low: NDArray[np.float32]  # [C]
    high: NDArray[np.float32]  # [C]

    def steps(self, *, per_channel: bool = False) -> Steps:
        """Steps for the whole tensor, or for each channel.

        Examples
        --------
        >>> import numpy as np
        >>> from zoo.convert.cut.codes import Range
        >>> ends = Range(np.zeros(2, np.float32), np.array([51, 102], np.float32))
        >>> float(ends.steps().scale), ends.steps(per_channel=True).scale.tolist()
        (0.4000000059604645, [0.20000000298023224, 0.4000000059604645])
        """
        low, high = (self.low, self.high) if per_channel else (self.low.min(), self.high.max())
        scale = np.asarray((high.astype(np.float64) - low) / _HIGHEST, np.float32)
        scale = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
        zero = np.clip(np.rint(-low / scale), 0, _HIGHEST).astype(np.uint8)
        return Steps(scale, np.asarray(zero))


@dataclass(frozen=True)
class Judged:
    """Steps, and how often the model with them gives the class that it gives without."""

    steps: Steps | None  # None: the tensor holds codes already
    agreement: float
    images: int  # that both were compared on


def check_images(images: Images) -> list[NDArray[np.uint8]]:
    """Images to calibrate on, checked.

    Raises
    ------
    DataError
        When there are fewer than 8.
    ImageError
        When one is not uint8 ``[H, W, 3]``.
    """
    if len(images) < MIN_IMAGES:
        raise DataError(
            f"expected at least {MIN_IMAGES} images to measure ranges on, got {len(images)}. "
            "Some dozens of the training data are enough."
        )
    return [check_image(image) for image in images]


def find_ranges(
    content: bytes, places: Sequence[Place], images: Images, *, name: str, progress: bool = False
) -> dict[str, Range]:
    """Ranges of the tensors of `places` that hold real numbers, by name, over all images.

    Raises
    ------
    ModelError
        When a tensor is not finite for an image.
    """
    names = [place.tensor for place in places if place.kind == "float32"]
    if not names:
        return {}
    session = open_session(with_outputs(content, names), name=name, threads=allowed_cores())
    found: dict[str, Range] = {}
    bar = tqdm(
        images, desc=f"measuring {name}", unit="image", delay=2, disable=not progress or None, leave=False
    )
    for image in bar:
        for value, values in zip(names, session.run(names, {IMAGE: image}), strict=True):
            if not np.isfinite(values).all():
                raise ModelError(
                    f"model {name!r}: expected finite values of {value!r}, got NaN or infinite ones. "
                    "They have no 8-bit codes; cut elsewhere, or replace the model."
                )
            rows = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
            low, high = np.minimum(rows.min(axis=1), 0), np.maximum(rows.max(axis=1), 0)
            if value in found:
                low, high = np.minimum(low, found[value].low), np.maximum(high, found[value].high)
            found[value] = Range(low, high)
    return found


def choose_steps(
    content: bytes, place: Place, images: Images, held_out: Images, *, name: str, progress: bool = False
) -> Judged:
    """Steps for the whole tensor; where they change more than one answer in a hundred, for each channel.

    Parameters
    ----------
    images
        uint8 ``[H, W, 3]`` each, that ranges are measured on; at least 8.
    held_out
        Others, on which answers are compared; where there are none, `images`.
    """
    checked = check_images(images)
    judges = [check_image(image) for image in held_out] or checked
    whole = _classes(content, judges, name)
    ranges = find_ranges(content, [place], checked, name=name, progress=progress)
    ends = ranges.get(place.tensor)
    if ends is None:
        return Judged(None, 1.0, len(judges))
    best: Judged | None = None
    for per_channel in (False, True)[: 1 + can_have_channels(content)]:
        steps = ends.steps(per_channel=per_channel)
        said = _classes(with_codes(content, place, steps, name=name), judges, name)
        judged = Judged(steps, float((said == whole).mean()), len(judges))
        if best is None or judged.agreement > best.agreement:
            best = judged
        if best.agreement >= GOOD_AGREEMENT:
            break
    assert best is not None
    return best


def _classes(content: bytes, images: Images, name: str) -> NDArray[np.int64]:
    session: InferenceSession = open_session(content, name=name, threads=allowed_cores())
    said = [int(session.run([LOGITS], {IMAGE: image})[0].argmax()) for image in images]
    return np.array(said, dtype=np.int64)
