"""What scenarios are made of: digits with networks of our own, or CIFAR-10 with a third-party ResNet."""

from __future__ import annotations

from pathlib import Path

from training.data.environments import under_environments
from training.data.folder import folder as image_folder
from training.data.folder import unpacked
from training.data.sources import digits
from training.data.splits import Splits
from training.networks.family import train_family
from training.scenarios.specialists import Material
from zoo.convert.add import add_cifar_resnet
from zoo.models.zoo import Zoo

TRAIN_SHARE = 0.4
EPOCHS = 12  # of adapting digits
LEARNING_IMAGES = 8_000  # training images of CIFAR-10 that a specialist learns from
JUDGED_IMAGES = 6_000  # test images of CIFAR-10 that take part
DEPTHS = (20,)  # on a CPU, a deeper one takes its time to adapt


def digit_networks(root: Path, first: str, *, seed: int, progress: bool) -> tuple[Zoo, Material]:
    """Two networks that have learned the embedded digits in the first environment."""
    parents = ("small", "medium")
    zoo = Zoo.open_or_create(root / "zoo")
    shown = under_environments(digits(), [first], seed=seed, severity=1.0)
    train_family(zoo, shown, sizes=parents, share=TRAIN_SHARE, seed=seed, progress=progress, owned=True)
    return zoo, Material(
        title="Digits whose environment changes",
        parents=parents,
        learn=digits(),
        judge=digits(),
        severity=1.0,
        splits=Splits(seed=seed, train=TRAIN_SHARE, fit=0.15, tune=0.05, certify=0.35, test=0.45),
        budget_bytes=450_000,
        precision=0.9,
        int8=("medium",),
        adapt={"epochs": EPOCHS},
    )


def digits_over_network(root: Path, first: str, *, seed: int, progress: bool) -> tuple[Zoo, Material]:
    """A tiny network for the device and a larger one for a server, for the embedded digits."""
    zoo = Zoo.open_or_create(root / "zoo")
    shown = under_environments(digits(), [first], seed=seed, severity=1.0)
    train_family(
        zoo, shown, sizes=("tiny", "medium"), share=TRAIN_SHARE, seed=seed, progress=progress, owned=True
    )
    return zoo, Material(
        title="Digits on the move",
        parents=("tiny",),
        there=("medium",),
        learn=digits(),
        judge=digits(),
        severity=1.0,
        splits=Splits(seed=seed, train=TRAIN_SHARE, fit=0.15, tune=0.05, certify=0.35, test=0.45),
        budget_bytes=450_000,
        precision=0.95,  # more than the network on the device reaches alone
        adapt={"epochs": EPOCHS},
    )


def cifar10(root: Path, data: Path, weights: Path, *, seed: int) -> tuple[Zoo, Material]:
    """A third-party ResNet of CIFAR-10."""
    zoo = Zoo.open_or_create(root / "zoo")
    for depth in DEPTHS:
        if f"resnet{depth}" not in zoo.names:
            add_cifar_resnet(zoo, depth, weights / f"cifar10-resnet{depth}.npz")
    learn = image_folder(unpacked(data, "cifar10-train.zip", "train", root))
    judge = image_folder(unpacked(data, "cifar10-test.zip", "test", root))
    step = max(1, len(judge) // JUDGED_IMAGES)
    return zoo, Material(
        title="CIFAR-10 whose environment changes",
        parents=tuple(f"resnet{depth}" for depth in DEPTHS),
        learn=learn,
        judge=judge.subset(list(range(0, len(judge), step))),
        severity=0.4,
        splits=Splits(seed=seed, fit=0.2, tune=0.1, certify=0.4, test=0.3),
        budget_bytes=1_000_000,
        precision=0.75,
        int8=tuple(f"resnet{depth}" for depth in DEPTHS),
        adapt={"images": LEARNING_IMAGES, "epochs": 1, "flip": True, "share": 1.0},
    )
