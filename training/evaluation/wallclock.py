"""Wall-clock: real answers of bundles, timed image by image, in turns with single models."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from selector.answering.beside import has_room
from selector.answering.measuring.bench import as_usual
from selector.answering.selector import Prediction, Selector
from selector.policies.constraint import Constraint
from selector.policies.rules import softmax
from training.data.images import LabelledImages
from zoo.inputs.kind import Item
from zoo.models.card import match_classes
from zoo.models.latency import Latency, summarise
from zoo.models.model import Model
from zoo.models.timing import RUNS_IN_A_ROW, clock_of, time_interleaved


@dataclass(frozen=True)
class Timed:
    """One method on all test images: right answers and times of single calls."""

    name: str
    right: NDArray[np.bool_]  # [n]
    times_ms: NDArray[np.float64]  # [n], the mean over the rounds of each image
    all_times_ms: NDArray[np.float64]  # [rounds * n]
    answered_by: dict[str, float]  # model → share of images
    certified: bool | None  # whether every answer was certified; None for a single model
    # share of the whole run in which the program waited for a processor; None where several threads answer
    waited: float | None = None
    labels: NDArray[np.str_] | None = None  # [n], the class that was answered
    # [rounds * n], which calls were interrupted: they are not in the summary; None: not known
    interrupted: NDArray[np.bool_] | None = None

    @property
    def accuracy(self) -> float:
        """Share of right answers over all images."""
        return float(self.right.mean())

    @property
    def latency(self) -> Latency:
        """Summary of all single calls that nothing interrupted."""
        kept = np.ones(len(self.all_times_ms), np.bool_) if self.interrupted is None else ~self.interrupted
        return summarise(self.all_times_ms[kept] if kept.any() else self.all_times_ms)


def run_wall_clock(
    selectors: Mapping[str, tuple[Selector, Constraint]],
    data: LabelledImages,
    *,
    singles: Mapping[str, Model],
    rounds: int = 1,
    seed: int = 0,
    progress: bool = True,
) -> list[Timed]:
    """Answer every image of `data` with selectors and with single models, and time each call.

    Everything an application waits for is inside the measured time: checks, features, scores, all models that
    run, softmax and the label. The methods take turns, in a new random order each time, with a few images in
    a row: an application uses one of them, and its caches are not those that another one left. One more
    image at the start of a turn does not count.

    Parameters
    ----------
    selectors
        Name of the row → selector and the constraint to ask of it.
    singles
        Name → model to compare with.
    rounds
        How often each image is answered; accuracy does not depend on it.
    """
    for name, (selector, _) in selectors.items():
        match_classes(data.classes, selector.classes, model=name)
    truth = np.array([data.classes[label] for label in data.labels])
    images = [data.image(i) for i in range(len(data))]
    calls: dict[str, Callable[[NDArray[np.uint8]], object]] = {
        **{name: partial(_predict, selector, asked) for name, (selector, asked) in selectors.items()},
        **{name: partial(_answer, model) for name, model in singles.items()},
    }
    answers: dict[str, list[tuple[str, str, bool | None]]] = {name: [] for name in calls}
    for name, call in tqdm(
        calls.items(), desc="answering", unit="method", disable=not progress or None, delay=2
    ):
        for image in images:
            result = call(image)
            if isinstance(result, Prediction):
                answers[name].append((result.label, result.model, result.certified))
            else:
                answers[name].append((str(result), name, None))
    counts = {one.threads for one, _ in selectors.values()} | {one.threads for one in singles.values()}
    threads = max(counts, default=1)
    if any(one.drift is not None for one, _ in selectors.values()) and has_room():
        threads += 1  # the monitor's
    clock = time.thread_time if clock_of(threads) == "thread" else time.process_time
    start, worked = time.perf_counter(), clock()
    times = time_interleaved(
        calls,
        images,
        runs=len(images) * rounds,
        warm_up=min(20, len(images)),
        burst=RUNS_IN_A_ROW,
        seed=seed,
        threads=threads,
        progress=progress,
    )
    share = 1 - (clock() - worked) / (time.perf_counter() - start)
    timed = []
    for name in calls:
        labels = np.array([label for label, _, _ in answers[name]])
        shares = Counter(model for _, model, _ in answers[name])
        flags = [certified for _, _, certified in answers[name]]
        timed.append(
            Timed(
                name=name,
                right=labels == truth,
                times_ms=times[name].wall_ms.reshape(rounds, -1).mean(axis=0),
                all_times_ms=times[name].wall_ms,
                interrupted=times[name].interrupted,
                answered_by={model: count / len(images) for model, count in shares.items()},
                certified=None if flags[0] is None else all(flags),
                waited=max(0.0, share) if counts == {1} else None,
                labels=labels,
            )
        )
    return timed


def time_bundle(
    bundle: Path,
    asked: Constraint,
    data: LabelledImages,
    *,
    name: str,
    singles: Sequence[str] | None = None,
    others: Mapping[str, Constraint] | None = None,
    rounds: int = 1,
    seed: int = 0,
    progress: bool = True,
) -> list[Timed]:
    """:func:`run_wall_clock` of a bundle under one constraint, beside single models of it.

    The drift monitor of the bundle is at work, as on devices, and takes all inputs for ordinary ones.

    Parameters
    ----------
    name
        Of the bundle's row.
    singles
        Models to compare with, opened on their own; by default all.
    others
        Name of a row → a further constraint to answer all images under.
    """
    selector = Selector.load(bundle, watch=True)
    as_usual(selector)
    alone = {
        model: Model.open(selector.bundle.card(model), selector.folder, threads=selector.threads)
        for model in (selector.models if singles is None else singles)
    }
    settings = {name: (selector, asked)} | {row: (selector, one) for row, one in (others or {}).items()}
    return run_wall_clock(settings, data, singles=alone, rounds=rounds, seed=seed, progress=progress)


def _predict(selector: Selector, asked: Constraint, image: Item) -> Prediction:
    options: Any = {asked.kind: asked.level}
    return selector.predict(image, **options)


def _answer(model: Model, image: Item) -> str:
    probabilities = softmax(model.logits(model.kind.stack([image])))[0]
    return model.card.classes[int(probabilities.argmax())]
