"""All figures of answers in one run, and their tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.speed.answers import monitor_share, over_bare
from benchmarks.speed.graphs import rewriting
from benchmarks.speed.made_bundles import made_zoo
from benchmarks.speed.many import batch_over_singles, threads_over_one
from benchmarks.speed.profiling import profile_on_cores
from selector.commands.tables import table

_MOST_OVER_BARE = ((300.0, 1.05), (30.0, 1.2))  # from so many microseconds of bare runs on
_MOST_MONITOR = 0.03
_MOST_BATCH = 0.92
_LEAST_TWO_CORES, _LEAST_PROFILE = 1.7, 0.95


def measure_answers(work: Path, *, weights: Path | None = None, seed: int = 0) -> dict[str, Any]:
    """Ratios of answers, monitor, batches, threads and graphs, on networks with random weights."""
    zoo = made_zoo(work / "zoo", seed=seed)
    return {
        "over_bare": over_bare(zoo, work, seed=seed),
        "monitor": monitor_share(zoo, work, seed=seed),
        "batch": batch_over_singles(zoo, work, seed=seed),
        "threads": threads_over_one(zoo, seed=seed),
        "profile": profile_on_cores(zoo, seed=seed),
        "graphs": rewriting(weights, seed=seed),
    }


def shown_answers(figures: dict[str, Any]) -> str:
    """The tables of :func:`measure_answers`."""
    answers = [
        [row["policy"], " → ".join(row["path"]), f"{row['bare_us']:.0f}", f"{row['predict_over_bare']:.2f}"]
        for row in figures["over_bare"]
    ]
    watched = [
        [
            " → ".join(row["path"]),
            f"{row['predict_us']:.0f}",
            f"{row['thread_us']:.0f}",
            f"{row['thread_share']:.1%}",
            f"{row['all_us']:.0f}",
            f"{row['all_share']:.1%}",
            f"{row['wall_share']:.1%}",
        ]
        for row in figures["monitor"]
    ]
    heads = ["path", "predict µs", "monitor µs", "share", "with its thread µs", "share", "share by the wall"]
    graphs = [
        [
            row["model"],
            f"{row['after_over_before']:.3f}",
            f"{row['mean_difference_before']:.2g}",
            f"{row['mean_difference_after']:.2g}",
        ]
        for row in figures["graphs"]
    ]
    batch, threads = figures["batch"], figures["threads"]
    return "\n".join(
        [
            table(["policy", "path", "bare µs", "predict over bare"], answers, "llrr"),
            "",
            table(heads, watched),
            "",
            table(["model", "time after / before", "off before", "off after"], graphs, "lrrr"),
            "",
            f"predict_batch of {batch['images']} images, {batch['handed_on']:.0%} of them handed on, over "
            f"bare runs one by one: {batch['batch_over_bare']:.3f}",
            f"two models with {threads['threads']} threads over one thread: "
            f"{threads['spinning_over_one']:.2f} with threads that spin on, "
            f"{threads['ours_over_one']:.2f} as they are opened here",
            "",
            table(["target", "", "got", ""], targets(figures), "lrrl"),
        ]
    )


def targets(figures: dict[str, Any]) -> list[list[str]]:
    """What there is to reach, how much, what was measured, and whether that is enough."""
    rows = []
    for row in figures["over_bare"]:
        most = next((most for least_us, most in _MOST_OVER_BARE if row["bare_us"] >= least_us), None)
        if most is not None:
            what = f"predict over bare runs, {row['policy']}, {' → '.join(row['path'])}"
            rows.append(_judged(what, row["predict_over_bare"], most))
    whole = figures["monitor"]
    mean = sum(row["thread_us"] for row in whole) / sum(row["predict_us"] for row in whole)
    rows.append(_judged("monitor over the mean answer, on its thread", mean, _MOST_MONITOR))
    mean = sum(row["all_us"] for row in whole) / sum(row["predict_us"] for row in whole)
    rows.append(_judged("monitor over the mean answer, all of it", mean, _MOST_MONITOR))
    rows.append(_judged("predict_batch over bare runs", figures["batch"]["batch_over_bare"], _MOST_BATCH))
    profiled = figures["profile"]
    if profiled["two_over_one"] is not None:
        rows.append(_judged("profile, two cores over one", profiled["two_over_one"], -_LEAST_TWO_CORES))
        rows.append(_judged("profile over bare runs, two cores", profiled["over_bare"], -_LEAST_PROFILE))
    return rows


def _judged(what: str, got: float, bound: float) -> list[str]:
    """A row; a bound below zero is, without its sign, the least that is enough."""
    enough = got <= bound if bound > 0 else got >= -bound
    sign = "≤" if bound > 0 else "≥"
    return [what, f"{sign} {abs(bound):.2f}", f"{got:.3f}", "PASS" if enough else "NOT"]
