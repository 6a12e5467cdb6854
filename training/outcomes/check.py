"""Checking a model that was just added: how often it is right, and what other preprocessing would change."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest
from tqdm import tqdm

from training.data.images import LabelledImages
from training.data.seen import seen_in_training
from training.data.splits import FIT, Splits, without_training_images
from training.outcomes.accuracy import least_above_chance
from zoo.convert.preprocessing_graph import PREFIX
from zoo.cores import allowed_cores
from zoo.errors import DataError
from zoo.inputs.kind import Item
from zoo.models.card import ModelCard, match_classes
from zoo.models.model import Model, read_graph
from zoo.models.zoo import Zoo

CHECK_IMAGES = 200
MIN_IMAGES = 8
MAX_P_VALUE = 0.01  # largest p-value of "it is no better than what was given"
_CONFIDENCE = 0.95

Source = Literal["onnx", "torchvision", "fixed"]
Triple = tuple[float, float, float]
Logits = NDArray[np.float32]
Labels = NDArray[np.int64]

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Normalisation:
    """What a pixel becomes: ``factor * (pixel / 255 - mean) / std`` per channel R, G, B."""

    mean: Triple
    std: Triple
    factor: float  # 1 for networks that take 0..1, 255 for those that take 0..255

    def options(self, source: Source) -> str:
        """The options of ``zoo add`` that say so; without ``--scale`` a small std stands for 0..255."""
        if source == "onnx":
            scale = "0..1" if self.factor == 1 else "0..255"
            return f"--mean {_numbers(self.mean)} --std {_numbers(self.std)} --scale {scale}"
        red, green, blue = (std / self.factor for std in self.std)
        return f"--mean {_numbers(self.mean)} --std {_numbers((red, green, blue))}"

    def constants(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Factor and term of every channel, as the stored graph has them."""
        std = np.array(self.std)
        scale = self.factor / (255 * std)
        return scale.astype(np.float32), (-self.factor * np.array(self.mean) / std).astype(np.float32)


USUAL = (
    Normalisation(_IMAGENET_MEAN, _IMAGENET_STD, 1.0),  # torchvision, timm
    Normalisation((0.0,) * 3, (1.0,) * 3, 1.0),  # 0..1
    Normalisation((0.5,) * 3, (0.5,) * 3, 1.0),  # -1..1
    Normalisation((0.0,) * 3, (1.0,) * 3, 255.0),  # 0..255
    Normalisation(_IMAGENET_MEAN, (1.0,) * 3, 255.0),  # Caffe
)


@dataclass(frozen=True)
class Alternative:
    """Something that could have been meant, and what the model would be then."""

    what: str  # in words
    options: str  # of the command that adds the model; empty where the class names have to change
    accuracy: float  # on the images that it was not found on
    p_value: float  # of "it is no better than what was given": exact sign test on these images
    classes: tuple[str, ...] = ()  # the class names in the order that fits, where the order is what differs

    @property
    def better(self) -> bool:
        """Whether it is better by more than chance explains."""
        return self.p_value <= MAX_P_VALUE


@dataclass(frozen=True)
class ModelCheck:
    """How often a model is right on some images, and what would make it right more often."""

    model: str
    images: int
    accuracy: float
    low: float  # the 95 % interval of the accuracy (Clopper and Pearson 1934)
    high: float
    commonest: str  # the label that most of these images have
    chance: float  # how often its name alone would be right
    alternatives: tuple[Alternative, ...]  # the most accurate first; compared on half of the images

    @property
    def near_chance(self) -> bool:
        """Whether the model is not clearly better than the commonest label."""
        return self.accuracy < least_above_chance(self.chance, self.images)

    @property
    def better(self) -> tuple[Alternative, ...]:
        """Alternatives that are better by more than chance explains, the most accurate first."""
        return tuple(one for one in self.alternatives if one.better)


def check_model(
    zoo: Zoo,
    name: str,
    data: LabelledImages,
    *,
    images: int = CHECK_IMAGES,
    source: Source = "onnx",
    progress: bool = True,
) -> ModelCheck:
    """Run a model over some labelled images, as it is and under what else is usual.

    Tried are the usual means, standard deviations and pixel ranges, the channels in reverse, and the class
    names in another order: sorted, sorted by the numbers in them, and the best assignment of outputs to
    classes (Kuhn 1955, "The Hungarian method for the assignment problem"). Every one is found on one half of
    the images and compared with the model as it is on the other half, so that nothing is better by luck.

    Parameters
    ----------
    data
        Labelled images. Those of the split ``fit`` are used, spread over the classes, so that the ones which
        certify and judge a selector stay unseen.
    images
        How many, at most.
    source
        How the model was added, which decides what alternatives are called: ``onnx``, ``torchvision``, or
        ``fixed`` where its preprocessing is known and only the order of the class names can be wrong.
    progress
        Show a bar when it takes longer than two seconds.

    Raises
    ------
    ClassMismatchError
        When a class of the data is unknown to the model.
    DataError
        When there are too few images, or one cannot be read.

    Examples
    --------
    >>> from training.outcomes.check import USUAL
    >>> USUAL[2].options("torchvision")
    '--mean 0.5 --std 0.5'
    """
    card = zoo.card(name)
    columns = np.array(match_classes(data.classes, card.classes, model=name))
    rows = _some(zoo, data, images)
    pixels = [data.image(int(i)) for i in rows]
    labels = columns[data.labels[rows]]
    first, second = slice(0, None, 2), slice(1, None, 2)  # both halves hold all classes
    content = read_graph(card, zoo.folder)
    given = _logits(Model(card, content, threads=allowed_cores()), pixels, name, progress=progress)
    right = given.argmax(1) == labels

    def judged(what: str, options: str, said: Labels, classes: tuple[str, ...] = ()) -> Alternative:
        other, own = said == labels[second], right[second]
        alone, against = int((other & ~own).sum()), int((own & ~other).sum())
        p_value = binomtest(alone, alone + against, alternative="greater").pvalue if alone + against else 1.0
        return Alternative(what, options, float(other.mean()), float(p_value), classes)

    found = []
    for options, flipped, changed in _preprocessings(content, source):
        model = Model(card, changed, threads=allowed_cores())
        shown = [np.ascontiguousarray(image[..., ::-1]) if flipped else image for image in pixels]
        tried = _logits(model, shown[first], options, progress=progress).argmax(1)
        if (tried == labels[first]).mean() > right[first].mean():
            said = _logits(model, shown[second], options, progress=progress).argmax(1)
            found.append(judged(options, options, said))
    said = given.argmax(1)
    for what, order in _orders(card, said[first], labels[first]):
        names = tuple(card.classes[i] for i in order)
        if (order[said[first]] == labels[first]).mean() > right[first].mean():
            found.append(judged(what, "", order[said[second]], names))
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(_CONFIDENCE)
    commonest, count = Counter(labels.tolist()).most_common(1)[0]
    return ModelCheck(
        model=name,
        images=len(rows),
        accuracy=float(right.mean()),
        low=float(interval.low),
        high=float(interval.high),
        commonest=card.classes[commonest],
        chance=count / len(rows),
        alternatives=tuple(sorted(found, key=lambda one: -one.accuracy)),
    )


