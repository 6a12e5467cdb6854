"""The report of a suite: rows, curves and figures of repetitions, certificates and real answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.result import method
from benchmarks.selection.answers import TimedAnswers
from benchmarks.selection.compare import Verdict, error, gains, speedups
from benchmarks.selection.guarantee import Guarantee
from benchmarks.selection.repeated import Point, Repetition
from benchmarks.selection.zoos import Prepared
from selector.commands.tables import table
from training.evaluation.records import Evaluation, FrontierCurve, GuaranteeRow, MethodRow


def summary(
    prepared: Prepared,
    repetitions: Sequence[Repetition],
    runs: Sequence[TimedAnswers],
    guarantee: Sequence[Guarantee],
) -> Evaluation:
    """One evaluation of all repetitions and real answers, for the report."""
    best = next((run for run in reversed(runs) if run.ours.certified), runs[0])
    asked = best.fitted.record.bundle.default.level
    singles = [row for row in best.evaluation.rows if row.kind == "single"]
    ours = [run.evaluation.ours for run in runs]
    middle = len(repetitions[0].levels) // 2
    peers = [
        _mean_row(name, [points[middle] for points in (r.peers[name] for r in repetitions)])
        for name in repetitions[0].peers
        if name not in ("oracle", "always-largest", "single")
    ]
    level = next((g.precision for g in guarantee if g.below_best >= 0.02), None)
    return Evaluation(
        title=prepared.title,
        subtitle=f"{len(best.ours.right):,} test images nobody looked at before; "
        f"curves and peers: mean of {len(repetitions)} splits, all times from the latency table",
        asked_precision=asked,
        rows=[
            *singles,
            *(row for row in ours if row is not None),
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
                ", ".join(run.explained for run in runs),
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
        mix_kind=best.evaluation.mix_kind,
        asked_level=best.evaluation.asked_level,
        as_good=best.evaluation.as_good,
        busy=best.evaluation.busy,
        finding=best.evaluation.finding,
        breakdown=best.evaluation.breakdown,
    )


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


def print_verdicts(judged: Sequence[Verdict]) -> None:
    """Print ours against each peer."""
    print(
        "\nours minus each peer at the same mean time, points of accuracy: mean over splits ± standard error,"
        "\ncorrected for samples that splits share (uncorrected in brackets)"
    )
    yes = ["no", "yes"]
    rows = [
        [
            item.peer,
            str(item.levels),
            f"{item.worst * 100:+.2f} ± {item.worst_error * 100:.2f} ({item.worst_naive * 100:.2f})",
            f"{item.mean * 100:+.2f} ± {item.mean_error * 100:.2f} ({item.mean_naive * 100:.2f})",
            yes[item.not_behind],
            yes[item.ahead],
        ]
        if item.levels
        else [item.peer, "0", "reaches none of them in most splits", "", "", ""]
        for item in judged
    ]
    print(table(["peer", "levels", "worst level", "all levels", "not behind", "ahead"], rows))


def figures(
    prepared: Prepared,
    repetitions: Sequence[Repetition],
    judged: Sequence[Verdict],
    runs: Sequence[TimedAnswers],
    guarantee: Sequence[Guarantee],
    overhead: dict[str, Any],
    evaluation: Evaluation,
) -> dict[str, Any]:
    """What the JSON line and the result file hold."""
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
        "methods": [
            *(method(run.row) for run in runs),
            *(method(row) for row in evaluation.rows if row.kind != "ours"),
        ],
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
            run.ours.name: round(run.over_simulated / run.drift, 4) for run in runs
        },
        "fit_seconds": {
            name: round(float(np.mean([r.seconds[name] for r in repetitions])), 3)
            for name in repetitions[0].seconds
        },
        "repetitions": [asdict(r) for r in repetitions],
    }
