"""torchvision classifiers by name, with the preprocessing that their published weights were trained with."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from zoo.architectures.preprocessing import Preprocessing
from zoo.errors import ModelError
from zoo.files import open_file
from zoo.quiet import quiet

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
        path of a state dict that ``torch.save`` wrote; it is read without executing anything.
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
            arguments = {} if wanted else {"num_classes": classes}
            network: nn.Module = torchvision.models.get_model(name, weights=wanted, **arguments)
    except Exception as error:  # the download may fail in many ways
        raise ModelError(
            f"{name}: cannot be made: {error}. Without a network connection, give a state dict."
        ) from error
    if weights is not None and wanted is None:
        load_state(network, Path(weights), what=f"{name} with {classes} classes")
    names = tuple(wanted.meta["categories"]) if wanted else ()
    return network.eval(), _preprocessing(default, resolution), _distinct(names)


def load_state(network: nn.Module, path: Path, *, what: str) -> None:
    """Load the state dict in `path` into `network`, without executing anything in the file.

    Raises
    ------
    ModelError
        When the file is not a state dict, or not one of this network.
    """
    try:
        with open_file(path) as stream:
            state = torch.load(stream, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(
            f"{path}: expected a state dict written by torch.save(model.state_dict(), path), got: "
            f"{(str(error).strip() or type(error).__name__).splitlines()[0]}."
        ) from error
    for key in ("state_dict", "model"):  # checkpoints of common training scripts hold more than the weights
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path}: expected a state dict (name → tensor), got {type(state).__name__}.")
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ModelError(
            f"{path}: expected the weights of {what}, got others: {' '.join(lines[1:3])[:300]} "
            "Check the name of the network and the number of classes."
        ) from error


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


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """ImageNet has two kinds of crane and of maillot; the second of a name gets its class index."""
    return tuple(f"{name} ({index})" if name in names[:index] else name for index, name in enumerate(names))
