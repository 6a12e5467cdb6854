"""Latency of everything in a folder, zoo or bundle, measured on this device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from selector.answering.selector import Selector
from selector.bundle.bundle import BUNDLE_FILE
from zoo.models.card import SCHEMA_VERSION, Manifest
from zoo.models.latency import LatencyTable, ModelLatency, measure, summarise
from zoo.models.timing import RUNS_IN_A_ROW, time_interleaved
from zoo.models.zoo import Zoo


def measure_folder(
    path: str | Path,
    images: Sequence[NDArray[np.uint8]],
    *,
    device: str,
    threads: int = 1,
    runs: int = 300,
    seed: int = 0,
    progress: bool = False,
) -> LatencyTable:
    """Latency table of a zoo, or of the installed models and the selector graph of a bundle.

    Parameters
    ----------
    images
        uint8 ``[H, W, 3]``, like those that the device will see.

    Raises
    ------
    CardError, BundleError
        When `path` is neither a zoo nor a bundle.
    LatencyError
        When there is nothing to measure.

    Examples
    --------
    >>> from selector.answering.bench import measure_folder
    >>> table = measure_folder("my-zoo", [image], device="this-machine", runs=20)
    >>> sorted(table.models)
    ['full', 'small', 'tiny']
    """
    folder = Path(path)
    if not (folder / BUNDLE_FILE).is_file():
        zoo = Zoo.open(folder)
        return measure(zoo, images, device=device, threads=threads, runs=runs, seed=seed, progress=progress)
    selector = Selector.load(folder, threads=threads, watch=False)
    installed = tuple(selector.bundle.card(name) for name in selector.models)
    zoo = Zoo(folder, Manifest(schema_version=SCHEMA_VERSION, models=installed), complete=False)
    table = measure(zoo, images, device=device, threads=threads, runs=runs, seed=seed, progress=progress)
    record = selector.bundle.selector
    if record is None:
        return table
    batches = [image[np.newaxis] for image in images]
    times = time_interleaved(
        {"scores": selector.scores}, batches, runs=runs, burst=RUNS_IN_A_ROW, seed=seed, progress=progress
    )
    return msgspec.structs.replace(
        table, selector=ModelLatency(sha256=record.sha256, latency=summarise(times["scores"]))
    )
