"""One suite from end to end: repeated splits, the guarantee, real answers, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare import Verdict, error, gains, speedups, verdicts
from benchmarks.guarantee import Guarantee, study
from benchmarks.peers import PEERS
from benchmarks.repeated import Choices, Point, Repetition, deal, repeat
from benchmarks.result import finish, method
from benchmarks.zoos import SUITES, Given, Prepared
from selector.runtime import Selector
from training.consider import consider
from training.evaluate import evaluate_outcomes
from training.evaluation import Evaluation, FrontierCurve, GuaranteeRow, MethodRow
from training.export import export_bundle
from training.fit import FitOptions, fit_options, fit_outcomes
from training.fitted import Fitted
from training.graph import time_selector_us
from training.outcomes import ALL_SPLITS, Outcomes, load_outcomes, pixels_of
from training.profile import read_profile_record
from training.report import render, table
from training.splits import FIT, TEST, TUNE
from training.wallclock import Timed, run_wall_clock, single_models
from zoo.latency import LatencyTable, measure

BELOW = (
    0.03,
    0.02,
    0.01,
    0.0,
)  # precisions that are certified and timed, below the delivered model's accuracy
AGREE = 0.15  # simulated and wall-clock times are to agree this well


def run_suite(
    name: str,
    given: Given,
    *,
    splits: int = 10,
    jobs: int = 2,
    rounds: int = 2,
    peers: Sequence[str] = tuple(PEERS),
    results: Path = Path("results"),
) -> dict[str, Any]:
    """Run a suite of :data:`benchmarks.zoos.SUITES`, print its tables and JSON line, write result and report.

    Parameters
    ----------
    splits
        Repetitions with the samples dealt out anew.
    jobs
        Processes that share them.
    rounds
        How often each test image is answered for the wall-clock times.
    peers
        Names of the peers to compare with.
    """
    prepared = SUITES[name](given)
    images = [prepared.data.image(i) for i in range(min(64, len(prepared.data)))]
    latency = measure(prepared.zoo, images, device="this-machine", runs=300, seed=given.seed, progress=True)
    grid = read_profile_record(prepared.profile).grid
    outcomes = deal(load_outcomes(prepared.profile, zoo=prepared.zoo, splits=ALL_SPLITS), given.seed)
    timed = _timed(name, prepared, outcomes, latency, given, grid, rounds)
    overhead = input_overhead(outcomes, prepared, latency, given.seed)
    repetitions = repeat(
        prepared.profile,
        prepared.zoo,
        latency,
        named=prepared.reference,
        seeds=range(given.seed, given.seed + splits),
        jobs=jobs,
        peers=peers,
    )
    guarantee = _guarantee(outcomes, prepared, latency, given.seed, grid)
    judged = verdicts(repetitions)
    evaluation = _evaluation(prepared, repetitions, timed, guarantee, latency)
    print(table(evaluation))
    _print_verdicts(judged)
    results.mkdir(parents=True, exist_ok=True)
    report = results / f"{name}.html"
    render(evaluation, report)
    print(f"report: {report}")
    return finish(
        name,
        _figures(prepared, repetitions, judged, timed, guarantee, overhead, evaluation),
        seed=given.seed,
        folder=results,
        file_only=("repetitions", "guarantee"),
    )


class _Run:
    """Our bundle at one constraint, answered for real beside the delivered model."""

    def __init__(
        self, fitted: Fitted, ours: Timed, reference: Timed, simulated_ms: float, evaluation: Evaluation
    ) -> None:
        self.fitted = fitted
        self.ours = ours
        self.reference = reference
        self.evaluation = evaluation
        # the same machine at the same time: what both tables say of the reference model is divided out
        drift = reference.latency.p50_ms / fitted.record.bundle.costs_ms().models[reference.name]
        self.over_simulated = ours.latency.mean_ms / simulated_ms
        self.over_simulated_without_drift = self.over_simulated / drift


def _timed(
    suite: str,
    prepared: Prepared,
    outcomes: Outcomes,
    latency: LatencyTable,
    given: Given,
    grid: int,
    rounds: int,
) -> list[_Run]:
    known = outcomes.split(FIT, TUNE).accuracy()[prepared.reference]
    place = {name: i for i, name in enumerate(prepared.data.ids)}
    test = prepared.data.subset(np.array([place[name] for name in outcomes.split(TEST).ids.tolist()]))
    runs: list[_Run] = []
    for precision in dict.fromkeys(min(round(known - below, 2), 0.99) for below in BELOW):
        options = fit_options({"precision": precision, "seed": given.seed})
        fitted = _fit(prepared, outcomes, latency, options, grid)
        label = f"zooselect {options.constraint.level:g}"
        folder = given.work / "bundles" / suite / f"{options.constraint.level:g}"
        export_bundle(fitted, prepared.zoo, folder)
        selector = Selector.load(folder)
        timed = run_wall_clock(
            {label: (selector, options.constraint)},
            test,
            singles=single_models(selector, [prepared.reference]),
            rounds=rounds,
            seed=given.seed,
        )
        evaluation = evaluate_outcomes(fitted, fitted.informed(outcomes.split(TEST), _pixels(prepared)))
        simulated = evaluation.ours
        assert simulated is not None
        runs.append(_Run(fitted, timed[0], timed[1], simulated.mean_ms, evaluation))
        print(
            f"{label}: {'certified' if timed[0].certified else 'not certified'}, "
            f"{fitted.record.comparisons[0].label}, {' → '.join(fitted.policy.models)}, "
            f"{timed[0].accuracy:.4f} at {timed[0].latency.mean_ms:.4f} ms; {prepared.reference} "
            f"{timed[1].accuracy:.4f} at {timed[1].latency.mean_ms:.4f} ms"
        )
    return runs


def _fit(
    prepared: Prepared, outcomes: Outcomes, latency: LatencyTable, options: FitOptions, grid: int
) -> Fitted:
    return fit_outcomes(
        outcomes,
        prepared.zoo,
        latency,
        options,
        grid=grid,
        data_sha256=read_profile_record(prepared.profile).data_sha256,
        inputs_sha256="0" * 64,
        pixels=_pixels(prepared),
    )


def _pixels(prepared: Prepared) -> Any:
    return partial(pixels_of, prepared.profile)


def input_overhead(
    outcomes: Outcomes, prepared: Prepared, latency: LatencyTable, seed: int
) -> dict[str, Any]:
    """Cost of features and scores in an input policy, whichever policy was chosen."""
    considered = consider(
        outcomes,
        prepared.zoo,
        latency,
        ("input",),
        grid=read_profile_record(prepared.profile).grid,
        pixels=_pixels(prepared),
        seed=seed,
    )
    assert considered.input_fit is not None
    known = outcomes.split(FIT, TUNE).accuracy()
    choices = Choices([c for c in considered.candidates if c.kind == "input"], considered.situation.outcomes)
    point = choices.choice(known[prepared.reference] - 0.01)[1]
    times = time_selector_us(considered.input_fit.graph, latency.image)
    micros = float(np.median(times))
    return {
        "selector_us": round(micros, 2),
        "selector_p95_us": round(float(np.quantile(times, 0.95)), 2),
        "selector_share": round(micros / 1e3 / point.mean_ms, 5),
        "features": list(considered.input_fit.features),
        "features_gain": considered.input_fit.tuned.gain,
    }


def _guarantee(
    outcomes: Outcomes, prepared: Prepared, latency: LatencyTable, seed: int, grid: int
) -> list[Guarantee]:
    considered = consider(
        outcomes, prepared.zoo, latency, ("cascade", "probe"), grid=grid, pixels=None, seed=seed
    )
    accuracy = outcomes.split(FIT, TUNE).accuracy()
    choices = Choices(considered.candidates, considered.situation.outcomes)
    return study(choices, considered.outcomes, max(accuracy, key=lambda name: accuracy[name]), seed=seed)


def _evaluation(
    prepared: Prepared,
    repetitions: Sequence[Repetition],
    runs: Sequence[_Run],
    guarantee: Sequence[Guarantee],
    latency: LatencyTable,
) -> Evaluation:
    best = next((run for run in reversed(runs) if run.ours.certified), runs[0])
    asked = best.fitted.record.bundle.default.level
    singles = [row for row in best.evaluation.rows if row.kind == "single"]
    ours = [row for run in runs for row in _wall_rows(run)]
    middle = len(repetitions[0].levels) // 2
    peers = [
        _mean_row(name, [points[middle] for points in (r.peers[name] for r in repetitions)])
        for name in repetitions[0].peers
        if name not in ("oracle", "always-largest", "single")
    ]
    level = next((g.precision for g in guarantee if g.below_best >= 0.02), None)
    return Evaluation(
        title=prepared.title,
        subtitle=f"{len(best.ours.right):,} test images nobody looked at before, answered for real; "
        f"curves and peers: mean of {len(repetitions)} splits, times from the latency table",
        asked_precision=asked,
        rows=[
            *singles,
            *ours,
            *(row for row in peers if row is not None),
            *(row for row in best.evaluation.rows if row.kind == "oracle"),
        ],
        curves=[
            FrontierCurve("zooselect", "ours", _mean_curve([r.ours for r in repetitions])),
            *(
                FrontierCurve(name, "peer", _mean_curve([r.frontiers[name] for r in repetitions]))
                for name in repetitions[0].frontiers
                if len(repetitions[0].frontiers[name]) > 1 and name not in ("single", "oracle")
            ),
        ],
        mixes=best.evaluation.mixes,
        environments=best.evaluation.environments,
        reliability=best.evaluation.reliability,
        features=best.evaluation.features,
        facts=[
            *best.evaluation.facts,
            (
                "Wall-clock over simulated time",
                ", ".join(f"{run.ours.name}: {run.over_simulated:.2f}" for run in runs),
            ),
        ],
        notes=best.evaluation.notes,
        next_commands=[],
        asked=best.evaluation.asked,
        reference_model=prepared.reference,
        gain=best.evaluation.gain,
        times={
            best.ours.name: best.ours.all_times_ms.tolist(),
            best.reference.name: best.reference.all_times_ms.tolist(),
        },
        guarantee=[
            GuaranteeRow(g.samples, g.draws, g.violated, g.price, g.certified)
            for g in guarantee
            if g.precision == level
        ],
        comparisons=best.evaluation.comparisons,
        storage=best.evaluation.storage,
    )


def _wall_rows(run: _Run) -> list[MethodRow]:
    row = run.evaluation.ours
    assert row is not None
    latency = run.ours.latency
    return [
        MethodRow(
            name=run.ours.name,
            kind="ours",
            precision=row.precision,
            accuracy=run.ours.accuracy,
            accuracy_low=row.accuracy_low,
            accuracy_high=row.accuracy_high,
            mean_ms=latency.mean_ms,
            p95_ms=latency.p95_ms,
            shares=run.ours.answered_by,
            certified=run.ours.certified,
            wall_clock=True,
        )
    ]


def _mean_row(name: str, points: Sequence[Point | None]) -> MethodRow | None:
    met = [point for point in points if point is not None]
    if len(met) <= len(points) / 2:
        return None
    accuracy = np.array([point.accuracy for point in met])
    half = 2 * error(accuracy) if len(met) > 1 else 0.0
    return MethodRow(
        name=name,
        kind="peer",
        precision=None,
        accuracy=float(accuracy.mean()),
        accuracy_low=float(accuracy.mean() - half),
        accuracy_high=float(accuracy.mean() + half),
        mean_ms=float(np.mean([point.mean_ms for point in met])),
        p95_ms=float(np.mean([point.p95_ms for point in met])),
        shares={},
        certified=None,
        wall_clock=False,
    )


def _mean_curve(curves: Sequence[Sequence[Point]]) -> list[tuple[float, float]]:
    points = {
        (
            float(np.mean([curve[i].mean_ms for curve in curves])),
            float(np.mean([curve[i].accuracy for curve in curves])),
        )
        for i in range(min(len(curve) for curve in curves))
    }
    return sorted(points)


def _print_verdicts(judged: Sequence[Verdict]) -> None:
    print(
        "\nours minus each peer at the same mean time, points of accuracy (mean over splits ± standard error)"
    )
    print(f"{'peer':<26}{'levels':>7}{'worst level':>18}{'all levels':>18}{'not behind':>12}{'ahead':>7}")
    for item in judged:
        worst = f"{item.worst * 100:+.2f} ± {item.worst_error * 100:.2f}"
        overall = f"{item.mean * 100:+.2f} ± {item.mean_error * 100:.2f}"
        yes = ["no", "yes"]
        print(
            f"{item.peer:<26}{item.levels:>7}{worst:>18}{overall:>18}"
            f"{yes[item.not_behind]:>12}{yes[item.ahead]:>7}"
        )


def _figures(
    prepared: Prepared,
    repetitions: Sequence[Repetition],
    judged: Sequence[Verdict],
    runs: Sequence[_Run],
    guarantee: Sequence[Guarantee],
    overhead: dict[str, Any],
    evaluation: Evaluation,
) -> dict[str, Any]:
    rows = speedups(repetitions)
    reached = next((row for row in rows if row[1] >= 0), None)
    gained = gains(repetitions)
    certify = runs[0].fitted.record.bundle.calibration.certify
    at_size = [g for g in guarantee if g.samples == certify]
    reference = runs[0].reference
    return {
        "reference": {
            "model": prepared.reference,
            "accuracy": round(float(np.mean([r.named.accuracy for r in repetitions])), 5),
            "mean_ms": round(reference.latency.mean_ms, 5),
        },
        "methods": [method(row) for row in evaluation.rows],
        "splits": len(repetitions),
        "speedup_at_reference_accuracy": None if reached is None else round(reached[3], 3),
        "speedups": [
            dict(zip(("aim_above", "gain", "gain_se", "speedup", "speedup_sd"), row, strict=True))
            for row in rows
        ],
        "gain_at_60_percent_time": round(float(gained.mean()), 5) if len(gained) else None,
        "gain_at_60_percent_time_se": round(error(gained), 5) if len(gained) else None,
        "wall_clock_speedups": [
            {
                "precision": run.fitted.record.bundle.default.level,
                "certified": run.ours.certified,
                "accuracy_gain": run.ours.accuracy - run.reference.accuracy,
                "speedup": run.reference.latency.mean_ms / run.ours.latency.mean_ms,
            }
            for run in runs
        ],
        "against_peers": [asdict(item) for item in judged],
        "violations": {
            "splits": sum(g.draws for g in at_size),
            "violated": sum(g.violated for g in at_size),
        },
        "guarantee": [asdict(item) for item in guarantee],
        **overhead,
        "stage_us": round(runs[0].fitted.record.bundle.costs_ms().stage_ms * 1e3, 2),
        "wall_clock_over_simulated": {run.ours.name: round(run.over_simulated, 4) for run in runs},
        "wall_clock_over_simulated_without_drift": {
            run.ours.name: round(run.over_simulated_without_drift, 4) for run in runs
        },
        "fit_seconds": {
            name: round(float(np.mean([r.seconds[name] for r in repetitions])), 3)
            for name in repetitions[0].seconds
        },
        "repetitions": [asdict(r) for r in repetitions],
    }
