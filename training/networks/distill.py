"""Distillation: a model of the zoo, whatever it is, teaches a narrower network of our own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from training.data.images import LabelledImages, digest_of
from training.data.seen import remember
from training.data.splits import Splits
from training.networks.loop import Recipe, train
from zoo.architectures.convnet import ConvNet, convnet
from zoo.architectures.preprocessing import Preprocessing
from zoo.convert.count import add_counted
from zoo.convert.export import export_module
from zoo.convert.head import has_embedding, with_embedding
from zoo.cores import allowed_cores
from zoo.errors import CardError, DataError, DigestError
from zoo.models.card import ModelCard, TrainedOn, match_classes
from zoo.models.model import Model, read_graph
from zoo.models.zoo import Zoo, held_message

TRAIN_SHARE = 0.4
_SMALL_SIDE = 64  # pixels; images up to here are trained on at their own size


@dataclass(frozen=True)
class Schedule:
    """How to train one size of :func:`zoo.architectures.convnet.convnet`."""

    lr: float
    views: int  # images shown in all epochs together, unless the epochs are given


# The large ones need few epochs.
SIZES = {
    "tiny": Schedule(1e-2, 40_000),
    "small": Schedule(8e-3, 40_000),
    "medium": Schedule(6e-3, 20_000),
    "full": Schedule(4e-3, 24_000),
}
_LEAST_EPOCHS, _MOST_EPOCHS = 3, 60


def distill(
    zoo: Zoo,
    teacher: str,
    data: LabelledImages,
    *,
    student: str | tuple[nn.Module, Preprocessing] = "small",
    name: str | None = None,
    share: float | None = None,
    seed: int | None = None,
    recipe: Recipe | None = None,
    epochs: int | None = None,
    torch_device: str = "auto",
    force: bool = False,
    embedding: bool = False,
    progress: bool = True,
) -> ModelCard:
    """Train a student on the labels and on the teacher's logits, and add it to the zoo.

    The teacher is run from its ONNX file, so models whose source nobody has can be made smaller too.

    Parameters
    ----------
    teacher
        Name of any model in `zoo` that knows the classes of `data`.
    student
        A name out of :data:`SIZES`, or a torch module (float32 ``[N, 3, h, w]`` → logits ``[N, C]``, the
        classes in the order of `data`) and its preprocessing.
    name
        Name of the new model; ``<teacher>-<size>`` by default.
    share, seed
        The share of the originals to train on, and the seed. By default those of the teacher where it was
        trained on the same data, so that both are judged on the same unseen images, else 0.4 and 0.
    recipe, epochs
        How to train. By default what suits the size and the number of images.
    force
        Train again even where the zoo holds the model, trained in the same way on the same images, and
        replace a different one of that name.
    embedding
        Also give what goes into the last layer, as a second output.

    Returns
    -------
    ModelCard
        With ``compression="distilled"`` and the teacher as its parent.

    Raises
    ------
    CardError
        When the zoo holds a different model of that name, or the same one without the embedding asked for.
    ClassMismatchError
        When the teacher does not know a class of `data`.
    DataError
        When there are too few images, or the size has no name in :data:`SIZES`.
    """
    card = zoo.card(teacher)
    if name is None:
        name = f"{teacher}-{student if isinstance(student, str) else 'student'}"
    if name == teacher:
        raise DataError(f"expected another name for the student than its teacher's, got {name!r}.")
    match_classes(data.classes, card.classes, model=teacher)
    part = usual_part(card, data, share, seed)
    return fit_and_add(
        zoo,
        name,
        student,
        data,
        teacher=teacher,
        share=part.share,
        seed=part.seed,
        recipe=recipe,
        epochs=epochs,
        torch_device=torch_device,
        force=force,
        embedding=embedding,
        progress=progress,
    )


def usual_part(card: ModelCard, data: LabelledImages, share: float | None, seed: int | None) -> TrainedOn:
    """What to learn from: where not given, as for a model that has learned from the same data."""
    known = card.trained_on
    if known is not None and known.data_sha256 == data.originals_sha256:
        share, seed = known.share if share is None else share, known.seed if seed is None else seed
    return TrainedOn(
        data_sha256=data.originals_sha256, share=TRAIN_SHARE if share is None else share, seed=seed or 0
    )


def fit_and_add(
    zoo: Zoo,
    name: str,
    network: str | tuple[nn.Module, Preprocessing],
    data: LabelledImages,
    *,
    teacher: str | None,
    share: float,
    seed: int,
    recipe: Recipe | None,
    epochs: int | None,
    torch_device: str,
    force: bool,
    progress: bool,
    embedding: bool = False,
    owned: bool = False,
) -> ModelCard:
    """Train one network on the training part of `data` and add it, unless the zoo holds just that already.

    A different model of that name is replaced with `force`, and in a zoo that is the caller's own (`owned`).
    """
    part = Splits(seed=seed, train=share).training_part(data)
    module, preprocessing = build(network, len(data.classes), seed) if isinstance(network, str) else network
    recipe = recipe or _recipe(network, len(part))
    recipe = recipe if epochs is None else replace(recipe, epochs=epochs)
    trained_on = TrainedOn(data_sha256=data.originals_sha256, share=share, seed=seed)
    taught = "" if teacher is None else f" by {teacher} ({zoo.card(teacher).sha256[:12]})"
    settings = digest_of(repr(module), repr(preprocessing), repr(recipe), data.sha256, taught).hexdigest()
    source = f"trained{taught} on {len(part):,} images in {recipe.epochs} epochs, settings {settings[:12]}"
    held = zoo.card(name) if name in zoo.names else None
    same = held is not None and (held.source, held.trained_on) == (source, trained_on)
    if held is not None and same and not force:
        if embedding and _without_embedding(zoo, held):
            raise CardError(
                f"expected {name!r} to give its embedding as well, got the model of the zoo that does not. "
                "Replace it with --force, which voids the profiles and selectors made with it, or leave "
                "--embedding out (in Python: force=True, embedding=False)."
            )
        with suppress(DigestError):  # a damaged file is made again
            zoo.model(name)
            return held
    if held is not None and not (same or force or owned):
        raise CardError(held_message(name))
    logits = (
        None
        if teacher is None
        else logits_of(zoo.model(teacher, threads=allowed_cores()), data.classes, part, progress=progress)
    )
    train(
        module,
        part.stack(training_size(part, preprocessing.uncropped), progress=progress),
        part.labels,
        preprocessing=preprocessing,
        recipe=recipe,
        teacher_logits=logits,
        torch_device=torch_device,
        seed=seed,
        progress=progress,
        name=name,
    )
    remember(zoo, trained_on, data)
    content = export_module(module, preprocessing, name=name, classes=data.classes)
    if embedding:
        content = with_embedding(content, classes=len(data.classes), name=name)
    return add_counted(
        zoo,
        name,
        content,
        data.classes,
        preprocessing.resolution,
        source=source,
        parent=teacher,
        compression="none" if teacher is None else "distilled",
        trained_on=trained_on,
        force=True,  # a different model was refused before the training
    )


def _without_embedding(zoo: Zoo, card: ModelCard) -> bool:
    try:
        return not has_embedding(read_graph(card, zoo.folder))
    except DigestError:  # it is made again, whatever it gave
        return False


def build(size: str, classes: int, seed: int) -> tuple[ConvNet, Preprocessing]:
    """An untrained network of a size out of :data:`SIZES`; equal seeds give equal weights."""
    if size not in SIZES:
        raise DataError(f"expected a size out of {', '.join(SIZES)}, got {size!r}. Choose one of them.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return convnet(size, classes)


def _recipe(network: str | tuple[nn.Module, Preprocessing], images: int) -> Recipe:
    size = SIZES[network] if isinstance(network, str) else SIZES["small"]
    epochs = int(np.clip(round(size.views / images), _LEAST_EPOCHS, _MOST_EPOCHS))
    return Recipe(epochs=epochs, lr=size.lr)


def training_size(data: LabelledImages, wanted: tuple[int, int]) -> tuple[int, int]:
    """Height and width to train on: those of small images, else what the network takes its crop from."""
    height, width = data.image(0).shape[:2]
    if max(height, width) <= _SMALL_SIDE:
        return height, width
    return max(wanted[0], _SMALL_SIDE), max(wanted[1], _SMALL_SIDE)


def logits_of(
    model: Model, classes: Sequence[str], data: LabelledImages, *, progress: bool
) -> NDArray[np.float32]:
    """What a model says about all images: float32 ``[n, C]``, in the order of `classes`.

    Raises
    ------
    ClassMismatchError
        When the model does not know one of the classes.
    """
    columns = match_classes(tuple(classes), model.card.classes, model=model.card.name)
    logits = np.empty((len(data), len(columns)), dtype=np.float32)
    batch: list[NDArray[np.uint8]] = []
    bar = tqdm(
        range(len(data)),
        desc=f"asking {model.card.name}",
        unit="img",
        delay=2,
        disable=not progress or None,
    )
    for i in bar:
        batch.append(data.image(i))
        last = i + 1 == len(data)
        if last or len(batch) == 64 or data.image(i + 1).shape != batch[0].shape:
            logits[i + 1 - len(batch) : i + 1] = model.logits(np.stack(batch))[:, columns]
            batch.clear()
    return logits
