"""What a device was asked, once more: to single models, and to the variants that answered then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selector.answering.selector import Selector
from selector.bundle.bundle import read_bundle
from selector.policies.constraint import Constraint
from training.data.images import ArrayImages
from training.evaluation.busy import busy_run
from training.evaluation.records import SingleAsGood
from training.evaluation.single_model import single_as_good
from training.evaluation.timeline import Answer
from training.evaluation.wallclock import Timed, run_wall_clock
from zoo.models.model import Model

_DEVICE = "the device"  # not the name of a model: those have no spaces


def replay(
    bundles: Mapping[str, Path],
    images: Sequence[NDArray[np.uint8]],
    labels: Sequence[str],
    answers: Sequence[Answer],
    *,
    budget_bytes: int,
    precision: float,
    seed: int = 0,
) -> SingleAsGood | None:
    """The single model that would have done as well as the device on all inputs, or None.

    Whether the device was right is what it was then. Its times are those of the same variants on the same
    inputs, in turns with the single models: by itself a device also waits for inputs and fetches.

    Parameters
    ----------
    bundles
        Published name of a variant → folder of its bundle.
    budget_bytes
        Storage of the device; larger models are left out.
    """
    records = {name: read_bundle(folder) for name, folder in bundles.items()}
    alone = {
        card.name: Model.open(card, bundles[name])
        for name, record in records.items()
        for card in record.models
        if card.size_bytes <= budget_bytes
    }
    parts: list[dict[str, Timed]] = []
    places: list[int] = []
    for first, end in _stretches(answers):
        own = records[answers[first].bundle]
        held = [card.name for card in own.models if card.name in answers[end - 1].installed]
        selector = Selector.load(bundles[answers[first].bundle], models=held or None, watch=False)
        shown = ArrayImages(
            np.stack(images[first:end]),
            selector.classes,
            [str(i) for i in range(first, end)],
            [selector.classes.index(label) for label in labels[first:end]],
        )
        asked = Constraint(kind="precision", level=precision)
        timed = run_wall_clock({_DEVICE: (selector, asked)}, shown, singles=alone, seed=seed, progress=False)
        parts.append({one.name: one for one in timed})
        places += range(first, end)
    was = np.array([answers[i].right for i in places])
    busy = any(busy_run(list(part.values())) for part in parts)
    found = {
        name: (
            np.concatenate([part[name].right for part in parts]),
            _typical_ms([part[name] for part in parts], busy=busy),
        )
        for name in (_DEVICE, *alone)
    }
    _, device_ms = found.pop(_DEVICE)
    return single_as_good((was, device_ms), found, times_known=not busy)


def _stretches(answers: Sequence[Answer]) -> list[tuple[int, int]]:
    """Where one variant answered with the same models, as ``[first, end)``."""
    keys = [(answer.bundle, answer.installed) for answer in answers]
    starts = [i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]]
    return list(zip(starts, [*starts[1:], len(keys)], strict=True))


def _typical_ms(parts: Sequence[Timed], *, busy: bool) -> float:
    """Milliseconds of an answer over all parts: their mean, or of a busy machine the mean of medians."""
    inputs = [len(part.right) for part in parts]
    times = [part.latency.p50_ms if busy else part.latency.mean_ms for part in parts]
    return float(np.average(times, weights=inputs))
