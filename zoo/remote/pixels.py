"""From inputs to what a server takes: images resized, scaled, in its layout; or files of JPEG or PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from zoo.remote.arrays import array_tensors
from zoo.remote.descriptor import Pixels, Remote
from zoo.remote.protocol import DTYPES, Tensor, bytes_tensor


def input_tensors(remote: Remote, feeds: Mapping[str, NDArray[Any]]) -> tuple[Tensor, ...]:
    """The inputs of a request for what a graph would be given."""
    if remote.arrays is not UNSET:
        return array_tensors(remote.arrays, feeds)
    (images,) = feeds.values()
    return (input_tensor(remote, images),)


def input_tensor(remote: Remote, images: NDArray[Any]) -> Tensor:
    """The input of a request for images uint8 ``[N, H, W, 3]``; for a tail, the tensor of its head as it is.

    Examples
    --------
    >>> import numpy as np
    >>> from zoo.remote.descriptor import Pixels, Remote
    >>> from zoo.remote.pixels import input_tensor
    >>> remote = Remote(
    ...     address="https://models.example.org",
    ...     model="tiny",
    ...     input_name="x",
    ...     output_name="y",
    ...     input_datatype="FP32",
    ...     input_layout="nchw",
    ...     pixels=Pixels(size=(2, 4), scale=255.0),
    ... )
    >>> input_tensor(remote, np.zeros((5, 9, 9, 3), np.uint8)).values.shape
    (5, 3, 2, 4)
    """
    if remote.input_layout == "features":
        return Tensor(remote.input_name, images.astype(DTYPES[remote.input_datatype], copy=False))
    seen = [fitted(remote.pixels, image) for image in images] if _resized(remote.pixels) else images
    if remote.encoding != "tensor":
        files = [encoded(remote, image) for image in seen]
        return bytes_tensor(remote.input_name, files, (len(files), *[1] * (remote.input_rank - 1)))
    stack = np.stack(list(seen)) if isinstance(seen, list) else seen
    pixels = remote.pixels
    if pixels.channels == "bgr":
        stack = stack[..., ::-1]
    if remote.input_datatype != "UINT8":
        mean, std = np.asarray(pixels.mean, np.float32), np.asarray(pixels.std, np.float32)
        stack = (stack.astype(np.float32) / np.float32(pixels.scale) - mean) / std
        stack = stack.astype(DTYPES[remote.input_datatype], copy=False)
    if remote.input_layout == "nchw":
        stack = stack.transpose(0, 3, 1, 2)
    return Tensor(remote.input_name, stack)


def fitted(pixels: Pixels, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The centre of an image, resized to what the server takes."""
    height, width = image.shape[:2]
    box = None
    to = pixels.size or (height, width)
    if pixels.crop is not None:
        scale = min(height / to[0], width / to[1]) * pixels.crop
        high, wide = scale * to[0], scale * to[1]
        box = ((width - wide) / 2, (height - high) / 2, (width + wide) / 2, (height + high) / 2)
    elif to == (height, width):
        return image
    from PIL import Image  # here, so that importing the package stays fast

    resampling = Image.Resampling[pixels.interpolation.upper()]
    resized = Image.fromarray(image).resize((to[1], to[0]), resampling, box=box)
    return np.asarray(resized)


def encoded(remote: Remote, image: NDArray[np.uint8]) -> bytes:
    """An image as a file of JPEG or PNG."""
    from PIL import Image

    stream = io.BytesIO()
    options: dict[str, Any] = {"quality": remote.quality} if remote.encoding == "jpeg" else {}
    Image.fromarray(np.ascontiguousarray(image)).save(stream, remote.encoding.upper(), **options)
    return stream.getvalue()


def _resized(pixels: Pixels) -> bool:
    return pixels.size is not None or pixels.crop is not None
