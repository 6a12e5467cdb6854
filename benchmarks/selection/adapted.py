"""Adapted models for the suites: children of the zoo's models, and a small first model that they teach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.images import LabelledImages
from training.networks.adapt import adapt, add_adapted_int8
from training.networks.distill import distill
from training.networks.loop import Recipe, pick_torch_device
from training.networks.refit import refit_head
from zoo.architectures.convnet import ConvNet
from zoo.architectures.preprocessing import Preprocessing
from zoo.convert.count import add_counted
from zoo.convert.int8.add_int8 import add_int8
from zoo.convert.resolution import at_resolution
from zoo.models.model import read_graph
from zoo.models.zoo import Zoo, add_again

ADAPTATION_IMAGES = 10_000  # that each model is adapted with
FIRST_SHAPE = (24, 48, 96), (0, 0, 1)  # widths and residual pairs: 4 million multiply-accumulates
FIRST_EPOCHS = {"cpu": 30, "cuda": 40}  # ten minutes on two processor cores; one on a graphics card
FIRST_RECIPE = Recipe(
    epochs=FIRST_EPOCHS[pick_torch_device("auto")],
    batch_size=128,
    lr=1e-2,
    label_smoothing=0.0,
    shift=1 / 8,
    flip=True,
    temperature=4.0,
    alpha=0.9,
)


def add_children(
    zoo: Zoo, parents: Sequence[str], data: LabelledImages, environment: str, *, seed: int
) -> list[str]:
    """Adapt models of `zoo`, unless it holds their children already; the names of these and of their int8."""
    names = []
    for parent in parents:
        name = f"{parent}-{environment}"
        names += [name, f"{name}-int8"]
        if names[-1] in zoo.names:
            continue
        made = adapt(
            zoo,
            parent,
            data,
            environment,
            share=1.0,
            seed=seed,
            images=ADAPTATION_IMAGES,
            epochs=1,
            flip=True,
            keep=True,
            force=True,
        )
        small = add_adapted_int8(zoo, name, data, force=True)
        assert small.adapted is not None
        print(
            f"{name}: {made.before:.1%} → {made.after:.1%} on {made.held_out:,} held-out training images, "
            f"{made.difference.share:.2%} of the weights changed; int8: {small.adapted.changed_bytes:,} bytes"
        )
    return names


def add_heads(
    zoo: Zoo, parents: Sequence[str], data: LabelledImages, environment: str, *, seed: int
) -> list[str]:
    """Refit the last layer of models of `zoo` to all images, unless it holds their children; their names."""
    names = []
    for parent in parents:
        names.append(f"{parent}-{environment}-head")
        if names[-1] not in zoo.names:
            made = refit_head(
                zoo,
                parent,
                data,
                environment,
                name=names[-1],
                share=1.0,
                seed=seed,
                images=len(data),
                keep=True,
                force=True,
            )
            print(f"{names[-1]}: {made.before:.1%} → {made.after:.1%} of {made.held_out:,} images held out")
    return names


def add_first(
    zoo: Zoo,
    teacher: str,
    data: LabelledImages,
    calibration: Sequence[NDArray[np.uint8]],
    *,
    name: str,
    seed: int,
) -> list[str]:
    """Teach a small network that looks at every input first; its name and that of its int8 version."""
    side = data.image(0).shape[0]
    preprocessing = Preprocessing((side, side), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    if f"{name}-int8" not in zoo.names:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            student = ConvNet(*FIRST_SHAPE, len(data.classes)), preprocessing
        distill(zoo, teacher, data, student=student, name=name, share=1.0, seed=seed, recipe=FIRST_RECIPE)
        add_int8(zoo, name, calibration, force=True)
    return [name, f"{name}-int8"]


def add_smaller(zoo: Zoo, sides: Mapping[str, Sequence[int]]) -> None:
    """Add models of `zoo` at other resolutions, as ``<model>-<side>px``, unless it holds them already."""
    for parent, wanted in sides.items():
        card = zoo.card(parent)
        for side in wanted:
            name, size = f"{parent}-{side}px", (side, side)
            if name not in zoo.names:
                content = at_resolution(read_graph(card, zoo.folder), size, name=name)
                source = f"{parent} {card.sha256[:12]} at {side}x{side} pixels"
                add_counted(zoo, name, content, card.classes, size, source=source, parent=parent)


def copy_models(source: Zoo, target: Zoo, names: Sequence[str]) -> None:
    """Add models to a zoo that does not hold them yet, as they are in another one."""
    for name in names:
        if name not in target.names:
            card = source.card(name)
            add_again(target, card, (source.folder / card.file).read_bytes())
