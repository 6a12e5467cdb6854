"""Adaptation: a model of the zoo learns an environment in its normalisation and head, and in nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import Tensor, nn

from training.data.images import LabelledImages
from training.data.seen import remember
from training.networks.adaptation_images import MAX_IMAGES, Examples, gather, learned_part, right_answers
from training.networks.distill import training_size
from training.networks.loop import Recipe, train
from zoo.convert.exchange import Difference, changeable, choose_what, difference, exchange
from zoo.convert.int8.add_int8 import add_int8
from zoo.convert.preprocessing_graph import uncropped_of
from zoo.convert.torch_graph import TorchGraph, check_operators, check_torch_graph
from zoo.errors import CardError, DataError
from zoo.files import sha256_bytes
from zoo.models.card import Adapted, Changed, ModelCard
from zoo.models.model import read_graph
from zoo.models.zoo import Zoo, add_again, held_message
from zoo.types import Name

IMAGES_SHOWN = 20_000  # images shown in all epochs together, unless the epochs are given
MAX_EPOCHS = 30
CALIBRATION_IMAGES = 256
TRIAL_IMAGES = 1_024  # on which it is tried whether statistics of the images help
MIN_GAIN_SHARE = 0.02  # more right answers, as a share of these images, that count as help
MAX_P_VALUE = 0.05  # largest p-value of "it is no better than its parent"

# Few parameters and a good start: no smoothing, no decay, which would pull scales to zero.
RECIPE = Recipe(lr=1e-2, weight_decay=0.0, label_smoothing=0.0)


@dataclass(frozen=True)
class Adaptation:
    """What an adaptation gave, judged on images that it did not learn from."""

    card: ModelCard  # of the child, whether it is kept or not
    kept: bool  # whether the zoo holds the child
    before: float  # share of the held-out images on which the parent is right
    after: float  # the same of the child
    held_out: int  # images
    better: int  # on which the child alone is right
    worse: int  # on which the parent alone is right
    difference: Difference  # in bytes of the tensors
    missing: tuple[str, ...]  # classes without an image

    @property
    def p_value(self) -> float:
        """Of "the child is no better": the exact sign test on the images where it and its parent differ."""
        differ = self.better + self.worse
        return float(binomtest(self.better, differ, 0.5, alternative="greater").pvalue) if differ else 1.0


def adapt(
    zoo: Zoo,
    parent: str,
    data: LabelledImages,
    environment: str,
    *,
    labels_from: str | None = None,
    name: str | None = None,
    what: Sequence[Changed] | None = None,
    share: float | None = None,
    seed: int | None = None,
    images: int = MAX_IMAGES,
    recipe: Recipe | None = None,
    epochs: int | None = None,
    flip: bool = False,
    statistics: bool | None = None,
    torch_device: str = "auto",
    allow_missing: bool = False,
    keep: bool = False,
    force: bool = False,
    progress: bool = True,
) -> Adaptation:
    """Train the normalisation and the head of a model on images of an environment, and add the child.

    The parent is trained from its ONNX file, so it does not matter where it came from. All other tensors stay
    as they are, bit by bit. A fifth of the originals is held out: a child that is not better on them than its
    parent, by more than chance explains, is not added.

    Parameters
    ----------
    parent
        A float model of `zoo` that knows the classes of `data`.
    environment
        What the images show, such as ``dark``: lower case, digits, ``.``, ``_``, ``-``.
    labels_from
        Name of a more accurate model of `zoo` whose answers count as right, and whose logits teach; the
        labels of `data` are not looked at then.
    name
        Of the child; ``<parent>-<environment>`` by default.
    what
        Some of ``normalisation``, ``biases``, ``head``; see :func:`zoo.convert.exchange.choose_what`.
    share, seed
        The share of the originals to use, and the seed. By default those of the parent where it was trained
        on the same data, so that the rest judges both, else 0.4 and 0.
    images
        Most images to learn from.
    statistics
        Whether the means and variances of batch normalisation follow the images; by default where the parent
        is more often right with those of the images than with its own, as after a change of light.
    allow_missing
        Go on where some of the model's classes have no image. The head then stays as it is, and answers are
        learned among the classes that have images.
    keep
        Add the child even where it is not better.
    force
        Replace a model of the same name.

    Raises
    ------
    CardError
        When the environment or the name cannot be one, or the zoo holds a model of that name.
    ClassMismatchError
        When the parent or the labelling model does not know the classes.
    DataError
        When there are too few images, or a class has none.
    ModelError
        When the parent has nothing that can be adapted, or operators that cannot be trained.
    """
    card = zoo.card(parent)
    name = check_names(zoo, card, environment, name, force=force)
    content = read_graph(card, zoo.folder)
    check_operators(content, name=parent)
    found = changeable(content, classes=len(card.classes), name=parent)
    known = gather(
        zoo,
        card,
        data,
        labels_from=labels_from,
        share=share,
        seed=seed,
        images=images,
        allow_missing=allow_missing,
        progress=progress,
    )
    # A head that learns without images of some classes would forget them.
    chosen = choose_what(found._replace(head=()) if known.missing else found, what, name=parent)
    learned = [key for group in chosen for key in getattr(found, group)]
    pixels = known.learn.stack(
        training_size(known.learn, uncropped_of(content) or card.resolution), progress=progress
    )
    followed = found.statistics if "normalisation" in chosen and statistics is not False else ()
    if followed and statistics is None:
        trial = TorchGraph(content, name=parent, statistics=followed)
        followed = followed if _better_with_batches(trial, pixels, known.labels, known.part.seed) else ()
    recipe = recipe or _recipe(len(known.learn), epochs=epochs, flip=flip)
    source = (
        f"adapted to {environment} on {len(known.learn):,} images in {recipe.epochs} epochs "
        f"from {parent} {card.sha256[:12]}"
    )
    if name in zoo.names and not force and zoo.card(name).source != source:
        raise CardError(held_message(name))  # the same again is found out when it is added
    module = TorchGraph(content, name=parent, learned=learned, statistics=followed, signed=found.scales)
    check_torch_graph(content, module, card.resolution, name=parent)
    _learn(module, known, pixels, recipe, torch_device, progress, name)
    child = exchange(content, {key: module.tensor(key) for key in (*learned, *followed)})
    check_torch_graph(child, module, card.resolution, name=name)
    return judge_child(
        zoo,
        msgspec.structs.replace(card, compression="none"),
        content,
        child,
        known,
        name=name,
        source=source,
        environment=environment,
        changed=chosen,
        difference=difference(content, child),
        keep=keep,
        force=force,
        progress=progress,
    )


def judge_child(
    zoo: Zoo,
    card: ModelCard,
    content: bytes,
    child: bytes,
    known: Examples,
    *,
    name: str,
    source: str,
    environment: str,
    changed: tuple[Changed, ...],
    difference: Difference,
    keep: bool,
    force: bool,
    progress: bool,
) -> Adaptation:
    """Compare a child with its parent on images that neither learned from, and add it if it is better.

    Parameters
    ----------
    card, content, child
        Card and file of the parent, and file of the child.
    known
        What the child learned from, and what was held out.
    changed
        Groups of tensors in which they differ.
    keep
        Add it also if it is no better.
    """
    new = msgspec.structs.replace(
        card,
        name=name,
        file=f"models/{name}.onnx",
        sha256=sha256_bytes(child),
        size_bytes=len(child),
        parent=card.name,
        source=source,
        adapted=Adapted(
            environment=environment,
            parent=card.name,
            parent_sha256=card.sha256,
            changed=changed,
            changed_bytes=max(1, difference.changed_bytes),
            samples=len(known.learn),
            labels=known.labels_from or "given",
            trained_on=known.part,
        ),
    )
    one, two = (
        right_answers(which, model, known, progress=progress)
        for which, model in ((card, content), (new, child))
    )
    judged = Adaptation(
        card=new,
        kept=False,
        before=float(one.mean()),
        after=float(two.mean()),
        held_out=len(known.held),
        better=int((two & ~one).sum()),
        worse=int((one & ~two).sum()),
        difference=difference,
        missing=known.missing,
    )
    if judged.p_value > MAX_P_VALUE and not keep:
        return judged
    remember(zoo, known.part, known.data)
    return replace(judged, card=add_again(zoo, new, child, force=force), kept=True)


def add_adapted_int8(
    zoo: Zoo, child: str, data: LabelledImages, *, force: bool = False, progress: bool = True
) -> ModelCard:
    """Quantise an adapted model on images that it learned from, and add it as ``<child>-int8``.

    Where the zoo holds the 8-bit version of the parent, both share all codes that differ by rounding alone.

    Raises
    ------
    DataError
        When the model was not adapted.
    """
    adapted = zoo.card(child).adapted
    if adapted is None or adapted.trained_on is None:
        raise DataError(f"expected an adapted model, got {child!r}. Use 'zooselect zoo compress' for others.")
    learn, _ = learned_part(data, adapted.trained_on, adapted.samples)
    rng = np.random.default_rng(adapted.trained_on.seed)
    chosen = np.sort(rng.permutation(len(learn))[:CALIBRATION_IMAGES])
    return add_int8(zoo, child, [learn.image(int(i)) for i in chosen], force=force, progress=progress)


def _recipe(images: int, *, epochs: int | None, flip: bool) -> Recipe:
    usual = int(np.clip(round(IMAGES_SHOWN / images), 1, MAX_EPOCHS))
    return replace(RECIPE, epochs=usual if epochs is None else epochs, flip=flip)


def _learn(
    module: nn.Module,
    known: Examples,
    pixels: NDArray[np.uint8],
    recipe: Recipe,
    torch_device: str,
    progress: bool,
    name: str,
) -> None:
    """Train on the classes that have images, as if there were no others."""
    present = np.unique(known.labels)
    logits = known.logits
    train(
        _Among(module, present) if known.missing else module,
        pixels,
        np.searchsorted(present, known.labels) if known.missing else known.labels,
        preprocessing=None,
        recipe=recipe,
        teacher_logits=logits[:, present] if known.missing and logits is not None else logits,
        torch_device=torch_device,
        seed=known.part.seed,
        progress=progress,
        name=name,
    )


def _better_with_batches(
    module: TorchGraph, pixels: NDArray[np.uint8], labels: NDArray[np.int64], seed: int
) -> bool:
    """Whether a network is more often right with statistics of the images than with those that it has.

    Re-estimated statistics alone are a method of adaptation (Li et al., "Revisiting batch normalization for
    practical domain adaptation", 2016, arXiv:1603.04779); here they decide whether learning begins with them.
    """
    rows = np.random.default_rng(seed).permutation(len(pixels))[:TRIAL_IMAGES]
    right = {False: 0, True: 0}
    with torch.inference_mode():
        for with_batches in right:  # its own first: the others replace them little by little
            for batch in np.array_split(rows, max(1, len(rows) // RECIPE.batch_size)):
                said = module.train(with_batches)(torch.from_numpy(pixels[batch])).argmax(1).numpy()
                right[with_batches] += int((said == labels[batch]).sum())
    return right[True] > right[False] + MIN_GAIN_SHARE * len(rows)


class _Among(nn.Module):
    """The logits of the classes that have images, so that learning says nothing about the others."""

    def __init__(self, module: nn.Module, classes: NDArray[np.int64]) -> None:
        super().__init__()
        self.module, self.classes = module, classes.tolist()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.module(images)[:, self.classes]
        return logits


def check_names(zoo: Zoo, card: ModelCard, environment: str, name: str | None, *, force: bool) -> str:
    """The name of a child, where it and that of the environment can be names."""
    name = name or f"{card.name}-{environment}"
    for what, value in (("environment", environment), ("model", name)):
        try:
            msgspec.convert(value, Name)
        except msgspec.ValidationError as error:
            raise CardError(
                f"expected a name of up to 64 lower-case letters, digits, '.', '_' and '-' for the {what}, "
                f"got {value!r}. Choose another one."
            ) from error
    if name == card.name:
        raise CardError(f"expected another name for the child than its parent's, got {name!r}.")
    if name in zoo.names and not force and zoo.card(name).adapted is None:
        raise CardError(held_message(name))
    return name
