"""timm classifiers by name, with the preprocessing that their published weights were trained with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, cast

import torchvision
from torch import Tensor, nn

from zoo.architectures.checkpoints import fit_state, read_state, unwrapped
from zoo.architectures.preprocessing import Preprocessing, nearest_interpolation, triple
from zoo.architectures.torchvision_models import distinct
from zoo.errors import MissingExtraError, ModelError
from zoo.extras import install_command
from zoo.quiet import quiet

_IMAGENET_CLASSES = 1000


class TimmModel(NamedTuple):
    """A classifier of timm, and what is known about it."""

    module: nn.Module  # float32 [N, 3, h, w] → logits float32 [N, classes], in eval()
    preprocessing: Preprocessing
    names: tuple[str, ...]  # of the classes, empty where nothing says them
    classes: int
    notes: dict[str, str]  # field of the preprocessing → what is done otherwise than timm does it


def timm_model(
    name: str,
    *,
    weights: str | Path | None = None,
    classes: int | None = None,
    resolution: int | tuple[int, int] | None = None,
    config: Mapping[str, Any] | None = None,
) -> TimmModel:
    """A classifier of ``timm``.

    Parameters
    ----------
    name
        Such as ``resnet18`` or, with the published weights that are meant, ``resnet18.a1_in1k``.
    weights
        ``None`` for random weights, ``"DEFAULT"`` for the published ones (downloaded on first use), or the
        path of a file that :func:`zoo.architectures.checkpoints.read_state` reads.
    classes
        Number of classes; by default as many as the weights have.
    resolution
        Side, or height and width, that the network sees, in pixels; by default those of the published
        weights. Networks that are made for one size are made for this one.
    config
        Facts that take the place of timm's own: `input_size`, `mean`, `std`, `crop_pct`, `crop_mode`,
        `interpolation`, `num_classes`, `label_names`, as in the ``pretrained_cfg`` of a snapshot.

    Raises
    ------
    MissingExtraError
        When timm is not installed.
    ModelError
        When there is no such classifier, or the weights cannot be had or do not fit.
    """
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError(
            f"timm {name} needs the package {error.name}, which is not installed. "
            f"Install it with: {install_command('timm')}"
        ) from error
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        known = timm.list_models()
        similar = get_close_matches(base, known, n=8) or known
        raise ModelError(
            f"expected the name of a timm classifier, got {name!r}. Among those known: "
            f"{', '.join(similar[:8])}."
        )
    try:
        found = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise ModelError(
            f"{name}: expected published weights of timm {base}, got {tag!r}. Known: "
            f"{', '.join(timm.list_pretrained(f'{base}.*')[:8]) or 'none'}."
        ) from error
    native = asdict(found or timm.models.PretrainedCfg())
    facts: dict[str, Any] = {**native, **(config or {})}
    sides = (resolution, resolution) if isinstance(resolution, int) else resolution
    size = sides or (int(facts["input_size"][1]), int(facts["input_size"][2]))
    other_size = bool(native.get("fixed_input_size")) and size != tuple(native["input_size"][1:])
    made_for = {"img_size": size} if other_size else {}
    published = weights == "DEFAULT"
    held = None if weights is None or published else read_state(weights)
    width = classes or _width(held or {}, facts) or int(facts["num_classes"])
    if published and width != native["num_classes"]:
        raise ModelError(
            f"{name}: the published weights have {native['num_classes']} classes, not {width}. Give the path "
            "of a state dict, or the names of all its classes."
        )
    if published:
        module = _create(timm, name, pretrained=True)
        _resize(module, name, size if other_size else None)
    else:
        module = _create(timm, name, num_classes=width, **made_for)
    if held is not None:
        assert weights is not None
        resized = bool(made_for) and not _has_shapes(module, held)
        if resized:  # weights for the usual size
            module = _create(timm, name, num_classes=width)
        fit_state(module, held, weights, what=f"timm {name} with {width} classes")
        _resize(module, name, size if resized else None)
    preprocessing, notes = timm_preprocessing(facts, size)
    names = _names(facts, width) if published or config is not None else ()
    return TimmModel(module.eval(), preprocessing, names, width, notes)


def _create(timm: Any, name: str, **arguments: Any) -> nn.Module:
    try:
        with quiet():
            module: nn.Module = timm.create_model(name, **arguments)
    except Exception as error:  # networks and downloads fail in many ways
        if "img_size" in str(error):
            raise ModelError(
                f"{name}: expected the size that this network is made for, got "
                f"{arguments['img_size']}. Leave the size out, or take another network."
            ) from error
        advice = "Without a network connection, give a state dict." if arguments.get("pretrained") else ""
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ModelError(f"{name}: cannot be made by timm: {reason}. {advice}".rstrip()) from error
    return module


def _resize(module: nn.Module, name: str, size: tuple[int, int] | None) -> None:
    """Fit a network that is made for one size to another one, as timm does before it trains on."""
    if size is None:
        return
    try:
        with quiet():
            cast(Any, module).set_input_size(img_size=size)
    except Exception as error:  # networks without it, and sizes that do not go with their patches
        raise ModelError(
            f"{name}: expected the size that its weights were trained with, got {size[0]}x{size[1]}, which "
            "they cannot be fitted to. Leave the size out."
        ) from error


def _width(state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> int | None:
    """The number of classes that the last layer in a state dict tells apart."""
    last = facts.get("classifier") or ()
    ends = [f".{layer}.weight" for layer in ([last] if isinstance(last, str) else last)]
    found = [key for key in state if any(f".{key}".endswith(end) for end in ends)]
    return int(state[min(found, key=len)].shape[0]) if found else None


def _has_shapes(module: nn.Module, state: Mapping[str, Tensor]) -> bool:
    own = module.state_dict()
    given = unwrapped(state, own)
    return all(given[key].shape == value.shape for key, value in own.items() if key in given)


def timm_preprocessing(
    facts: Mapping[str, Any], resolution: tuple[int, int] | None = None
) -> tuple[Preprocessing, dict[str, str]]:
    """What timm's evaluation transform does, as a record.

    Parameters
    ----------
    facts
        A ``pretrained_cfg``.
    resolution
        Another height and width that the network sees, in pixels.

    Returns
    -------
    preprocessing
        The record.
    notes
        Field → a sentence, for what the record cannot say.
    """
    notes = {}
    channels, *sides = (int(size) for size in facts["input_size"])
    size = resolution or (sides[0], sides[1])
    share, mode = float(facts.get("crop_pct") or 0.875), str(facts.get("crop_mode") or "center")
    wanted = str(facts.get("interpolation") or "bicubic")
    interpolation = nearest_interpolation(wanted)
    if interpolation != wanted:
        notes["interpolation"] = f"Images are resized {interpolation} here; timm's way is {wanted}."
    # timm rounds the size before the crop down, and keeps the aspect ratio in its usual mode.
    crop: float | None = min(size) / math.floor(min(size) / share)
    if mode == "squash" and share == 1:
        crop = None
    elif mode != "center":
        notes["crop"] = f"The centre of an image is cut out here; timm's way is crop mode {mode!r}."
    preprocessing = Preprocessing(
        size,
        mean=triple(facts["mean"]),
        std=triple(facts["std"]),
        crop=crop,
        interpolation=interpolation,
        channels="gray" if channels == 1 else "rgb",
    )
    return preprocessing, notes


def _names(facts: Mapping[str, Any], width: int) -> tuple[str, ...]:
    names = tuple(map(str, facts.get("label_names") or ()))
    if not names and width == _IMAGENET_CLASSES:
        names = tuple(torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"])
    return distinct(names) if len(names) == width else ()
