"""The report of a suite: rows, curves and figures of repetitions, certificates and real answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.result import method
from benchmarks.selection.answers import TimedAnswers
from benchmarks.selection.compare import Verdict, error, gains, speedups, strongest
from benchmarks.selection.guarantee import Guarantee
from benchmarks.selection.mixes import Point
from benchmarks.selection.repeated import AS_DELIVERED, DELTA, SIMPLE, Repetition
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
        if name not in SIMPLE
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
            str(item.behind),
            yes[item.not_behind],
            yes[item.ahead],
        ]
        if item.levels
        else [item.peer, "0", "reaches none of them in most splits", "", "", "", ""]
        for item in judged
    ]
    print(table(["peer", "levels", "worst level", "all levels", "behind at", "not behind", "ahead"], rows))
    for some in (False, True):
        hardest = strongest([item for item in judged if item.peer.endswith(AS_DELIVERED) == some])
        if hardest is not None:
            lead = plus_minus(hardest.mean, hardest.mean_error)
            print(
                f"Strongest, most accurate at the mean times of all our levels: {hardest.peer}, ours {lead} "
                f"points over its levels, behind at {hardest.behind} of {hardest.levels}."
            )


def print_headlines(
    prepared: Prepared,
    repetitions: Sequence[Repetition],
    runs: Sequence[TimedAnswers],
    guarantee: Sequence[Guarantee],
    *,
    busy: str = "",
) -> None:
    """Print what a suite found in sentences, each figure with its standard error.

    `busy` says why times are not to be compared, where they are not: it comes first.
    """
    if busy:
        print(
            f"\nBUSY: {busy}. Ratios of times below are not those of a quiet machine; run this again on one."
        )
    delivered = float(np.mean([r.named.accuracy for r in repetitions]))
    aims = [
        (f"aiming {offset * 100:g} points higher " if offset else "")
        + f"{plus_minus(gain, gain_se)} points at {ratio:.2f} ± {ratio_se:.2f}× less mean time"
        for offset, gain, gain_se, ratio, ratio_se in speedups(repetitions)
    ]
    print(
        f"\nAgainst {prepared.reference} as delivered ({delivered:.1%} over the splits), aiming at its "
        f"accuracy in cross-validation: {'; '.join(aims)}."
    )
    gained = gains(repetitions)
    if len(gained):
        print(f"Within 60 % of its time: {plus_minus(float(gained.mean()), error(gained))} points.")
    answers = [
        f"{'certified' if run.ours.certified else 'not certified'} "
        f"{run.fitted.record.bundle.default.level:g}: {plus_minus(*run.gain)} points, "
        f"{run.speedup[0]:.2f} ± {run.speedup[1]:.2f}×"
        for run in runs
    ]
    print(f"Real answers: {'; '.join(answers)}.")
    print(f"Wall-clock over simulated time: {', '.join(run.explained for run in runs)}.")
    certify = runs[0].fitted.record.bundle.calibration.certify
    found = violations(guarantee, certify)
    print(
        f"Guarantee: of {found['issued']} certificates issued in {found['draws']} draws of {certify:,} "
        f"certify samples, {found['violated']} were violated."
    )
    seconds = {name: np.mean([r.seconds[name] for r in repetitions]) for name in repetitions[0].seconds}
    print(f"Seconds to fit a split: {', '.join(f'{name} {took:.1f}' for name, took in seconds.items())}.")


@dataclass(frozen=True)
class Target:
    """What a suite is to show."""

    speedup: float  # wall clock, certified, at the accuracy of the delivered model or better
    gain: float  # of accuracy above it, at no more time


def target_rows(
    target: Target,
    repetitions: Sequence[Repetition],
    judged: Sequence[Verdict],
    runs: Sequence[TimedAnswers],
    guarantee: Sequence[Guarantee],
) -> list[tuple[str, str, bool]]:
    """Each target: what is asked, what was found, whether that is enough."""
    certified = [run.speedup[0] for run in runs if run.ours.certified and run.gain[0] >= 0]
    fastest = max(certified, default=0.0)
    gained = gains(repetitions, 1.0)
    gain = float(gained.mean()) if len(gained) else 0.0
    behind = [one.peer for one in judged if not one.not_behind]
    found = violations(guarantee, runs[0].fitted.record.bundle.calibration.certify)
    share = found["violated"] / max(1, found["draws"])
    return [
        (
            f"≥ {target.speedup:g}× at its accuracy, certified, wall clock",
            f"{fastest:.2f}×",
            fastest >= target.speedup,
        ),
        (
            f"≥ {target.gain * 100:+g} points at no more time",
            f"{gain * 100:+.2f}",
            bool(len(gained)) and gain >= target.gain,
        ),
        ("not behind any peer", f"behind {', '.join(behind)}" if behind else "none", not behind),
        (f"violated certificates ≤ {DELTA:.0%} of draws", f"{share:.1%}", share <= DELTA),
    ]


def print_targets(rows: Sequence[tuple[str, str, bool]]) -> None:
    """Print the targets with PASS or NOT."""
    print(table(["target", "found", ""], [[*row[:2], "PASS" if row[2] else "NOT"] for row in rows], "lrl"))


def plus_minus(mean: float, standard_error: float) -> str:
    """A share with its standard error in hundredths, such as ``+0.20 ± 1.12``."""
    return f"{mean * 100:+.2f} ± {standard_error * 100:.2f}"


def violations(guarantee: Sequence[Guarantee], certify: int) -> dict[str, int]:
    """Draws of so many certify samples, certificates issued, and those of them that are not true."""
    rows = [row for row in guarantee if row.samples == certify]
    return {
        "draws": sum(row.draws for row in rows),
        "issued": sum(row.certified for row in rows),
        "violated": sum(row.violated for row in rows),
    }


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
    aimed = next(
        row for row in rows if row[0] == 0.0
    )  # at the delivered model's accuracy, whatever came of it
    gained = gains(repetitions)
    certify = runs[0].fitted.record.bundle.calibration.certify
    hardest = strongest([item for item in judged if not item.peer.endswith(AS_DELIVERED)])
    without = strongest([item for item in judged if item.peer.endswith(AS_DELIVERED)])
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
        "speedup_at_reference_accuracy": round(aimed[3], 3),
        "speedup_at_reference_accuracy_se": round(aimed[4], 3),
        "gain_at_reference_accuracy": round(aimed[1], 5),
        "gain_at_reference_accuracy_se": round(aimed[2], 5),
        "speedups": [
            dict(zip(("aim_above", "gain", "gain_se", "speedup", "speedup_se"), row, strict=True))
            for row in rows
        ],
        "gain_at_60_percent_time": round(float(gained.mean()), 5) if len(gained) else None,
        "gain_at_60_percent_time_se": round(error(gained), 5) if len(gained) else None,
        "wall_clock_speedups": [
            {
                "precision": run.fitted.record.bundle.default.level,
                "certified": run.ours.certified,
                "accuracy_gain": run.gain[0],
                "accuracy_gain_se": run.gain[1],
                "speedup": run.speedup[0],
                "speedup_se": run.speedup[1],
            }
            for run in runs
        ],
        "against_peers": [asdict(item) for item in judged],
        "strongest_peer": None if hardest is None else asdict(hardest),
        "strongest_peer_as_delivered": None if without is None else asdict(without),
        "violations": violations(guarantee, certify),
        "guarantee": [asdict(item) for item in guarantee],
        **overhead,
        "stage_us": round(runs[0].fitted.record.bundle.costs_ms().stage_ms * 1e3, 2),
        "wall_clock_over_simulated": {run.ours.name: round(run.over_simulated, 4) for run in runs},
        "wall_clock_over_simulated_se": {run.ours.name: round(run.over_simulated_error, 4) for run in runs},
        "wall_clock_over_simulated_without_drift": {
            run.ours.name: round(run.over_simulated / run.drift, 4) for run in runs
        },
        "fit_seconds": {
            name: round(float(np.mean([r.seconds[name] for r in repetitions])), 3)
            for name in repetitions[0].seconds
        },
        "repetitions": [asdict(r) for r in repetitions],
    }
