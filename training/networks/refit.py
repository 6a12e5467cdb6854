"""A new last layer for a model of the zoo: features are computed once, the rest is a convex fit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.calibration.scaling import EMBEDDING_SPREAD, fit_linear, fit_vector
from training.data.images import LabelledImages
from training.networks.adapt import Adaptation, check_names, judge_child
from training.networks.adaptation_images import MAX_IMAGES, gather
from zoo.convert.head import Head, find_head, head_difference, replace_head, with_embedding
from zoo.cores import allowed_cores
from zoo.errors import CardError
from zoo.models.model import EMBEDDING, read_graph
from zoo.models.session import open_session
from zoo.models.zoo import Zoo, held_message

RIDGE = 3.0  # of what is added to a head's weights, where its inputs deviate by EMBEDDING_SPREAD
BATCH = 64


def refit_head(
    zoo: Zoo,
    parent: str,
    data: LabelledImages,
    environment: str,
    *,
    labels_from: str | None = None,
    name: str | None = None,
    share: float | None = None,
    seed: int | None = None,
    images: int = MAX_IMAGES,
    keep: bool = False,
    force: bool = False,
    progress: bool = True,
) -> Adaptation:
    """Fit the last layer of a model to images of an environment, and add the child.

    The parent runs once on every image; what goes into its last layer is kept, and a multinomial logistic
    regression on it, drawn by a ridge towards the layer that is there, gives the new one. The parent may be
    an 8-bit model: its body stays as it is, and the new layer works in float behind it.

    Parameters
    ----------
    parent
        A model of `zoo` that knows the classes of `data`.
    environment, labels_from, name, share, seed, images, keep, force
        As of :func:`training.networks.adapt.adapt`.

    Raises
    ------
    CardError
        When the environment or the name cannot be one, or the zoo holds a model of that name.
    ClassMismatchError
        When the parent or the labelling model does not know the classes.
    DataError
        When there are too few images, or a class has none.
    ModelError
        When the parent has no last layer that is a product with stored weights.

    Examples
    --------
    >>> from training.networks.refit import refit_head
    >>> refit_head(zoo, "small-int8", images, "kitchen").card.adapted.changed
    ('head',)
    """
    card = zoo.card(parent)
    name = check_names(zoo, card, environment, name, force=force)
    content = read_graph(card, zoo.folder)
    head = find_head(content, classes=len(card.classes), name=parent)
    known = gather(
        zoo,
        card,
        data,
        labels_from=labels_from,
        share=share,
        seed=seed,
        images=images,
        allow_missing=False,
        progress=progress,
    )
    source = f"head refitted to {environment} on {len(known.learn):,} images from {parent} {card.sha256[:12]}"
    if name in zoo.names and not force and zoo.card(name).source != source:
        raise CardError(held_message(name))  # the same again is found out when it is added
    extended = with_embedding(content, classes=len(card.classes), name=parent)
    embeddings = _embeddings(extended, known.learn, name=parent, progress=progress)
    weights, bias = fit_head(head, embeddings, known.labels)
    child = replace_head(content, weights, bias, name=name)
    return judge_child(
        zoo,
        card,
        content,
        child,
        known,
        name=name,
        source=source,
        environment=environment,
        changed=("head",),
        difference=head_difference(content, child),
        keep=keep,
        force=force,
        progress=progress,
    )


def fit_head(
    head: Head, embeddings: NDArray[np.float32], labels: NDArray[np.int64], *, ridge: float = RIDGE
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights ``[D, C]`` and bias ``[C]`` for labels ``[n]`` and inputs ``[n, D]``.

    The logits that the layer gives are scaled first (vector scaling); what the inputs add is fitted on top.
    """
    logits = embeddings @ head.weights + head.bias
    vector = fit_vector(logits, labels)
    mean = embeddings.mean(axis=0)
    centred = embeddings - mean
    spread = max(float(centred.std()), 1e-9)
    scaled = ridge * (spread / EMBEDDING_SPREAD) ** 2
    added = fit_linear(centred, vector(logits), labels, ridge=scaled)
    weights = vector.scale * head.weights.astype(np.float64) + added.weights
    bias = vector.scale * head.bias.astype(np.float64) + added.bias - mean @ added.weights
    if vector.bias is not None:
        bias = bias + vector.bias
    return weights.astype(np.float32), bias.astype(np.float32)


def _embeddings(content: bytes, data: LabelledImages, *, name: str, progress: bool) -> NDArray[np.float32]:
    """What goes into the last layer ``[n, D]`` for all images."""
    session = open_session(content, threads=allowed_cores(), name=name)
    found: list[NDArray[np.float32]] = []
    batch: list[NDArray[np.uint8]] = []
    for i in tqdm(range(len(data)), desc=f"asking {name}", unit="img", delay=2, disable=not progress or None):
        image = data.image(i)
        if batch and (len(batch) == BATCH or image.shape != batch[0].shape):
            found += session.run([EMBEDDING], {"image": np.stack(batch)})
            batch.clear()
        batch.append(image)
    found += session.run([EMBEDDING], {"image": np.stack(batch)})
    return np.concatenate(found)
