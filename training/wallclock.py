"""Wall-clock: real answers of a bundle, timed image by image, interleaved with every single model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from selector.policy import softmax
from selector.runtime import Prediction, Selector
from training.data import LabelledImages
from zoo.card import match_classes
from zoo.errors import DataError
from zoo.latency import Latency, summarise, time_interleaved
from zoo.model import Model


@dataclass(frozen=True)
class Timed:
    """One method on all test images: right answers and times of single calls."""

    name: str
    right: NDArray[np.bool_]  # [n]
    times_ms: NDArray[np.float64]  # [n], the mean over the rounds of each image
    all_times_ms: NDArray[np.float64]  # [rounds * n]
    answered_by: dict[str, float]  # model → share of images
    certified: bool | None  # whether every answer was certified; None for a single model

    @property
    def accuracy(self) -> float:
        """Share of right answers over all images."""
        return float(self.right.mean())

    @property
    def latency(self) -> Latency:
        """Summary of all single calls."""
        return summarise(self.all_times_ms)


def run_wall_clock(
    selector: Selector,
    data: LabelledImages,
    *,
    precisions: Sequence[float],
    singles: Sequence[str] | None = None,
    rounds: int = 1,
    seed: int = 0,
    progress: bool = True,
) -> list[Timed]:
    """Answer every image of `data` with the selector and with every single model, and time each call.

    Everything an application waits for is inside the measured time: checks, features, scores, all models that
    run, softmax and the label. For each image all methods run one after the other in a new random order.

    Parameters
    ----------
    precisions
        One selector row each.
    singles
        Models to compare with; by default all installed ones.
    rounds
        How often each image is answered; accuracy does not depend on it.
    """
    order = match_classes(data.classes, selector.classes, model="the bundle")
    names = [data.classes[label] for label in data.labels]
    images = [np.ascontiguousarray(data.image(i)) for i in range(len(data))]
    if not images:
        raise DataError("expected test images, got none.")
    assert len(order) == len(data.classes)
    calls: dict[str, Callable[[NDArray[np.uint8]], object]] = {}
    answers: dict[str, list[tuple[str, str, bool | None]]] = {}

    def remember(name: str, label: str, model: str, certified: bool | None) -> None:
        answers[name].append((label, model, certified))

    for precision in precisions:
        name = f"zooselect {precision:g}"
        answers[name] = []
        calls[name] = _selector_call(selector, precision)
    for single in singles if singles is not None else selector.models:
        answers[single] = []
        calls[single] = _single_call(selector, single)
    for name, call in tqdm(calls.items(), desc="answering", unit="method", disable=not progress, delay=2):
        for image in images:
            result = call(image)
            if isinstance(result, Prediction):
                remember(name, result.label, result.model, result.certified)
            else:
                remember(name, str(result), name, None)
    times = time_interleaved(
        calls, images, runs=len(images) * rounds, warm_up=min(20, len(images)), seed=seed, progress=progress
    )
    truth = np.array(names)
    timed = []
    for name in calls:
        labels = np.array([label for label, _, _ in answers[name]])
        shares = Counter(model for _, model, _ in answers[name])
        flags = [certified for _, _, certified in answers[name]]
        timed.append(
            Timed(
                name=name,
                right=labels == truth,
                times_ms=times[name].reshape(rounds, -1).mean(axis=0),
                all_times_ms=times[name],
                answered_by={model: count / len(images) for model, count in shares.items()},
                certified=None if flags[0] is None else all(flags),
            )
        )
    return timed


def _selector_call(selector: Selector, precision: float) -> Callable[[NDArray[np.uint8]], Prediction]:
    return lambda image: selector.predict(image, precision)


def _single_call(selector: Selector, name: str) -> Callable[[NDArray[np.uint8]], str]:
    card = selector.bundle.card(name)
    model = Model.open(card, selector.folder, threads=selector.threads)

    def answer(image: NDArray[np.uint8]) -> str:
        probabilities = softmax(model.logits(image[np.newaxis]))[0]
        return card.classes[int(probabilities.argmax())]

    return answer
