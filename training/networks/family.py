"""Train a family of networks of different sizes; the largest teaches the others."""

from __future__ import annotations

from collections.abc import Sequence

from training.data.images import LabelledImages
from training.networks.distill import SIZES, TRAIN_SHARE, build, fit_and_add
from training.networks.loop import Recipe, train
from zoo.errors import DataError
from zoo.models.card import ModelCard
from zoo.models.zoo import Zoo

__all__ = ["SIZES", "TRAIN_SHARE", "Recipe", "train", "train_family"]


def train_family(
    zoo: Zoo,
    data: LabelledImages,
    *,
    sizes: Sequence[str] = tuple(SIZES),
    share: float = TRAIN_SHARE,
    seed: int = 0,
    epochs: int | None = None,
    torch_device: str = "auto",
    force: bool = False,
    progress: bool = True,
    embedding: bool = False,
    owned: bool = False,
) -> tuple[ModelCard, ...]:
    """Train networks of several sizes on a part of `data` and add them to `zoo`, named by their sizes.

    The largest learns from the labels, the others also from its logits (Hinton et al. 2015). A model that the
    zoo holds already, trained in the same way on the same images, is not trained again, so a run that was
    interrupted continues.

    Parameters
    ----------
    data
        Labelled images, under environments where the models shall know them.
    sizes
        Names out of :data:`SIZES`.
    share
        Share of the originals to train on, above 0 and below 1. It is recorded in the cards, and these images
        never judge the models.
    seed
        Of the split, the first weights and the order of the images.
    epochs
        Passes over the images for every size; by default what suits each size and the number of images.
    torch_device
        ``cpu``, ``cuda``, … or ``auto``.
    force
        Train again what the zoo holds already, and replace different models of these names.
    progress
        Show progress bars for what takes longer than two seconds.
    embedding
        Also give what goes into the last layer, as a second output.
    owned
        The zoo is the caller's own: replace models of these names that were trained otherwise.

    Returns
    -------
    tuple of ModelCard
        In the order of `sizes`.

    Raises
    ------
    CardError
        When the zoo holds a different model of one of these names, or one without the embedding asked for.
    DataError
        When there are too few images, or a size is unknown or given twice.
    """
    if not sizes or len(set(sizes)) != len(sizes) or not set(sizes) <= set(SIZES):
        raise DataError(
            f"expected distinct sizes out of {', '.join(SIZES)}, "
            f"got {', '.join(sizes) or 'none'}. Correct them."
        )
    by_parameters = sorted(sizes, key=lambda size: _parameters(size, len(data.classes)), reverse=True)
    cards: dict[str, ModelCard] = {}
    for size in by_parameters:
        cards[size] = fit_and_add(
            zoo,
            size,
            size,
            data,
            teacher=by_parameters[0] if cards else None,
            share=share,
            seed=seed,
            recipe=None,
            epochs=epochs,
            torch_device=torch_device,
            force=force,
            embedding=embedding,
            progress=progress,
            owned=owned,
        )
    return tuple(cards[size] for size in sizes)


def _parameters(size: str, classes: int) -> int:
    module, _ = build(size, classes, 0)
    return sum(weights.numel() for weights in module.parameters())
