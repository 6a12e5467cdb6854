"""CIFAR ResNets: the thin residual networks for 32×32 images, and their weights from ``.npz`` files."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.architectures.checkpoints import load_state
from zoo.architectures.preprocessing import Preprocessing
from zoo.errors import ModelError

DEPTHS = (20, 32, 44, 56)
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
CIFAR_RESNET_PREPROCESSING = Preprocessing((32, 32), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class CifarResNet(nn.Module):
    """The network of He et al. 2015, section 4.2: three stages of 16, 32 and 64 channels, shortcut option A.

    Parameters
    ----------
    depth
        Number of weighted layers, 6 n + 2 for n blocks in each stage: 20, 32, 44, 56 …
    classes
        Number of classes.

    Raises
    ------
    ModelError
        When the depth is not 6 n + 2.

    Notes
    -----
    float32 ``[N, 3, 32, 32]`` → logits float32 ``[N, classes]``.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition, 2015, arXiv:1512.03385.
    """

    def __init__(self, depth: int, classes: int = 10) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ModelError(f"CIFAR ResNet: expected a depth of 6 n + 2 such as {DEPTHS}, got {depth}.")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of a batch."""
        planes = F.relu(self.bn1(self.conv1(pixels)))
        planes = self.layer3(self.layer2(self.layer1(planes)))
        logits: Tensor = self.linear(planes.mean(dim=(2, 3)))
        return logits


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.grows = before != after

    def forward(self, planes: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(planes)))))
        if self.grows:  # option A: every second pixel, new channels are zero, no parameters
            extra = planes.shape[1] // 2
            planes = F.pad(planes[:, :, ::2, ::2], (0, 0, 0, 0, extra, extra))
        return F.relu(residual + planes)


def _stage(before: int, after: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = _Block(before, after, stride)
    return nn.Sequential(first, *(_Block(after, after, 1) for _ in range(blocks - 1)))


def load_npz(path: str | Path, depth: int, *, classes: int = 10) -> CifarResNet:
    """A CIFAR ResNet with the weights of an ``.npz`` file.

    Parameters
    ----------
    path
        File with one float array per entry of the network's state dict (``conv1.weight``, ``bn1.weight`` …
        ``linear.bias``). Nothing in it is executed.
    depth
        Depth of the network that the weights belong to.

    Raises
    ------
    ModelError
        When the file cannot be read, or an array is missing, unknown, of the wrong shape or not finite.
    """
    network = CifarResNet(depth, classes)
    load_state(network, path, what=f"a CIFAR ResNet-{depth} with {classes} classes")
    return network.eval()
