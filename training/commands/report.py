"""The command report: what a selector is worth on a user's own zoo, as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selector.commands.options import (
    MY_FIT,
    MY_PROFILE,
    TRAINING_PANEL,
    DataOption,
    EnvironmentsOption,
    FitOption,
    JsonOption,
    ProfileOption,
    SeedOption,
    given,
)
from training.commands.parsing import load_data
from zoo.errors import DataError

if TYPE_CHECKING:
    from selector.policies.constraint import Constraint
    from training.evaluation.records import Evaluation
    from training.fitting.fitted import Fitted

MY_REPORT = Path("my-report.html")
TITLE = "Zooselect report"


def report(
    fit: FitOption = MY_FIT,
    profile: ProfileOption = MY_PROFILE,
    out: Annotated[Path, typer.Option("--out", help="HTML file to write.")] = MY_REPORT,
    title: Annotated[str, typer.Option("--title", help="Heading of the page.")] = TITLE,
    precision: Annotated[
        float | None, typer.Option(help="Precision to answer with. Default: the fitted constraint.")
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Instead: by how much it may lie below the reference model's.")
    ] = None,
    mean_ms: Annotated[
        float | None, typer.Option("--mean-ms", help="Instead: the best answers within this mean time.")
    ] = None,
    p95_ms: Annotated[
        float | None, typer.Option("--p95-ms", help="Instead: with 95 of 100 answers within this time.")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="A bundle to answer the test images with, wall-clock timed; needs --data."),
    ] = None,
    data: DataOption = "",
    environments: EnvironmentsOption = "",
    rounds: Annotated[int, typer.Option(min=1, help="How often each image is timed, with --bundle.")] = 1,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Write a page about a selector: accuracy and time, who answers, what was compared, and whether it pays.

    Everything is judged on the test split, which nothing was chosen on. The page is one file that opens
    anywhere, without a network. Times are added up from the latency table; with --bundle and --data every
    test image is answered through the bundle and through each single model, and the times are real.
    Example: zooselect report --bundle my-bundle --data photos --title "Kitchen camera"
    """
    import json

    from selector.policies.constraint import constraint
    from training.fitting.fitted import load_fit
    from training.reports.page import render

    if out.is_dir():  # said before the images are timed, which can take minutes
        raise DataError(
            f"expected a file to write the page to, got the folder {out}. Name --out {out / MY_REPORT}."
        )
    fitted = load_fit(fit)
    wanted = given(precision=precision, max_drop=max_drop, mean_ms=mean_ms, p95_ms=p95_ms)
    evaluation = judged(
        fitted,
        profile,
        asked=constraint(**wanted),
        bundle=bundle,
        data=data,
        environments=environments,
        title=title,
        rounds=rounds,
        seed=seed,
        progress=not as_json,
    )
    render(evaluation, out)
    ours = evaluation.ours
    assert ours is not None
    if as_json:
        facts = {
            "report": str(out),
            "size_bytes": out.stat().st_size,
            "asked": evaluation.asked,
            "certified": ours.certified,
            "accuracy": round(ours.accuracy, 6),
            "mean_ms": round(ours.mean_ms, 6),
            "p95_ms": round(ours.p95_ms, 6),
            "wall_clock": ours.wall_clock,
            "notes": list(evaluation.notes),
        }
        typer.echo(json.dumps(facts))
        return
    for note in evaluation.notes:
        typer.echo(note)
    typer.echo(f"Report: {out}")


def judged(
    fitted: Fitted,
    profile: Path,
    *,
    asked: Constraint | None = None,
    bundle: Path | None = None,
    data: str = "",
    environments: str = "",
    title: str = TITLE,
    rounds: int = 1,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Evaluate a fitted selector; with `bundle` and `data` through real answers, timed one by one.

    Raises
    ------
    DataError
        When only one of `bundle` and `data` is given, or `data` are not the images of the profile.
    """
    from selector.answering.selector import Selector
    from training.evaluation.evaluate import evaluate, our_name
    from training.evaluation.wallclock import Timed, run_wall_clock, single_models
    from training.outcomes.profile import held_out_images

    wanted = asked or fitted.record.bundle.default
    timed: list[Timed] = []
    if bundle is None and data:
        raise DataError(
            "expected --bundle with --data: the bundle that answers the images, got none. "
            "Make one with 'zooselect export', or leave --data out."
        )
    if bundle is not None:
        if not data:
            raise DataError(
                "expected --data with --bundle: the images of the profile, got none. "
                "Give what 'zooselect profile' was given."
            )
        images = held_out_images(profile, load_data(data, environments=environments, seed=seed))
        environment = fitted.record.bundle.calibration.environment
        if environment is not None:
            images = images.subset([i for i, name in enumerate(images.environments) if name == environment])
        selector = Selector.load(bundle, watch=False)  # single models are not watched either
        timed = run_wall_clock(
            {our_name(wanted): (selector, wanted)},
            images,
            singles=single_models(selector),
            rounds=rounds,
            seed=seed,
            progress=progress,
        )
    return evaluate(fitted, profile, asked=wanted, timed=timed, title=title)


def register(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command(rich_help_panel=TRAINING_PANEL)(report)
