"""The command evaluate: what a selector is worth, with export beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selector.commands.last_words import command
from selector.commands.options import (
    MY_FIT,
    MY_PROFILE,
    MY_ZOO,
    TRAINING_PANEL,
    DataOption,
    EnvironmentsOption,
    FitOption,
    JsonOption,
    ProfileOption,
    SeedOption,
    asking_constraint,
)
from selector.commands.say import say, say_prose
from training.commands.export import export
from training.commands.labelled_images import load_data
from training.routing.commands import (
    MeanCostOption,
    QuantileCostOption,
    evaluate_router_fit,
    refuse_costs,
)
from zoo.errors import DataError

if TYPE_CHECKING:
    from training.data.images import LabelledImages

MY_REPORT = Path("my-report.html")


@asking_constraint(mean_cost=MeanCostOption, quantile_cost=QuantileCostOption)
def evaluate(
    fit: FitOption = MY_FIT,
    profile: ProfileOption = MY_PROFILE,
    zoo: Annotated[
        Path | None,
        typer.Option("--zoo", help="Folder of the zoo; checks that its models are those of the profile."),
    ] = None,
    *,
    asked: dict[str, Any],
    bundle: Annotated[
        Path | None,
        typer.Option(help="A bundle to answer the test images with, wall-clock timed; needs --data."),
    ] = None,
    data: DataOption = "",
    environments: EnvironmentsOption = "",
    rounds: Annotated[int, typer.Option(min=1, help="How often each image is timed, with --bundle.")] = 1,
    report: Annotated[Path, typer.Option("--report", help="HTML page to write.")] = MY_REPORT,
    title: Annotated[str, typer.Option("--title", help="Heading of the page.")] = "Zooselect report",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Judge the selector on the test split, which nothing was chosen on: print a table, write a page.

    The page says who answers, what was compared, and whether it pays; it is one file that opens anywhere,
    without a network. Times are added up from the latency table; with --bundle and --data every test image
    is answered through the bundle and through each single model, and the times are real.
    Example: zooselect evaluate --bundle my-bundle --data photos --report my-report.html --title "My camera"
    """
    import msgspec

    from selector.policies.constraint import constraint
    from training.evaluation.evaluate import evaluate as judge
    from training.evaluation.evaluate import other_settings, our_name
    from training.evaluation.wallclock import time_bundle
    from training.fitting.fitted import load_fit
    from training.reports.method_table import table
    from training.reports.page import render
    from training.routing.fitted import is_router_fit
    from zoo.models.zoo import Zoo

    if report.is_dir():  # said before the images are timed, which can take minutes
        raise DataError(
            f"expected a file to write the page to, got the folder {report}. "
            f"Name --report {report / MY_REPORT}."
        )
    if is_router_fit(fit):
        evaluate_router_fit(fit, profile, asked, report=report, title=title, as_json=as_json)
        return
    refuse_costs(asked, profile)
    fitted = load_fit(fit)
    wanted = constraint(**asked) or fitted.record.bundle.default
    images = _images(
        profile,
        bundle,
        data,
        environments=environments,
        only=fitted.record.bundle.calibration.environment,
        seed=seed,
    )
    timed = (
        time_bundle(
            bundle,
            wanted,
            images,
            name=our_name(wanted),
            others=other_settings(fitted, wanted),
            rounds=rounds,
            seed=seed,
            progress=not as_json,
        )
        if bundle is not None and images is not None
        else []
    )
    models = None
    if zoo is not None:
        models = Zoo.open(zoo).only([card.name for card in fitted.record.bundle.models])
    evaluation = judge(fitted, profile, zoo=models, asked=wanted, timed=timed, title=title)
    render(evaluation, report)
    if as_json:
        say(msgspec.json.encode(evaluation).decode())
        return
    say(table(evaluation))
    for note in evaluation.notes:
        say_prose(note)
    unknown = zoo is None and not (MY_ZOO / "zoo.json").is_file()
    where = "ZOO" if unknown else None if zoo == MY_ZOO else zoo
    say(f"Report: {report}. Next: {command('export', fit=None if fit == MY_FIT else fit, zoo=where)}")


def _images(
    profile: Path, bundle: Path | None, data: str, *, environments: str, only: str | None, seed: int
) -> LabelledImages | None:
    """The test images of the profile, of one environment where the selector was fitted for it only."""
    if bundle is None and not data:
        return None
    if bundle is None:
        raise DataError(
            "expected --bundle with --data: the bundle that answers the images, got none. "
            "Make one with 'zooselect export', or leave --data out."
        )
    if not data:
        raise DataError(
            "expected --data with --bundle: the images of the profile, got none. "
            "Give what 'zooselect profile' was given."
        )
    from training.outcomes.parts import read_profile_record
    from training.outcomes.profile import held_out_images

    images = held_out_images(
        profile, load_data(data, environments=environments, seed=seed, kind=read_profile_record(profile).kind)
    )
    if only is None:
        return images
    return images.subset([i for i, name in enumerate(images.environments) if name == only])


def report() -> None:
    """Say which command does now what this one did."""
    say(
        "error: 'zooselect report' is now 'zooselect evaluate', with the same options and --report FILE for "
        "--out FILE.",
        err=True,
    )
    raise typer.Exit(2)


def register(app: typer.Typer) -> None:
    """Add the commands of this file to the command line, and advice for who calls one by its old name."""
    for step in (evaluate, export):
        app.command(rich_help_panel=TRAINING_PANEL)(step)
    anything = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    app.command(hidden=True, context_settings=anything)(report)
