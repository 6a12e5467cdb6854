"""What the suites run on: a zoo each, and a profile of labelled images that its models did not learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.options import Given as Given
from benchmarks.selection.adapted import add_children, add_first, add_heads, add_smaller, copy_models
from benchmarks.selection.signals.magika import MODELS, magika_zoo
from benchmarks.selection.signals.packaged_files import packaged_files
from benchmarks.selection.signals.sounds import sounds
from training.data.environments import ENVIRONMENTS, under_environments
from training.data.folder import folder as image_folder
from training.data.folder import unpacked as unpacked_folder
from training.data.images import LabelledImages
from training.data.sources import digits
from training.data.splits import Splits
from training.networks.family import train_family
from training.networks.signal_family import train_signal_family
from training.outcomes.profile import profile
from training.scenarios.demo import SEVERITY
from zoo.convert.add import add_cifar_resnet, add_efficientnet_lite
from zoo.convert.head import add_embedding
from zoo.convert.int8.add_int8 import add_int8
from zoo.errors import DataError
from zoo.inputs.image import load_image
from zoo.inputs.kind import Item
from zoo.models.zoo import Zoo

DEPTHS = (20, 32, 44, 56)
SMALLER = {20: (24, 20), 32: (24,), 44: (24,), 56: (24,)}  # depth → pixels of the same layers, fewer than 32
CALIBRATION_IMAGES = 256
PHOTO_CALIBRATION = 96  # photographs that are set aside to calibrate int8 models
LITE: tuple[tuple[int, int | None], ...] = ((0, 160), (0, 192), (0, None), (1, 192), (1, None), (2, None))
CIFAR_ENVIRONMENTS = ("clear", "dark", "noise", "blur")
CIFAR_SEVERITY = 0.4
ADAPTED_DEPTHS = (20, 32)  # that learn JPEG
SPECIALIST_DEPTHS = (20, 32)  # that learn an environment each
DIGITS_SHARE = 0.4  # of the digits, that the networks learn from
SOUND_SHARE = 0.3  # of the sounds, that the networks learn from
SOUND_EPOCHS = {"tiny": 16, "small": 16, "full": 6}
SOUND_SEVERITY = 0.6
ALL_FIT = {"fit": 1.0, "tune": 0.0, "certify": 0.0, "test": 0.0}  # suites deal the samples out themselves


@dataclass(frozen=True)
class Prepared:
    """A zoo with a profile of all samples."""

    title: str
    zoo: Zoo
    data: LabelledImages
    profile: Path
    reference: str  # the most capable model as delivered: what runs without a selector
    # models as they came, where those of `zoo` were adapted: peers are compared on these, too
    delivered: tuple[str, ...] = ()

    @property
    def whole(self) -> Zoo:
        """The zoo, and the models as they came."""
        return Zoo.open(self.zoo.folder).only(tuple(dict.fromkeys((*self.zoo.names, *self.delivered))))


def prepare_digits(given: Given) -> Prepared:
    """Embedded digits under seven environments: three networks of our own and their int8 versions."""
    work = given.work / "digits"
    data = under_environments(digits(), list(ENVIRONMENTS), seed=given.seed, severity=SEVERITY)
    zoo = Zoo.open_or_create(work / "zoo")
    sizes = ("tiny", "small", "full")
    if any(name not in zoo.names for name in sizes):
        train_family(zoo, data, sizes=sizes, share=DIGITS_SHARE, seed=given.seed, owned=True)
    train = Splits(seed=given.seed, train=DIGITS_SHARE).training_part(data)
    _add_int8(zoo, sizes, lambda: [train.image(i) for i in _some(len(train), given.seed)])
    return _profiled("Digits under seven environments", zoo, data, work, given, reference="full")


def prepare_cifar10_float(given: Given) -> Prepared:
    """CIFAR-10 as JPEG, four third-party ResNets as delivered, at 32 pixels and fewer."""
    zoo = smaller_zoo(given)
    return _cifar10(given, zoo.only([name for name in zoo.names if not name.endswith("-int8")]), "float")


def prepare_cifar10(given: Given) -> Prepared:
    """CIFAR-10 as JPEG, four third-party ResNets and their int8 versions, at 32 pixels and fewer."""
    zoo = smaller_zoo(given)
    return _cifar10(given, zoo.only(_as_compared(zoo)), "float and int8")


def _cifar10(given: Given, zoo: Zoo, kinds: str) -> Prepared:
    data = image_folder(unpacked(given, "cifar10-test.zip", "test"))
    title = f"CIFAR-10: four third-party ResNets at 32 pixels and fewer, {kinds}"
    work = given.work / f"cifar10-{kinds.split()[-1]}"
    return _profiled(title, zoo, data, work, given, reference=f"resnet{DEPTHS[-1]}")


def prepare_cifar10_environments(given: Given) -> Prepared:
    """The same, every image also in the dark, with noise and blurred."""
    work = given.work / "cifar10-environments"
    originals = image_folder(unpacked(given, "cifar10-test.zip", "test"))
    data = under_environments(originals, CIFAR_ENVIRONMENTS, seed=given.seed, severity=CIFAR_SEVERITY)
    title = "CIFAR-10 under four environments: ResNets, float and int8"
    return _profiled(title, resnet_zoo(given), data, work, given, reference=f"resnet{DEPTHS[-1]}")


def prepare_cifar10_drift(given: Given) -> Prepared:
    """CIFAR-10 in all environments, with the model that a cascade would run first."""
    work = given.work / "cifar10-drift"
    originals = image_folder(unpacked(given, "cifar10-test.zip", "test"))
    data = under_environments(originals, list(ENVIRONMENTS), seed=given.seed, severity=0.4)
    first = f"resnet{DEPTHS[0]}"
    title = "CIFAR-10 in seven environments, third-party ResNet-20"
    return _profiled(title, resnet_zoo(given).only([first]), data, work, given, reference=first)


def prepare_cifar10_adapted(given: Given) -> Prepared:
    """CIFAR-10 as JPEG: ResNets adapted to it, a small first model, and ResNet-56 as delivered."""
    work = given.work / "cifar10-adapted"
    zoo, train = _specialised_zoo(given)
    bodies = [f"resnet{depth}-{SMALLER[depth][0]}px-int8" for depth in ADAPTED_DEPTHS]
    heads = add_heads(zoo, bodies, train, "jpeg", seed=given.seed)
    parents = [f"resnet{depth}" for depth in ADAPTED_DEPTHS]
    children = add_children(zoo, parents, train, "jpeg", seed=given.seed)
    calibration = _calibration_images(given)
    first = add_first(zoo, children[-2], train, calibration, name="first", seed=given.seed)
    reference = f"resnet{DEPTHS[-1]}"
    title = "CIFAR-10: ResNets adapted to JPEG, some on fewer pixels, beside ResNet-56 as delivered"
    data = image_folder(unpacked(given, "cifar10-test.zip", "test"))
    some = zoo.only([*first, *heads, *children, reference])
    return _profiled(title, some, data, work, given, reference=reference)


def prepare_cifar10_heads(given: Given) -> Prepared:
    """CIFAR-10 as JPEG: int8 ResNets whose last layer is refitted to it, and ResNet-56 as delivered."""
    work = given.work / "cifar10-heads"
    zoo, train = _specialised_zoo(given)
    parents = smaller_zoo(given)
    bodies = [name for name in parents.names if name.endswith("-int8")]
    children = add_heads(zoo, bodies, train, "jpeg", seed=given.seed)
    reference = f"resnet{DEPTHS[-1]}"
    title = "CIFAR-10: int8 ResNets with a last layer for JPEG, beside ResNet-56 as delivered"
    data = image_folder(unpacked(given, "cifar10-test.zip", "test"))
    delivered = _as_compared(parents)
    every = zoo.only([*children, *delivered])
    whole = _profiled(title, every, data, work, given, reference=reference)
    return replace(whole, zoo=zoo.only([*children, reference]), delivered=delivered)


def prepare_cifar10_environments_adapted(given: Given) -> Prepared:
    """CIFAR-10 under four environments: a specialist for each, ResNet-56 as delivered."""
    work = given.work / "cifar10-environments-adapted"
    zoo, train = _specialised_zoo(given)
    names = []
    for environment in CIFAR_ENVIRONMENTS:
        shown = under_environments(train, [environment], seed=given.seed, severity=CIFAR_SEVERITY)
        for parent in (f"resnet{depth}" for depth in SPECIALIST_DEPTHS):
            names.append(add_children(zoo, [parent], shown, environment, seed=given.seed)[1])
    originals = image_folder(unpacked(given, "cifar10-test.zip", "test"))
    data = under_environments(originals, CIFAR_ENVIRONMENTS, seed=given.seed, severity=CIFAR_SEVERITY)
    reference = f"resnet{DEPTHS[-1]}"
    title = "CIFAR-10 under four environments: specialists, int8, beside ResNet-56 as delivered"
    return _profiled(title, zoo.only([*names, reference]), data, work, given, reference=reference)


def prepare_photos(given: Given) -> Prepared:
    """Photographs of ImageNet classes: EfficientNet-Lite at several resolutions, float and int8."""
    work = given.work / "photos"
    if given.data is None:
        raise DataError("expected --data, a folder with imagenet-600.zip and imagenet-wnids.txt, got none.")
    classes = (given.data / "imagenet-wnids.txt").read_text().split()
    everything = image_folder(unpacked(given, "imagenet-600.zip", "imagenet"))
    aside = np.zeros(len(everything), dtype=np.bool_)
    aside[_some(len(everything), given.seed, wanted=PHOTO_CALIBRATION)] = True
    zoo = Zoo.open_or_create(work / "zoo")
    names = []
    for version, resolution in LITE:
        names.append(f"efficientnet-lite{version}" + (f"-{resolution}" if resolution else ""))
        if names[-1] not in zoo.names:
            add_efficientnet_lite(zoo, version, classes=classes, resolution=resolution)
    _add_int8(zoo, names, lambda: [everything.image(int(i)) for i in np.flatnonzero(aside)])
    title = "Photographs: EfficientNet-Lite 0, 1, 2 at several resolutions, float and int8"
    return _profiled(title, zoo, everything.subset(~aside), work, given, reference="efficientnet-lite2")


def prepare_photo_pair(given: Given) -> Prepared:
    """Photographs of ImageNet classes: EfficientNet-Lite 0 and 2 as delivered."""
    work = given.work / "photo-pair"
    if given.data is None:
        raise DataError("expected --data, a folder with imagenet-600.zip and imagenet-wnids.txt, got none.")
    classes = (given.data / "imagenet-wnids.txt").read_text().split()
    zoo = Zoo.open_or_create(work / "zoo")
    for version in (0, 2):
        if f"efficientnet-lite{version}" not in zoo.names:
            add_efficientnet_lite(zoo, version, classes=classes)
    data = image_folder(unpacked(given, "imagenet-600.zip", "imagenet"))
    title = "Photographs: EfficientNet-Lite 0 and 2"
    return _profiled(title, zoo, data, work, given, reference="efficientnet-lite2")


def prepare_magika(given: Given) -> Prepared:
    """Files of installed packages as bytes: three third-party classifiers of file types."""
    work = given.work / "magika"
    source = unpacked(given, "magika.zip", "magika")
    zoo = magika_zoo(work / "zoo", source)
    data = packaged_files(source / "files" / "basic", known=zoo.card(MODELS[0]).classes, seed=given.seed)
    title = "Types of files of installed packages: three third-party models of bytes"
    return _profiled(title, zoo, data, work, given, reference=MODELS[-1])


def prepare_sound(given: Given) -> Prepared:
    """Synthesised sounds under five environments: three networks of our own and two 8-bit versions."""
    work = given.work / "sound"
    data = under_environments(sounds(seed=given.seed), seed=given.seed, severity=SOUND_SEVERITY)
    zoo = Zoo.open_or_create(work / "zoo")
    for name, epochs in SOUND_EPOCHS.items():
        train_signal_family(zoo, data, sizes=[name], share=SOUND_SHARE, seed=given.seed, epochs=epochs)
    train = Splits(seed=given.seed, train=SOUND_SHARE).training_part(data)
    _add_int8(zoo, ("small", "full"), lambda: [train.image(i) for i in _some(len(train), given.seed)])
    title = "Synthesised sounds under five environments: three networks, float and int8"
    return _profiled(title, zoo, data, work, given, reference="full")


SUITES: Mapping[str, Callable[[Given], Prepared]] = {
    "digits": prepare_digits,
    "cifar10-float": prepare_cifar10_float,
    "cifar10": prepare_cifar10,
    "cifar10-environments": prepare_cifar10_environments,
    "cifar10-heads": prepare_cifar10_heads,
    "cifar10-adapted": prepare_cifar10_adapted,
    "cifar10-environments-adapted": prepare_cifar10_environments_adapted,
    "photos": prepare_photos,
    "magika": prepare_magika,
    "sound": prepare_sound,
}


def resnet_zoo(given: Given) -> Zoo:
    """The four CIFAR ResNets and their int8 versions, all with their embedding, in ``<work>/resnets``."""
    if given.weights is None:
        raise DataError("expected --weights, a folder with cifar10-resnet20.npz and so on, got none.")
    zoo = Zoo.open_or_create(given.work / "resnets")
    names = [f"resnet{depth}" for depth in DEPTHS]
    for depth, name in zip(DEPTHS, names, strict=True):
        if name not in zoo.names:
            add_cifar_resnet(zoo, depth, given.weights / f"cifar10-resnet{depth}.npz")
            add_embedding(zoo, name)
    _add_int8(zoo, names, lambda: _calibration_images(given))
    return zoo


def smaller_zoo(given: Given) -> Zoo:
    """The same, and the same layers on fewer pixels, in ``<work>/smaller``."""
    zoo = Zoo.open_or_create(given.work / "smaller")
    parents = resnet_zoo(given)
    copy_models(parents, zoo, parents.names)
    add_smaller(zoo, {f"resnet{depth}": sides for depth, sides in SMALLER.items()})
    _add_int8(zoo, _smaller_names(), lambda: _calibration_images(given))
    return zoo


def _as_compared(zoo: Zoo) -> tuple[str, ...]:
    """All of them but those on fewer pixels in float, which are a suite of their own."""
    smaller = set(_smaller_names())
    return tuple(name for name in zoo.names if name not in smaller)


def _smaller_names() -> list[str]:
    return [f"resnet{depth}-{side}px" for depth, sides in SMALLER.items() for side in sides]


def _specialised_zoo(given: Given) -> tuple[Zoo, LabelledImages]:
    """The ResNets and what was made from them, in ``<work>/adapted``, and the training images."""
    zoo = Zoo.open_or_create(given.work / "adapted")
    parents = smaller_zoo(given)
    copy_models(parents, zoo, parents.names)
    return zoo, image_folder(unpacked(given, "cifar10-train.zip", "train"))


def unpacked(given: Given, archive: str, folder: str) -> Path:
    """The folder that an archive of ``given.data`` holds, unpacked into the work folder when needed."""
    if given.data is None:
        raise DataError(f"expected --data, a folder with {archive} or {folder}/, got none.")
    return unpacked_folder(given.data, archive, folder, given.work)


def _profiled(
    title: str, zoo: Zoo, data: LabelledImages, work: Path, given: Given, *, reference: str
) -> Prepared:
    profile(zoo, data, work / "profile", splits=Splits(seed=given.seed, **ALL_FIT))
    return Prepared(title, zoo, data, work / "profile", reference)


def _add_int8(zoo: Zoo, names: Sequence[str], images: Callable[[], list[Item]]) -> None:
    missing = [name for name in names if f"{name}-int8" not in zoo.names]
    if missing:
        calibration = images()
        for name in missing:
            add_int8(zoo, name, calibration, force=True)


def _some(count: int, seed: int, *, wanted: int = CALIBRATION_IMAGES) -> list[int]:
    chosen = np.random.default_rng(seed).choice(count, min(count, wanted), replace=False)
    return [int(i) for i in np.sort(chosen)]


def _calibration_images(given: Given) -> list[NDArray[np.uint8]]:
    paths = sorted(unpacked(given, "cifar10-train.zip", "train").rglob("*.jpg"))
    return [load_image(paths[i]) for i in _some(len(paths), given.seed)]
