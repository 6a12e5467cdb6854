"""What the suites ``distribution`` and ``answering`` publish: a ResNet-56, and a network of 7 MB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from zoo.architectures.cifar_resnet import CIFAR10_CLASSES, CIFAR_RESNET_PREPROCESSING, CifarResNet
from zoo.convert.add import add_cifar_resnet, add_module
from zoo.convert.exchange import changeable, exchange
from zoo.convert.torch_graph import TorchGraph
from zoo.models.zoo import Zoo


class Wide(nn.Module):
    """48 convolutions of 64 channels: 7 MB in about fifty tensors."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 3, stride=4, padding=1)
        self.body = nn.Sequential(*(nn.Conv2d(64, 64, 3, padding=1) for _ in range(48)))
        self.head = nn.Linear(64, classes)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits of a batch."""
        logits: torch.Tensor = self.head(self.body(self.first(pixels)).mean(dim=(2, 3)))
        return logits


def published_zoo(folder: Path, weights: Path | None, seed: int) -> Zoo:
    """A new zoo with both.

    Parameters
    ----------
    weights
        Folder with ``cifar10-resnet56.npz``; without, a ResNet-56 with random weights moves the same bytes.
    """
    zoo = Zoo.open_or_create(folder)
    torch.manual_seed(seed)
    if weights is None:
        network = CifarResNet(56).eval()
        add_module(
            zoo, "resnet56", network, CIFAR_RESNET_PREPROCESSING, CIFAR10_CLASSES, source="random weights"
        )
    else:
        add_cifar_resnet(zoo, 56, weights / "cifar10-resnet56.npz")
    wide = Wide(len(CIFAR10_CLASSES)).eval()
    add_module(zoo, "wide", wide, CIFAR_RESNET_PREPROCESSING, CIFAR10_CLASSES, source="random weights")
    return zoo


def shaken(content: bytes, *, classes: int, seed: int, scale: float = 0.01) -> bytes:
    """The model with its normalisation and its head shaken a little: stands for a child where no images are.

    Parameters
    ----------
    scale
        Standard deviation of the factors around 1.
    """
    found = changeable(content, classes=classes, name="parent")
    graph = TorchGraph(content, name="parent")
    rng = np.random.default_rng(seed)
    values = {}
    for key in (*found.normalisation, *found.statistics, *found.head):
        value = graph.tensor(key)
        values[key] = value * rng.normal(1.0, scale, value.shape).astype(np.float32)
    return exchange(content, values)
