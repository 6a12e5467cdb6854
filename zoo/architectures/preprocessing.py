"""Preprocessing: what happens to an image before the first layer, as a record and as a torch module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ModelError

Interpolation = Literal["bilinear", "bicubic"]
Channels = Literal["rgb", "bgr", "gray"]

LUMA = (0.299, 0.587, 0.114)  # of R, G, B in ITU-R BT.601, as Pillow's convert("L")


@dataclass(frozen=True)
class Preprocessing:
    """How images of any size become the float input of a network.

    A centre crop is taken first and resized afterwards, so that pixels which are thrown away cost nothing on
    the device. Up to the rounding of the box to whole pixels this is "resize the short side to
    resolution / crop, then crop the centre".

    Parameters
    ----------
    resolution
        Height and width that the network sees, in pixels.
    mean, std
        Per channel (R, G, B) on the 0..1 scale: the network sees ``(pixel / 255 - mean) / std``.
    crop
        Share of the short side that a centre crop of the network's aspect ratio keeps, in (0, 1];
        ``None`` resizes the whole image and does not keep its aspect ratio.
    interpolation
        ``bilinear`` or ``bicubic``; both are antialiased when they shrink.
    channels
        What the network sees: ``rgb``, ``bgr`` (the same three in reverse), or ``gray`` (one channel, the
        luma of ITU-R BT.601; mean and std then hold one grey value three times).

    Raises
    ------
    ModelError
        When a field is out of range.
    """

    resolution: tuple[int, int]
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    crop: float | None = None
    interpolation: Interpolation = "bilinear"
    channels: Channels = "rgb"

    def __post_init__(self) -> None:
        if len(self.resolution) != 2 or min(self.resolution) < 1:
            raise ModelError(
                f"preprocessing: expected a resolution (height, width) in pixels, got {self.resolution}."
            )
        if len(self.mean) != 3 or len(self.std) != 3 or not all(map(math.isfinite, (*self.mean, *self.std))):
            raise ModelError(
                "preprocessing: expected 3 finite means and 3 finite stds (R, G, B), "
                f"got {self.mean} and {self.std}."
            )
        if min(self.std) <= 0:
            raise ModelError(f"preprocessing: expected stds above 0 on the 0..1 scale, got {self.std}.")
        if max(map(abs, self.mean)) > 2 or max(self.std) > 2:
            raise ModelError(
                f"preprocessing: expected mean and std on the 0..1 scale, got {self.mean} and {self.std}. "
                "Divide them by 255."
            )
        if self.crop is not None and not 0 < self.crop <= 1:
            raise ModelError(f"preprocessing: expected crop in (0, 1] or none, got {self.crop}.")
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ModelError(
                f"preprocessing: expected interpolation 'bilinear' or 'bicubic', got {self.interpolation!r}."
            )
        if self.channels not in ("rgb", "bgr", "gray"):
            raise ModelError(
                f"preprocessing: expected channels 'rgb', 'bgr' or 'gray', got {self.channels!r}."
            )
        if self.channels == "gray" and (len(set(self.mean)) > 1 or len(set(self.std)) > 1):
            raise ModelError(
                "preprocessing: expected one grey mean and one grey std, the same for all channels, "
                f"got {self.mean} and {self.std}."
            )

    def __repr__(self) -> str:
        # Digests of training settings hold this text; usual channels are left out, as before the field.
        shown = [field for field in fields(self) if field.name != "channels" or self.channels != "rgb"]
        return f"Preprocessing({', '.join(f'{field.name}={getattr(self, field.name)!r}' for field in shown)})"

    @property
    def uncropped(self) -> tuple[int, int]:
        """Height and width that the whole image would be resized to before the centre crop, in pixels."""
        share = self.crop or 1.0
        return round(self.resolution[0] / share), round(self.resolution[1] / share)

    @property
    def planes(self) -> int:
        """How many channels the network sees."""
        return 1 if self.channels == "gray" else 3

    @property
    def scale(self) -> tuple[float, float, float]:
        """Factor per channel from pixel values 0..255 to the network's input."""
        return triple([1 / (255 * std) for std in self.std])

    @property
    def offset(self) -> tuple[float, float, float]:
        """Term per channel that is added after :attr:`scale`."""
        return triple([-mean / std for mean, std in zip(self.mean, self.std, strict=True)])

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of the part of an image that is kept, in whole pixels."""
        if self.crop is None:
            return 0, 0, height, width
        kept = [
            max(
                1,
                min(
                    (size * out + full // 2) // full
                    for size, full in zip((height, width), self.uncropped, strict=True)
                ),
            )
            for out in self.resolution
        ]
        return (height - kept[0]) // 2, (width - kept[1]) // 2, kept[0], kept[1]


class Preprocess(nn.Module):
    """uint8 ``[N, H, W, 3]`` → float32 ``[N, 3, h, w]``, normalised; ``[N, 1, h, w]`` in gray.

    The same arithmetic as the start of every stored graph, for training; see
    :mod:`zoo.convert.preprocessing_graph`.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.register_buffer("scale", torch.tensor(preprocessing.scale).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("offset", torch.tensor(preprocessing.offset).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Crop, resize and normalise a batch."""
        p = self.preprocessing
        top, left, height, width = p.box(images.shape[1], images.shape[2])
        planes = images[:, top : top + height, left : left + width].permute(0, 3, 1, 2).to(torch.float32)
        if (height, width) != p.resolution:
            planes = F.interpolate(planes, size=p.resolution, mode=p.interpolation, antialias=True)
        normalised = planes * self.scale + self.offset
        if p.channels == "bgr":
            return normalised.flip(1)
        if p.channels == "gray":
            return F.conv2d(normalised, normalised.new_tensor(LUMA).view(1, 3, 1, 1))
        return normalised


def triple(values: Sequence[float]) -> tuple[float, float, float]:
    """A number per channel, or one for all of them, as three floats."""
    red, green, blue = values if len(values) != 1 else (values[0],) * 3
    return float(red), float(green), float(blue)


def nearest_interpolation(name: str) -> Interpolation:
    """Our way to resize that is nearest to one of Pillow's."""
    return "bicubic" if name in ("bicubic", "lanczos") else "bilinear"
