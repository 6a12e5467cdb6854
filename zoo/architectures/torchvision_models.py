"""torchvision classifiers by name, with the preprocessing that their published weights were trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torchvision
from torch import nn

from zoo.architectures.checkpoints import load_state
from zoo.architectures.preprocessing import Preprocessing
from zoo.errors import ModelError
from zoo.quiet import quiet

# These classify at two inner layers as well, while they learn; answers come from the last one alone.
_AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def torchvision_model(
    name: str,
    *,
    weights: str | Path | None = None,
    classes: int = 1000,
    resolution: int | tuple[int, int] | None = None,
) -> tuple[nn.Module, Preprocessing, tuple[str, ...]]:
    """A classifier of ``torchvision.models``.

    Parameters
    ----------
    name
        Such as ``resnet18`` or ``mobilenet_v3_small``.
    weights
        ``None`` for random weights, ``"DEFAULT"`` for the published ones (downloaded on first use), or the
        path of a file that :func:`zoo.architectures.checkpoints.read_state` reads.
    classes
        Number of classes; 1000 with the published weights.
    resolution
        Side, or height and width, that the network sees, in pixels; by default those of the published
        weights.

    Returns
    -------
    module
        float32 ``[N, 3, h, w]`` → logits float32 ``[N, classes]``, in ``eval()``.
    preprocessing
        As the published weights want it; the means and stds of ImageNet where there are none.
    names
        The class names of the published weights (made distinct), empty for others.

    Raises
    ------
    ModelError
        When there is no such classifier, or the weights cannot be had or do not fit.

    Notes
    -----
    GoogLeNet and Inception come without their auxiliary classifiers, whether the weights have them or not.
    Their published weights see mean and std 0.5, whatever their transforms say: the network changes its
    input. Weights that were trained on from them do so as well, which no state dict says: give 0.5 for both.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        similar = [other for other in known if other.startswith(name[:5])] or known
        raise ModelError(
            f"expected the name of a torchvision classifier, got {name!r}. "
            f"Among those known: {', '.join(similar[:8])}."
        )
    published = torchvision.models.get_model_weights(name)
    default = getattr(published, "DEFAULT", None)
    wanted = default if weights == "DEFAULT" else None
    if weights == "DEFAULT" and (default is None or classes != 1000):
        raise ModelError(
            f"{name}: the published weights "
            + ("do not exist" if default is None else f"have 1000 classes, not {classes}")
            + ". Give the path of a state dict, or take random weights and train them."
        )
    try:
        with quiet():
            arguments: dict[str, Any] = {} if wanted else {"num_classes": classes}
            if name in _AUXILIARY:
                arguments |= {"aux_logits": False, "init_weights": weights is None}
            network: nn.Module = torchvision.models.get_model(name, weights=wanted, **arguments)
    except Exception as error:  # the download may fail in many ways
        raise ModelError(
            f"{name}: cannot be made: {error}. Without a network connection, give a state dict."
        ) from error
    if weights is not None and wanted is None:
        what = f"{name} with {classes} classes"
        load_state(network, weights, what=what, unused=_AUXILIARY.get(name, ()))
    names = tuple(wanted.meta["categories"]) if wanted else ()
    return network.eval(), _preprocessing(default, resolution), distinct(names)


def _preprocessing(default: object, resolution: int | tuple[int, int] | None) -> Preprocessing:
    if default is None:
        return Preprocessing(_sides(resolution or 224), mean=_IMAGENET_MEAN, std=_IMAGENET_STD, crop=0.875)
    preset = default.transforms()  # type: ignore[attr-defined]
    bicubic = preset.interpolation == torchvision.transforms.InterpolationMode.BICUBIC
    return Preprocessing(
        _sides(resolution or preset.crop_size[0]),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        crop=min(1.0, preset.crop_size[0] / preset.resize_size[0]),
        interpolation="bicubic" if bicubic else "bilinear",
    )


def _sides(resolution: int | tuple[int, int]) -> tuple[int, int]:
    return (resolution, resolution) if isinstance(resolution, int) else resolution


def distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """ImageNet has two kinds of crane and of maillot; the second of a name gets its class index."""
    return tuple(f"{name} ({index})" if name in names[:index] else name for index, name in enumerate(names))
