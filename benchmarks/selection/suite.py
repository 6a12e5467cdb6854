"""One suite from end to end: repeated splits, the guarantee, real answers, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import PEERS
from benchmarks.result import finish
from benchmarks.selection.answers import answer
from benchmarks.selection.compare import verdicts
from benchmarks.selection.guarantee import Guarantee, study
from benchmarks.selection.repeated import Choices, deal, repeat
from benchmarks.selection.report import (
    Target,
    figures,
    print_headlines,
    print_targets,
    print_verdicts,
    summary,
    target_rows,
)
from benchmarks.selection.zoos import SUITES, Given, Prepared
from training.data.splits import FIT, TUNE
from training.evaluation.busy import busy_table
from training.outcomes.outcomes import ALL_SPLITS, Outcomes, load_outcomes, pixels_of
from training.outcomes.parts import read_profile_record
from training.reports.method_table import table
from training.reports.page import render
from training.search.search import Considered, consider
from training.search.selector_graph import time_selector_us
from zoo.models.latency import LatencyTable, measure

TARGETS = {"magika": Target(speedup=2.5, gain=0.01)}


def run_suite(
    name: str,
    given: Given,
    *,
    splits: int = 10,
    jobs: int = 2,
    rounds: int = 2,
    peers: Sequence[str] = tuple(PEERS),
    results: Path = Path("results"),
    ray: str | None = None,
) -> dict[str, Any]:
    """Run a suite of :data:`benchmarks.selection.zoos.SUITES`: tables, a JSON line, result file and report.

    Parameters
    ----------
    splits
        Repetitions with the samples dealt out anew.
    jobs
        Processes that share them, where there is no cluster.
    rounds
        How often each test image is answered for the wall-clock times.
    peers
        Names of the peers to compare with.
    ray
        Address of a cluster of Ray that shares the repetitions, or ``local``.
    """
    prepared = SUITES[name](given)
    images = [prepared.data.image(i) for i in range(min(64, len(prepared.data)))]
    latency = measure(prepared.whole, images, device="this-machine", runs=300, seed=given.seed, progress=True)
    outcomes = deal(load_outcomes(prepared.profile, zoo=prepared.zoo, splits=ALL_SPLITS), given.seed)
    answered = answer(name, prepared, outcomes, latency, given, rounds=rounds)
    considered = search(outcomes, prepared, latency, given.seed)
    overhead = input_overhead(outcomes, considered, prepared, latency)
    repetitions = repeat(
        prepared.profile,
        prepared.zoo,
        latency,
        named=prepared.reference,
        seeds=range(given.seed, given.seed + splits),
        jobs=jobs,
        peers=peers,
        delivered=prepared.delivered,
        ray=ray,
    )
    guarantee = _guarantee(considered, given.seed)
    judged = verdicts(repetitions)
    evaluation = summary(prepared, repetitions, answered, guarantee)
    busy = busy_table(latency, prepared.zoo.names) or next((r.evaluation.busy for r in answered), "")
    print(table(evaluation))
    print_verdicts(judged)
    print_headlines(prepared, repetitions, answered, guarantee, busy=busy)
    targets = []
    if name in TARGETS:
        targets = target_rows(TARGETS[name], repetitions, judged, answered, guarantee)
        print_targets(targets)
    results.mkdir(parents=True, exist_ok=True)
    report = results / f"{name}.html"
    render(evaluation, report)
    print(f"report: {report}")
    return finish(
        name,
        {"busy": busy, "targets": targets}
        | figures(prepared, repetitions, judged, answered, guarantee, overhead, evaluation),
        seed=given.seed,
        folder=results,
        file_only=("repetitions", "guarantee"),
    )


def search(
    outcomes: Outcomes,
    prepared: Prepared,
    latency: LatencyTable,
    seed: int,
    *,
    kinds: Sequence[str] = ("cascade", "probe", "input"),
) -> Considered:
    """All policies that ours chooses from, or those of some kinds."""
    return consider(
        outcomes,
        prepared.zoo,
        latency,
        kinds,
        grid=read_profile_record(prepared.profile).grid,
        pixels=partial(pixels_of, prepared.profile),
        seed=seed,
    )


def input_overhead(
    outcomes: Outcomes, considered: Considered, prepared: Prepared, latency: LatencyTable
) -> dict[str, Any]:
    """Cost of features and scores in an input policy, whichever policy was chosen."""
    assert considered.input_fit is not None
    known = outcomes.split(FIT, TUNE).accuracy()
    inputs = [candidate for candidate in considered.candidates if candidate.kind == "input"]
    choices = Choices(inputs, considered.situation.outcomes, considered.situation.costs)
    point = choices.choice(known[prepared.reference] - 0.01)[1]
    times = time_selector_us(considered.input_fit.graph, latency.image, kind=prepared.zoo.kind)
    micros = float(np.median(times))
    return {
        "selector_us": round(micros, 2),
        "selector_p95_us": round(float(np.quantile(times, 0.95)), 2),
        "selector_share": round(micros / 1e3 / point.mean_ms, 5),
        "features": list(considered.input_fit.features),
        "features_gain": considered.input_fit.tuned.gain,
    }


def _guarantee(considered: Considered, seed: int) -> list[Guarantee]:
    """The study, of all policies but those that look at the input before any model runs."""
    later = [candidate for candidate in considered.candidates if candidate.kind != "input"]
    choices = Choices(later, considered.situation.outcomes, considered.situation.costs)
    return study(choices, considered.outcomes, seed=seed)
