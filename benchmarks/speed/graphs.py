"""Graphs of models beside themselves: what rewriting and layers in float change, in time and in answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.speed.made_bundles import made_images
from benchmarks.speed.ratios import quiet_times_us
from zoo.architectures.cifar_resnet import CIFAR10_CLASSES, CIFAR_RESNET_PREPROCESSING, CifarResNet, load_npz
from zoo.convert.export import export_module
from zoo.convert.int8.compress import quantize_int8
from zoo.models.session import open_session

_CALIBRATION_IMAGES = 64
_COMPARED_IMAGES = 64


def rewriting(
    weights: Path | None, *, depth: int = 20, rounds: int = 150, seed: int = 0
) -> list[dict[str, Any]]:
    """A CIFAR ResNet as it is exported, over the same with Slice and Pad in its shortcuts; float and 8 bits.

    Parameters
    ----------
    weights
        Folder with ``cifar10-resnet20.npz`` and so on; without, weights are random.
    """
    torch.manual_seed(seed)
    network = (
        CifarResNet(depth) if weights is None else load_npz(weights / f"cifar10-resnet{depth}.npz", depth)
    )
    images = made_images(_CALIBRATION_IMAGES, seed=seed)

    old, new = (
        export_module(
            network.eval(),
            CIFAR_RESNET_PREPROCESSING,
            name="net",
            classes=CIFAR10_CLASSES,
            rewrite=rewrite,
        )
        for rewrite in (False, True)
    )
    old_int8 = quantize_int8(old, images, name="net", float_ends=False, rewrite=False)
    new_int8 = quantize_int8(new, images, name="net")
    batch = np.stack(made_images(_COMPARED_IMAGES, seed=seed + 1))
    expected = _logits(old, batch)
    rows = []
    for kind, before, after in (("float", old, new), ("int8", old_int8, new_int8)):
        calls = {"before": _run(before), "after": _run(after)}
        times = quiet_times_us(calls, [image[np.newaxis] for image in batch], rounds=rounds, seed=seed)
        apart = [float(np.abs(_logits(content, batch) - expected).mean()) for content in (before, after)]
        rows.append(
            {
                "model": f"resnet{depth} {kind}",
                "after_over_before": round(times["after"] / times["before"], 3),
                "mean_difference_before": float(f"{apart[0]:.2g}"),
                "mean_difference_after": float(f"{apart[1]:.2g}"),
            }
        )
    return rows


def _run(content: bytes) -> Callable[[Any], object]:
    session = open_session(content, name="net")
    return lambda image: session.run(["logits"], {"image": image})


def _logits(content: bytes, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = open_session(content, name="net").run(["logits"], {"image": batch})[0]
    return found
