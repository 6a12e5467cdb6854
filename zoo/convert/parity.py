"""Parity: how far an ONNX graph is from another way to compute the same logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from zoo.models.session import open_session

TOLERANCE = 1e-4  # of the largest logit


def disagreement(
    content: bytes,
    other: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    resolution: tuple[int, int],
    *,
    name: str,
) -> float:
    """The largest difference of a logit, as a share of the largest logit; infinite where one is no number.

    The images are random, of two sizes: one of the resolution, and a batch of three of odd shape.

    Parameters
    ----------
    content
        The ONNX file under the model contract.
    other
        uint8 ``[N, H, W, 3]`` → logits ``[N, C]``.
    """
    session = open_session(content, name=name)
    rng = np.random.default_rng(0)
    height, width = resolution
    worst = 0.0
    for batch, size in ((1, (height, width)), (3, (height + height // 3 + 1, 2 * width + 1))):
        images: NDArray[np.uint8] = rng.integers(0, 256, (batch, *size, 3), dtype=np.uint8)
        expected = other(images)
        got = session.run(["logits"], {"image": images})[0]
        scale = max(float(np.abs(expected).max()), 1e-6)
        worst = max(worst, float(np.nan_to_num(np.abs(got - expected) / scale, nan=np.inf).max()))
    return worst
