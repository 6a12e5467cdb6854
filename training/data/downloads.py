"""Torchvision's data sets by name; downloaded once where there is a network."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from training.data.images import ArrayImages, LabelledImages
from zoo.errors import DataError, MissingExtraError
from zoo.extras import install_command

_CLASSES = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "fashion-mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "mnist": "MNIST",
}
TORCHVISION_NAMES = tuple(_CLASSES)


def torchvision_dataset(
    name: str, root: str | Path | None = None, *, train: bool = True, download: bool = True
) -> LabelledImages:
    """A torchvision data set in memory.

    Parameters
    ----------
    name
        ``cifar10``, ``cifar100``, ``fashion-mnist``, ``kmnist`` or ``mnist``.
    root
        Folder of the downloaded files; ``$XDG_CACHE_HOME/zooselect`` (``~/.cache/zooselect``) by default.
    train
        The training part, else the test part.
    download
        Fetch what is missing.

    Raises
    ------
    DataError
        For an unknown name, or when the files are missing and cannot be downloaded; the message says which
        files to fetch by hand and where to put them.
    MissingExtraError
        When torchvision is not installed.
    """
    if name not in _CLASSES:
        raise DataError(
            f"expected one of {', '.join(TORCHVISION_NAMES)}, got {name!r}. "
            "Other data sets work as a folder of class folders."
        )
    try:
        from torchvision import datasets
    except ImportError as error:
        raise MissingExtraError(f"{name} needs torchvision: {install_command('train')}") from error
    kind = getattr(datasets, _CLASSES[name])
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    where = Path(root) if root is not None else Path(cache) / "zooselect"
    try:
        with warnings.catch_warnings():
            # The published CIFAR files were written by an old NumPy; reading them is deprecated, not wrong.
            warnings.filterwarnings("ignore", r"dtype\(\): align should be passed")
            # Torchvision compares the files with digests of its own before it reads them.
            found = kind(str(where), train=train, download=download)
    except (OSError, RuntimeError) as error:  # no network, no space, or files that are not the published ones
        raise DataError(
            f"{name}: expected its files in {where}, got: {_first_line(error)}. "
            f"With a network, run the same command again; without one, {_by_hand(kind, where)}."
        ) from error
    pixels = np.asarray(found.data)
    images = pixels if pixels.ndim == 4 else np.repeat(pixels[:, :, :, np.newaxis], 3, axis=3)
    part = "train" if train else "test"
    ids = [f"{name}-{part}-{i:06d}" for i in range(len(images))]
    return ArrayImages(images, found.classes, ids, np.asarray(found.targets))


def _by_hand(kind: Any, where: Path) -> str:
    if hasattr(kind, "filename"):
        return f"fetch {kind.url} and put it into {where}"
    files = ", ".join(file for file, _ in kind.resources)
    return f"fetch {files} from {kind.mirrors[0]} and put them into {where / kind.__name__ / 'raw'}"


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
