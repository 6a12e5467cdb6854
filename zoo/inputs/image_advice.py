"""Advice for whoever hands over something that is no image: what it is, and how it becomes one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ImageError

_TWELVE_BITS = 4095


def no_image(image: Any, shape: str) -> ImageError:
    """The error for anything but a uint8 array of this shape."""
    expected = f"expected a uint8 array {shape} in RGB order"
    if _is_tensor(image):
        got = f"a torch tensor {str(image.dtype).removeprefix('torch.')} {list(image.shape)}"
        return ImageError(f"{expected}, got {got}. {_for_tensor(image)}")
    if not isinstance(image, np.ndarray):
        return ImageError(f"{expected}, got {type(image).__name__}. {_for_other(image)}")
    return ImageError(f"{expected}, got {image.dtype} {list(image.shape)}. {_for_array(image)}")


def _for_other(image: Any) -> str:
    if isinstance(image, bytes | bytearray | memoryview):
        return "Decode it first: PIL.Image.open(io.BytesIO(content))."
    if hasattr(image, "read"):
        return "Open it first: PIL.Image.open(stream)."
    if hasattr(image, "__array__"):
        return "Convert it first: numpy.asarray(image)."
    if isinstance(image, list | tuple):
        return (
            "For several images there are predict_batch and select_batch; numbers become an array with "
            "numpy.asarray(rows, dtype='uint8')."
        )
    return "Give an array, a PIL image or the path of a file."


def _for_tensor(image: Any) -> str:
    channels_first = image.ndim >= 3 and image.shape[-3] in (1, 3) and image.shape[-1] not in (1, 3)
    order = {3: ".permute(1, 2, 0)", 4: ".permute(0, 2, 3, 1)"}.get(image.ndim, "") if channels_first else ""
    if not image.dtype.is_floating_point:
        return f"Convert it: tensor{order}.to(torch.uint8).cpu().numpy()."
    if image.numel() and float(image.min()) < 0:
        return "It looks normalised: give the image as it was before, values 0..255 as uint8."
    scaled = "tensor" if image.numel() and float(image.max()) > 1 else "(tensor * 255)"
    return f"Convert it: {scaled}{order}.round().clamp(0, 255).to(torch.uint8).cpu().numpy()."


def _for_array(image: NDArray[Any]) -> str:
    advice = [_for_values(image), _for_axes(image)]
    if not any(advice):
        return "One image has 3 axes (predict, select), a batch has 4 (predict_batch, select_batch)."
    return " ".join(filter(None, advice))


def _for_values(image: NDArray[Any]) -> str:
    if image.dtype == np.uint8:
        return ""
    if image.dtype == np.bool_:
        return "Values are 0..255: image.astype('uint8') * 255."
    if image.dtype == np.uint16:
        if image.size and int(image.max()) <= _TWELVE_BITS:
            return (
                "Scale 16 bits to 8: (image / 257).round().astype('uint8'); or 12 bits: "
                "(image / 4095 * 255).round().astype('uint8')."
            )
        return "Scale 16 bits to 8: (image / 257).round().astype('uint8')."
    if not np.issubdtype(image.dtype, np.floating):
        return "Convert the values to 0..255 and the type to uint8."
    if image.size and not bool(np.isfinite(image).all()):
        return "It holds NaN or infinite values: repair them before converting to uint8."
    if image.size and float(image.min()) < 0:
        return "It looks normalised: give the image as it was before, values 0..255 as uint8."
    if image.size and float(image.max()) > 1:
        return "For values 0..255: image.round().clip(0, 255).astype('uint8')."
    return "For values 0..1: (image * 255).round().clip(0, 255).astype('uint8')."


def _for_axes(image: NDArray[Any]) -> str:
    if image.ndim == 2:
        return "A grayscale image needs three channels: numpy.stack([image] * 3, axis=-1)."
    if image.ndim < 3 or image.shape[-1] == 3:
        return ""
    if image.shape[-1] == 1:
        return "A grayscale image needs three channels: numpy.repeat(image, 3, axis=-1)."
    if image.shape[-1] == 4:
        return "An RGBA image has to lose its alpha channel: image[..., :3]."
    if image.shape[-3] == 3:
        return "The channels come last: numpy.moveaxis(image, -3, -1)."
    if image.shape[-3] == 1:
        return (
            "A grayscale image needs three channels, which come last: "
            "numpy.repeat(numpy.moveaxis(image, -3, -1), 3, axis=-1)."
        )
    return ""


def _is_tensor(image: Any) -> bool:
    """Whether it is a tensor of torch, which is not imported for that."""
    return any(base.__module__ == "torch" and base.__name__ == "Tensor" for base in type(image).__mro__)
