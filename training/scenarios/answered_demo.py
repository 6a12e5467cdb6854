"""The end of a demo: the bundle, its answers to the test split, timed, and the report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from training.data.images import LabelledImages
from training.evaluation.evaluate import evaluate, other_settings, our_name
from training.evaluation.records import Evaluation
from training.evaluation.wallclock import time_bundle
from training.fitting.export import check_bundle, export_bundle
from training.fitting.fitted import Fitted
from training.reports.page import render
from zoo.models.zoo import Zoo


@dataclass(frozen=True)
class DemoResult:
    """What the demo made, and how long each step took."""

    evaluation: Evaluation
    report: Path
    bundle: Path
    seconds: dict[str, float]  # step → time


def answered_demo(
    root: Path,
    zoo: Zoo,
    fitted: Fitted,
    test: LabelledImages,
    *,
    noun: str,
    title: str,
    next_commands: list[str],
    clock: Callable[[str], AbstractContextManager[None]],
    seconds: dict[str, float],
    rounds: int,
    seed: int,
    progress: bool,
) -> DemoResult:
    """Export the bundle of a demo, answer its test split, timed, and write the report."""
    asked = fitted.record.bundle.default
    bundle = root / "bundle"
    with clock("export and check the bundle"):
        export_bundle(fitted, zoo, bundle)
        check_bundle(bundle, fitted, [test.image(i) for i in range(min(len(test), 200))], zoo)
    with clock(f"answer the test {noun}s through the bundle, timed"):
        answered = time_bundle(
            bundle,
            asked,
            test,
            name=our_name(asked),
            others=other_settings(fitted, asked),
            rounds=rounds,
            seed=seed,
            progress=progress,
        )
    report = root / "report.html"
    with clock("report"):
        evaluation = evaluate(
            fitted,
            root / "profile",
            zoo=zoo,
            timed=answered,
            title=title,
            next_commands=next_commands,
        )
        render(evaluation, report)
    return DemoResult(evaluation, report, bundle, seconds)