def _some(zoo: Zoo, data: LabelledImages, images: int) -> NDArray[np.intp]:
    """Random images of the split ``fit``, one of every class after the other."""
    splits = without_training_images(Splits(), zoo.cards, data)
    allowed = np.flatnonzero((splits.assign(data.groups) == FIT) & ~seen_in_training(zoo, zoo.cards, data))
    if len(allowed) < MIN_IMAGES:
        raise DataError(
            f"expected at least {MIN_IMAGES} images in the split 'fit' to check a model with, got "
            f"{len(allowed)} of {len(data)}. Give more labelled images."
        )
    mixed = np.random.default_rng(0).permutation(allowed)
    rank = np.zeros(len(mixed), dtype=np.int64)
    seen: Counter[int] = Counter()
    for place, label in enumerate(data.labels[mixed].tolist()):
        rank[place] = seen[label]
        seen[label] += 1
    # Pairs of one class next to each other, so that each half of the images gets one of them.
    order = np.lexsort((rank, data.labels[mixed], rank // 2))
    return mixed[order[:images]]


def _logits(model: Model, images: list[Item], what: str, *, progress: bool) -> Logits:
    bar = tqdm(
        images, desc=f"checking {what}", unit="image", delay=2, disable=not progress or None, leave=False
    )
    return np.concatenate([model.logits(model.kind.one(image)) for image in bar])


def _preprocessings(content: bytes, source: Source) -> Iterator[tuple[str, bool, bytes]]:
    """What else the preprocessing could be: options, whether images are shown in B,G,R, the file."""
    graph = onnx.load_model_from_string(content)
    own = {
        tensor.name.removeprefix(PREFIX): tensor
        for tensor in graph.graph.initializer
        if tensor.name in (f"{PREFIX}scale", f"{PREFIX}offset")
    }
    if len(own) < 2 or source == "fixed":
        return
    names = {tensor.name for tensor in graph.graph.initializer}
    gray, bgr = f"{PREFIX}luma" in names, f"{PREFIX}reversed" in names
    scale, offset = (numpy_helper.to_array(own[key]) for key in ("scale", "offset"))
    for usual in (None, *USUAL):
        constants = (scale, offset) if usual is None else usual.constants()
        same = usual is not None and all(
            np.allclose(one, other, rtol=1e-3, atol=1e-6)
            for one, other in zip(constants, (scale, offset), strict=True)
        )
        if same or (gray and usual is not None and len(set(usual.mean)) > 1):
            continue
        for flipped in (False,) if gray else (False, True):
            if usual is None and not flipped:
                continue
            for key, values in zip(("scale", "offset"), constants, strict=True):
                # Channels that are read in reverse are normalised in reverse, too.
                shown = values[::-1] if flipped else values
                own[key].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(shown), f"{PREFIX}{key}"))
            channels = f"--channels {'rgb' if bgr == flipped else 'bgr'}" if flipped else ""
            options = " ".join(filter(None, [channels, "" if usual is None else usual.options(source)]))
            yield options, flipped, graph.SerializeToString(deterministic=True)


def _orders(card: ModelCard, said: Labels, labels: Labels) -> Iterator[tuple[str, Labels]]:
    """Other orders of the class names: for every output, the index of the class that it would stand for."""
    names = card.classes
    index = {name: i for i, name in enumerate(names)}
    for what, key in (("in sorted order", _as_it_is), ("sorted by the numbers in them", _numbered)):
        yield f"class names {what}", np.array([index[name] for name in sorted(names, key=key)])
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, (said, labels), 1.0)
    outputs, classes = linear_sum_assignment(counts + 0.5 * np.eye(len(names)), maximize=True)
    order = np.empty(len(names), dtype=np.int64)
    order[outputs] = classes
    yield "class names in the order that fits these images best", order


def _as_it_is(name: str) -> list[tuple[int, str]]:
    return [(0, name)]


def _numbered(name: str) -> list[tuple[int, str]]:
    """Digits count as a number: ``class-2`` comes before ``class-10``."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]


def _numbers(values: Triple) -> str:
    shown = [f"{value:.6g}" for value in values]
    return shown[0] if len(set(shown)) == 1 else ",".join(shown)
