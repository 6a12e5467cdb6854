"""All figures of answers in one run, and their tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.speed.answers import monitor_share, over_bare
from benchmarks.speed.graphs import rewriting
from benchmarks.speed.made_bundles import made_zoo
from benchmarks.speed.many import batch_over_singles, threads_over_one
from selector.commands.tables import table


def measure_answers(work: Path, *, weights: Path | None = None, seed: int = 0) -> dict[str, Any]:
    """Ratios of answers, monitor, batches, threads and graphs, on networks with random weights."""
    zoo = made_zoo(work / "zoo", seed=seed)
    return {
        "over_bare": over_bare(zoo, work, seed=seed),
        "monitor": monitor_share(zoo, work, seed=seed),
        "batch": batch_over_singles(zoo, work, seed=seed),
        "threads": threads_over_one(zoo, seed=seed),
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
            f"{row['monitor_us']:.0f}",
            f"{row['watched_over_predict']:.3f}",
        ]
        for row in figures["monitor"]
    ]
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
            table(["path", "predict µs", "monitor µs", "watched over not"], watched, "lrrr"),
            "",
            table(["model", "time after / before", "off before", "off after"], graphs, "lrrr"),
            "",
            f"predict_batch of {batch['images']} images, {batch['handed_on']:.0%} of them handed on, over "
            f"bare runs one by one: {batch['batch_over_bare']:.3f}",
            f"two models with {threads['threads']} threads over one thread: "
            f"{threads['spinning_over_one']:.2f} with threads that spin on, "
            f"{threads['ours_over_one']:.2f} as they are opened here",
        ]
    )
