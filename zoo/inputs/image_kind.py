"""Images as a kind of input: uint8 ``[H, W, 3]`` in RGB order, of any size."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError, ImageError, InputError
from zoo.inputs.image import check_batch, check_image, is_picture, load_image
from zoo.inputs.image_files import SUFFIXES, is_image_name
from zoo.inputs.kind import GraphInput, InputKind, InputRecord, Size, register
from zoo.inputs.reference_image import reference_image

_INPUTS = (GraphInput("image", "uint8", ("N", "H", "W", 3)),)
_MOST_PIXELS = 2**26
_MADE_SIZES: tuple[Size, ...] = ((32, 32), (97, 61), (224, 224), (1, 1), (480, 640))


@register
@dataclass(frozen=True)
class ImageKind(InputKind):
    """Images: arrays, PIL images or the paths of files.

    Examples
    --------
    >>> from zoo.inputs.kinds import IMAGE
    >>> IMAGE.one("photos/red/1.png").shape
    (1, 12, 12, 3)
    """

    name: ClassVar[str] = "image"
    noun: ClassVar[str] = "image"
    formats: ClassVar[str] = ", ".join(sorted(SUFFIXES))
    default_size: ClassVar[Size] = (32, 32)

    @property
    def inputs(self) -> tuple[GraphInput, ...]:
        """``image`` uint8 ``[N, H, W, 3]``."""
        return _INPUTS

    def feeds(self, batch: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """The batch under its name."""
        return {"image": batch}

    def item(self, given: Any) -> NDArray[np.uint8]:
        """One image, uint8 ``[H, W, 3]``."""
        image: NDArray[np.uint8] = check_image(given)[0]
        return image

    def one(self, given: Any) -> NDArray[np.uint8]:
        """One image, uint8 ``[1, H, W, 3]``."""
        return check_image(given)

    def batch(self, given: Any) -> NDArray[np.uint8]:
        """Images, uint8 ``[N, H, W, 3]``."""
        return check_batch(given)

    def is_single(self, given: Any) -> bool:
        """Whether it is a path or a PIL image."""
        return isinstance(given, str | os.PathLike) or is_picture(given)

    error: ClassVar[type[InputError]] = ImageError

    def single_words(self, given: Any) -> str:
        """The only single image that is no path."""
        return "a PIL image"

    def area(self, item: NDArray[np.uint8]) -> int:
        """Pixels."""
        return int(item.shape[0] * item.shape[1])

    def is_file_name(self, name: str) -> bool:
        """Whether its ending is one of an image."""
        return is_image_name(name)

    def load(self, path: str | Path) -> NDArray[np.uint8]:
        """Decode an image file."""
        return load_image(path)

    def size(self, item: NDArray[np.uint8]) -> Size:
        """Height and width."""
        return item.shape[0], item.shape[1]

    def random(self, size: Size, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Pixels without any order."""
        return rng.integers(0, 256, (*size, 3), dtype=np.uint8)

    def reference(self, size: Size) -> NDArray[np.uint8]:
        """See :func:`zoo.inputs.reference_image.reference_image`."""
        return reference_image(*size)

    def made(self) -> list[NDArray[np.uint8]]:
        """Images of several sizes."""
        return [self.reference(size) for size in _MADE_SIZES]

    def parse_size(self, text: str) -> Size:
        """``224x224``."""
        try:
            height, width = (int(part) for part in text.lower().split("x"))
        except ValueError:
            height = width = 0
        if height < 1 or width < 1 or height * width > _MOST_PIXELS:
            raise DataError(f"expected a size such as 224x224, got {text!r}.")
        return height, width

    @property
    def record(self) -> InputRecord | None:
        """None: cards of models that look at images name no kind, as before there were others."""
        return None
