"""ConvNet: a family of small networks, scaled in width and depth, for training from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from zoo.architectures.preprocessing import Preprocessing
from zoo.errors import ModelError

# Widths, residual pairs, stride of the stem, resolution. Multiply-accumulates for ten classes: about 0.03,
# 0.7, 5 and 48 million.
_SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...], int, int]] = {
    "tiny": ((8, 16), (0, 0), 2, 16),
    "small": ((16, 32, 64), (0, 0, 0), 2, 32),
    "medium": ((32, 64, 96), (0, 0, 1), 2, 32),
    "full": ((32, 64, 128), (0, 1, 1), 1, 32),
}
CONVNETS = tuple(_SIZES)


class ConvNet(nn.Module):
    """Plain convolutions with BatchNormalization, global average pooling, one linear layer.

    Every stage halves the image with its first convolution; the other convolutions of a stage come in
    residual pairs (He et al. 2015, arXiv:1512.03385).

    Parameters
    ----------
    widths
        Channels of every stage.
    pairs
        Residual pairs in every stage, as many numbers as there are widths.
    classes
        Number of classes.
    stem_stride
        Stride of the first convolution; 1 keeps the first stage at the full resolution.

    Notes
    -----
    float32 ``[N, 3, h, w]`` → logits float32 ``[N, classes]``.
    """

    def __init__(
        self, widths: Sequence[int], pairs: Sequence[int], classes: int, *, stem_stride: int = 2
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage, ((before, width), repeat) in enumerate(zip(pairwise((3, *widths)), pairs, strict=True)):
            layers.append(_convolution(before, width, stride=2 if stage else stem_stride))
            layers.extend(_Pair(width) for _ in range(repeat))
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of a batch."""
        logits: Tensor = self.head(self.features(pixels).mean(dim=(2, 3)))
        return logits


class _Pair(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(width, width)
        self.second = _convolution(width, width, activation=False)
        self.activation = nn.ReLU()

    def forward(self, planes: Tensor) -> Tensor:
        activated: Tensor = self.activation(planes + self.second(self.first(planes)))
        return activated


def _convolution(before: int, after: int, *, stride: int = 1, activation: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
    ]
    if activation:
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def convnet(name: str, classes: int, *, resolution: int | None = None) -> tuple[ConvNet, Preprocessing]:
    """A new, untrained network of a named size, and the preprocessing that goes with it.

    Parameters
    ----------
    name
        ``tiny``, ``small``, ``medium`` or ``full``.
    classes
        Number of classes.
    resolution
        Height and width that the network sees, in pixels; by default 16 for the tiny one, else 32.

    Raises
    ------
    ModelError
        When there is no such size.
    """
    if name not in _SIZES:
        raise ModelError(f"expected one of {', '.join(CONVNETS)}, got {name!r}.")
    widths, pairs, stem_stride, default = _SIZES[name]
    side = resolution or default
    preprocessing = Preprocessing((side, side), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    return ConvNet(widths, pairs, classes, stem_stride=stem_stride), preprocessing
