"""Claims about what is no image yet: the advice in the error makes it one."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import numpy as np
import PIL.Image
import pytest

from zoo.errors import ImageError
from zoo.inputs.image import check_batch, check_image

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
CODE = re.compile(r"[:;] ((?:\(?image|\(?tensor|numpy\.|PIL\.).*?)(?:\.$|\. |; | for 16)")


def advised(image: Any, check: Any = check_image) -> Any:
    """What the expression in the error makes of it."""
    with pytest.raises(ImageError, match="expected a uint8 array") as caught:
        check(image)
    found = CODE.search(str(caught.value))
    assert found, str(caught.value)
    names = dict.fromkeys(("image", "tensor", "stream", "content"), image)
    return eval(found[1], {"numpy": np, "PIL": PIL, "io": io, "torch": sys.modules.get("torch")} | names)


GRAY = PIXELS[..., 0]
ARRAYS = [
    GRAY,
    PIXELS[..., :1],
    np.dstack([PIXELS, GRAY]),
    np.moveaxis(PIXELS, -1, 0),
    GRAY[np.newaxis],
    PIXELS / 255,
    PIXELS.astype(np.float32),
    PIXELS.astype(np.uint16) * 257,
    PIXELS > 127,
]


@pytest.mark.parametrize("image", ARRAYS, ids=lambda image: f"{image.dtype}{image.shape}")
def test_advice_for_an_array_makes_it_an_image(image: Any) -> None:
    assert check_image(advised(image)).shape == (1, 6, 9, 3)


def test_advice_keeps_the_picture() -> None:
    np.testing.assert_array_equal(advised(np.moveaxis(PIXELS, -1, 0)), PIXELS)
    np.testing.assert_array_equal(advised(PIXELS / 255), PIXELS)
    np.testing.assert_array_equal(advised(PIXELS.astype(np.float64)), PIXELS)


def test_normalised_values_are_told_apart() -> None:
    with pytest.raises(ImageError, match=r"float32 .*It looks normalised: give the image as it was before"):
        check_image((PIXELS / np.float32(255) - 0.5) / 0.2)
    with pytest.raises(ImageError, match=r"values 0\.\.1: .* The channels come last"):
        check_image(np.moveaxis(PIXELS, -1, 0) / 255)


def test_advice_for_tensors_of_torch() -> None:
    torch = pytest.importorskip("torch")
    first = torch.from_numpy(np.moveaxis(PIXELS, -1, 0).copy())
    for tensor in (first, first / 255, first.float(), torch.from_numpy(PIXELS), first.double() / 255):
        np.testing.assert_array_equal(advised(tensor), PIXELS)
        batch = advised(torch.stack([tensor, tensor]), check_batch)
        np.testing.assert_array_equal(batch, np.stack([PIXELS, PIXELS]))
    with pytest.raises(ImageError, match=r"got a torch tensor float32 \[3, 6, 9\]. It looks normalised"):
        check_image(first / 255 - 0.5)


def test_advice_for_bytes_and_streams() -> None:
    stream = io.BytesIO()
    PIL.Image.fromarray(PIXELS).save(stream, "PNG")
    for encoded in (stream.getvalue(), stream):
        np.testing.assert_array_equal(check_image(advised(encoded))[0], PIXELS)
    with pytest.raises(ImageError, match=r"got NoneType\. Give an array, a PIL image or the path of a file"):
        check_image(None)
