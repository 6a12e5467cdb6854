"""Suite scale: time and peak memory of fitting on many samples."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.result import finish
from benchmarks.selection.repeated import deal
from benchmarks.selection.zoos import SUITES, Given, Prepared
from training.data.splits import CERTIFY, FIT, TUNE
from training.fitting.fit import fit_outcomes
from training.fitting.options import FitOptions
from training.outcomes.outcomes import ALL_SPLITS, Outcomes, load_outcomes, load_pixels
from training.outcomes.parts import read_profile_record
from zoo.models.latency import LatencyTable, measure

SAMPLES = (50_000, 1_000_000)
LOGIT_NOISE = 0.05  # of the logits' spread, so that no two samples are the same


def run_scale(
    given: Given,
    *,
    samples: Sequence[int] = SAMPLES,
    jobs: int | None = None,
    results: Path = Path("results"),
) -> dict[str, Any]:
    """Fit ``auto`` on samples drawn from CIFAR-10 outcomes with replacement, each in its own process.

    Parameters
    ----------
    samples
        How many, one fit each.
    jobs
        Processes that share the search of a fit; by default one a core that may be used.
    """
    prepared = _prepared(given)
    images = [prepared.data.image(i) for i in range(16)]
    latency = measure(prepared.zoo, images, device="this-machine", runs=100, seed=given.seed)
    rows = []
    for count in samples:
        ours, theirs = get_context("spawn").Pipe(duplex=False)
        process = get_context("spawn").Process(
            target=_measure, args=(theirs, prepared.profile, prepared.zoo.folder, latency, count, given, jobs)
        )
        process.start()
        theirs.close()
        rows.append(ours.recv())
        process.join()
        row = rows[-1]
        print(
            f"{row['samples']:>9,} samples × {row['models']} models: fit {row['seconds']:.1f} s "
            f"({row['cpu_seconds']:.1f} s of processors), "
            f"peak memory {row['peak_gb']:.2f} GB (outcomes alone {row['outcomes_gb']:.2f} GB)"
        )
    return finish("scale", {"fits": rows}, seed=given.seed, folder=results)


def _prepared(given: Given) -> Prepared:
    """CIFAR-10 with eight models: those at 32 pixels."""
    prepared = SUITES["cifar10"](given)
    names = [card.name for card in prepared.zoo.cards if card.resolution == (32, 32)]
    return replace(prepared, zoo=prepared.zoo.only(names))


def _measure(
    pipe: Connection,
    profile: Path,
    folder: Path,
    latency: LatencyTable,
    count: int,
    given: Given,
    jobs: int | None,
) -> None:
    prepared = _prepared(given)
    few = deal(load_outcomes(profile, zoo=prepared.zoo, splits=ALL_SPLITS), given.seed)
    many, origin = _enlarged(few.split(FIT, TUNE, CERTIFY), count, given.seed)
    pixels = load_pixels(profile, ids=few.ids)
    row_of = {name: i for i, name in enumerate(few.ids.tolist())}
    rows = np.array([row_of[name] for name in few.split(FIT, TUNE, CERTIFY).ids.tolist()])[origin]
    del few

    def pixels_of(ids: NDArray[np.str_]) -> NDArray[np.uint8]:
        chosen: NDArray[np.uint8] = pixels[rows[ids.astype(np.int64)]]
        return chosen

    before = _peak_gb()
    start, used = time.perf_counter(), os.times()
    fitted = fit_outcomes(
        many,
        prepared.zoo,
        latency,
        FitOptions(precision=0.82, seed=given.seed),
        grid=read_profile_record(profile).grid,
        data_sha256="0" * 64,
        inputs_sha256="0" * 64,
        pixels=pixels_of,
        jobs=jobs,
    )
    ended = os.times()
    pipe.send(
        {
            "samples": len(many),
            "models": len(many.models),
            "seconds": round(time.perf_counter() - start, 2),
            # processes that share the search included, as soon as they have ended
            "cpu_seconds": round(sum(ended[:4]) - sum(used[:4]), 2),
            "peak_gb": round(_peak_gb(), 3),
            "outcomes_gb": round(before, 3),
            "policy": fitted.record.comparisons[0].label,
        }
    )


def _enlarged(outcomes: Outcomes, count: int, seed: int) -> tuple[Outcomes, NDArray[np.intp]]:
    rng = np.random.default_rng(seed)
    origin = rng.integers(0, len(outcomes), count)
    many = outcomes.rows(origin)
    logits = many.logits
    logits += rng.normal(0, LOGIT_NOISE * float(logits.std()), logits.shape).astype(np.float32)
    names = np.char.mod("%d", np.arange(count))
    return replace(many, ids=names, groups=names), origin


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
