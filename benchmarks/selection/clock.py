"""Budgets of time held against a clock: certified, exported, and answered on inputs that nothing has seen."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.result import finish
from benchmarks.selection.repeated import deal
from benchmarks.selection.zoos import SUITES, Given, Prepared
from selector.answering.beside import beside
from selector.answering.measuring.bench import as_usual, views_on_paths
from selector.answering.selector import Selector
from selector.commands.tables import table
from selector.policies.constraint import Constraint, ConstraintKind
from training.data.splits import TEST
from training.evaluation.busy import busy_table
from training.evaluation.evaluate import simulate_at
from training.fitting.export import export_bundle
from training.fitting.fit import fit_outcomes
from training.fitting.options import FitOptions
from training.outcomes.outcomes import ALL_SPLITS, Outcomes, load_outcomes, pixels_of
from training.outcomes.parts import read_profile_record
from zoo.models.latency import LatencyTable, measure
from zoo.models.timing import Times

KINDS: tuple[ConstraintKind, ...] = ("p95_ms", "mean_ms")
LEVELS = 5  # budgets of each kind
MOST_TRIES = 20  # of one answer that other programs interrupt
EVERY = 4  # answers, until the yardstick gives one
NEAREST = 9  # answers of the yardstick, that tell how fast the machine is


def run_clock(
    given: Given, *, suites: Sequence[str], answers: int = 2000, results: Path = Path("results")
) -> dict[str, Any]:
    """Certify budgets of each kind, answer `answers` inputs of the test split under each, and compare.

    An answer that is interrupted by another program, or comes right after an interruption, is given again:
    leaving it out would favour short ones, which are interrupted less often. Where the test split has fewer
    inputs, all of them are answered.

    A processor that is shared with other machines changes its speed by half for seconds at a time, which no
    clock of ours tells. So the shortest path of the policy is answered in turns with the inputs: its time
    over what it was when the paths were measured is the speed of the machine, and times are also given at
    the speed of that measurement.
    """
    rows = [row for suite in suites for row in _suite(suite, given, answers)]
    heads = [
        "suite",
        "budget",
        "path",
        "certified",
        "wall p95",
        "wall mean",
        "kept",
        "machine",
        "kept at its speed",
        "wall / evaluate",
        "again",
    ]
    print(table(heads, [_cells(row) for row in rows], "lllrrrlrlrr"))
    certified = [row for row in rows if row["certified"]]
    kept, at_speed = (sum(row[key] for row in certified) for key in ("kept", "kept_at_speed"))
    print(
        f"\n{kept} of {len(certified)} certified budgets were kept by the clock, {at_speed} at the speed of "
        f"the machine when paths were measured, of {len(rows)} that were asked for."
    )
    figures = {"rows": rows, "kept": kept, "kept_at_speed": at_speed, "certified": len(certified)}
    return finish("clock", figures, seed=given.seed, folder=results)


def _suite(suite: str, given: Given, answers: int) -> list[dict[str, Any]]:
    prepared = SUITES[suite](given)
    images = [prepared.data.image(i) for i in range(min(64, len(prepared.data)))]
    latency = measure(prepared.zoo, images, device="this-machine", runs=300, seed=given.seed, progress=True)
    busy = busy_table(latency, prepared.zoo.names)
    print(f"{suite}: {busy or 'the machine was quiet while models were timed'}", flush=True)
    outcomes = deal(load_outcomes(prepared.profile, zoo=prepared.zoo, splits=ALL_SPLITS), given.seed)
    rows = []
    for kind in KINDS:
        for level in budgets(latency):
            asked = Constraint(kind=kind, level=level)
            found = _answered(prepared, outcomes, latency, asked, given, answers)
            rows.append({"suite": suite, "busy": bool(busy), **found})
            print(" ".join(_cells(rows[-1])), flush=True)
    return rows


def budgets(latency: LatencyTable, count: int = LEVELS) -> list[float]:
    """Budgets between the fastest and the slowest model, and a little beyond: from the table alone."""
    times = [row.latency.mean_ms for row in latency.models.values()]
    return [round(float(level), 3) for level in np.geomspace(1.15 * min(times), 1.1 * max(times), count)]


def _answered(
    prepared: Prepared,
    outcomes: Outcomes,
    latency: LatencyTable,
    asked: Constraint,
    given: Given,
    answers: int,
) -> dict[str, Any]:
    record = read_profile_record(prepared.profile)
    pixels = partial(pixels_of, prepared.profile)
    options: Any = {asked.kind: asked.level}
    fitted = fit_outcomes(
        outcomes,
        prepared.zoo,
        latency,
        FitOptions(seed=given.seed, **options),
        grid=record.grid,
        data_sha256=record.data_sha256,
        inputs_sha256="0" * 64,
        pixels=pixels,
        searches=given.work / "searches",
    )
    folder = given.work / "bundles" / "clock" / f"{asked.kind}-{asked.level:g}"
    export_bundle(fitted, prepared.zoo, folder)
    test = outcomes.split(TEST)
    chosen = np.random.default_rng(given.seed).permutation(len(test))[:answers]
    some = fitted.informed(test.rows(np.sort(chosen)), pixels)
    place = {name: i for i, name in enumerate(prepared.data.ids)}
    images = [np.ascontiguousarray(prepared.data.image(place[name])) for name in some.ids.tolist()]
    selector = Selector.load(folder, watch=True)
    as_usual(selector)
    yardstick, usual_ms = _yardstick(selector)
    times, slower, again = answer_undisturbed(partial(selector.predict, **options), images, yardstick)
    simulated = simulate_at(fitted, some, asked)
    slower /= usual_ms
    p95, mean = _figures(times)
    steady_p95, steady_mean = _figures(times / slower)
    certificate = fitted.certificate()
    return {
        "kind": asked.kind,
        "level": asked.level,
        "certified": certificate is not None,
        "models": list(fitted.policy.models) if certificate else [fitted.record.bundle.alone(asked)],
        "answers": len(times),
        "given_again": again,
        "accuracy": simulated.accuracy,
        "p95_ms": p95,
        "mean_ms": mean,
        "evaluated_ms": simulated.mean_ms,
        "machine": float(slower.mean()),
        "at_speed_p95_ms": steady_p95,
        "at_speed_mean_ms": steady_mean,
        "over_evaluated": steady_mean / simulated.mean_ms,
        "kept": (p95 if asked.kind == "p95_ms" else mean) <= asked.level,
        "kept_at_speed": (steady_p95 if asked.kind == "p95_ms" else steady_mean) <= asked.level,
        "sources": sorted({path.source for path in fitted.record.bundle.costs_ms().paths}),
    }


def _figures(times: NDArray[np.float64]) -> tuple[float, float]:
    """95th percentile and mean."""
    return float(np.quantile(times, 0.95, method="inverted_cdf")), float(times.mean())


def _yardstick(selector: Selector) -> tuple[Callable[[NDArray[np.uint8]], object], float]:
    """Answers on the shortest path of a selector, and the mean milliseconds that were measured of it."""
    found = [path for path in selector.bundle.costs_ms().paths if path.source == "measured"]
    first = min(found, key=lambda path: len(path.models))
    views = views_on_paths(selector, models=first.models[:1], watch=True, submit=beside)
    view = views[first.steps, first.models]
    return Selector(view, selector.folder, threads=selector.threads).predict, first.mean_ms


def answer_undisturbed(
    answer: Callable[[NDArray[np.uint8]], object],
    images: Sequence[NDArray[np.uint8]],
    yardstick: Callable[[NDArray[np.uint8]], object],
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Milliseconds of an answer to each image, and what the yardstick took about then.

    Also how many answers were given again, for each that counts. Every :data:`EVERY` answers the yardstick
    gives one; its time is the median of the :data:`NEAREST` that ran last.

    The clock of the process tells interruptions: a drift monitor may be at work beside the answers.
    An answer that is interrupted :data:`MOST_TRIES` times counts with the shortest of its times.
    """
    for image in images[:20]:
        answer(image)
    left = np.arange(len(images))
    best = np.full(len(images), np.inf)
    slower = np.empty(len(images))
    total = 0
    latest: deque[float] = deque(maxlen=NEAREST)
    for _ in range(MOST_TRIES):
        wall, waited = np.empty(len(left)), np.empty(len(left))
        before = time.perf_counter_ns() - time.process_time_ns()
        for k, i in enumerate(left.tolist()):
            if k % EVERY == 0:
                for _ in range(max(1, NEAREST - len(latest))):
                    start = time.perf_counter_ns()
                    yardstick(images[i])
                    latest.append((time.perf_counter_ns() - start) * 1e-6)
                usual = float(np.median(latest))
                before = time.perf_counter_ns() - time.process_time_ns()
            start = time.perf_counter_ns()
            answer(images[i])
            end = time.perf_counter_ns()
            ahead = end - time.process_time_ns()
            wall[k], waited[k], before = (end - start) * 1e-6, (ahead - before) * 1e-6, ahead
            slower[i] = usual
        times = Times(wall, waited)
        total += len(left)
        best[left] = np.where(times.interrupted, np.minimum(best[left], wall), wall)
        left = left[times.interrupted]
        if not len(left):
            break
    return best, slower, (total - len(images)) / len(images)


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["suite"],
        f"{row['kind']} {row['level']:g}",
        " → ".join(row["models"]),
        "yes" if row["certified"] else "no",
        f"{row['p95_ms']:.3f}",
        f"{row['mean_ms']:.3f}",
        "yes" if row["kept"] else "no",
        f"{row['machine']:.2f}",
        "yes" if row["kept_at_speed"] else "no",
        f"{row['over_evaluated']:.3f}",
        f"{row['given_again']:.0%}",
    ]
