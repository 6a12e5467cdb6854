"""The command ``zoo expand``: the useful versions of one model, made and measured in one go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from selector.commands.completion import either, in_zoo, list_of, one_of
from selector.commands.last_words import command
from selector.commands.options import (
    MY_ZOO,
    DataOption,
    EnvironmentsOption,
    EpochsOption,
    JsonOption,
    SeedOption,
    SkipBadOption,
    ZooOption,
    names_in,
)
from selector.commands.say import say
from selector.commands.tables import table
from training.commands.labelled_images import load_data
from zoo.errors import DataError

if TYPE_CHECKING:
    from training.networks.expand import Expansion
    from training.networks.expansion_plan import Plan


def expand(
    model: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="The float model of the zoo to make versions of.",
            autocompletion=one_of(in_zoo),
        ),
    ],
    data: DataOption,
    zoo: ZooOption = MY_ZOO,
    training: Annotated[
        str,
        typer.Option(
            "--train",
            metavar="DATA",
            help="Other labelled images, to learn from; else versions learn from a share of --data.",
        ),
    ] = "",
    sides: Annotated[
        str,
        typer.Option(
            "--sides",
            help="Lower resolutions to try: shorter sides in pixels, such as 24,20, or none. Default: 3/4 "
            "and 5/8 of the model's.",
        ),
    ] = "",
    students: Annotated[
        str,
        typer.Option(
            "--students",
            help="With --train: sizes of networks that the model teaches.",
            autocompletion=list_of(either("tiny", "small", "medium", "full")),
        ),
    ] = "",
    share: Annotated[
        float | None,
        typer.Option(
            help="Share of the images to learn from; it is remembered: they never judge. Default: what "
            "models of the zoo were trained on, or 0.4; of --train all."
        ),
    ] = None,
    images: Annotated[
        int, typer.Option(min=8, help="Measure value ranges of 8-bit versions on at most so many images.")
    ] = 256,
    judges: Annotated[
        int, typer.Option(min=50, help="Judge on at most so many images of the splits fit and tune.")
    ] = 1_000,
    runs: Annotated[int, typer.Option(min=20, help="Timed runs of each model.")] = 200,
    epochs: EpochsOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be made, and stop.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Make anew what the zoo holds, and replace models of these names."),
    ] = False,
    environments: EnvironmentsOption = "",
    skip_bad: SkipBadOption = False,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Make the useful versions of a model, measure them, and keep those that pay.

    Tried are 8 bits with the calibration that agrees best, lower resolutions, and a last layer fitted to
    the images, each with each. A version pays if no other model of the zoo is right at least as often in no
    more time; what is left out is listed with the reason. Models that were in the zoo before stay.
    Interrupted, the same command continues.
    Examples: zooselect zoo expand resnet56 --data photos --dry-run; zooselect zoo expand resnet56 --data
    photos --train train-photos --students small
    """
    from training.networks.expand import expand as expand_model
    from training.networks.expansion_plan import plan_expansion
    from zoo.inputs.kinds import check_images
    from zoo.models.zoo import Zoo

    target = Zoo.open(zoo)
    check_images(target.kind, "zoo expand")
    target.card(model)  # before the images are read, which may take a while
    plan = plan_expansion(
        target,
        model,
        load_data(data, environments=environments, skip_bad=skip_bad, seed=seed),
        training=load_data(training, environments=environments, skip_bad=skip_bad, seed=seed)
        if training
        else None,
        sides=_parse_sides(sides),
        students=names_in(students),
        share=share,
        seed=seed,
        judges=judges,
        force=force,
    )
    if dry_run:
        _tell_plan(plan, as_json)
        return
    found = expand_model(
        plan,
        images=images,
        epochs=epochs,
        runs=runs,
        force=force,
        tell=lambda words: say(words, err=True),
        progress=not as_json,
    )
    _tell(found, as_json)
    if not as_json:
        say(f"Next: {command('zoo', 'list', zoo=zoo)}")


def _parse_sides(text: str) -> list[int] | None:
    if not text:
        return None
    if text == "none":
        return []
    try:
        return [int(part) for part in names_in(text)]
    except ValueError as error:
        raise DataError(f"--sides: expected whole numbers such as 24,20, or none, got {text!r}.") from error


def _tell_plan(plan: Plan, as_json: bool) -> None:
    import msgspec

    if as_json:
        facts = {
            "variants": plan.variants,
            "learn_from": len(plan.learn),
            "judge_on": len(plan.judges),
        }
        say(msgspec.json.encode(facts).decode())
        return
    rows = [[one.name, "x".join(map(str, one.resolution)), one.how] for one in plan.variants]
    say(table(["model", "input", "made from"], rows, "lrl"))
    say(f"learning from {len(plan.learn):,} images, judged on {len(plan.judges):,} others; nothing was made")


def _tell(found: Expansion, as_json: bool) -> None:
    import msgspec

    from training.networks.expand import MAX_BUSY

    if as_json:
        say(msgspec.json.encode({**msgspec.to_builtins(found), "kept": found.kept}).decode())
        return
    rows = [
        [
            row.name,
            "x".join(map(str, row.resolution)),
            "–" if row.measured is None else f"{row.measured.right / found.judged_on:.1%}",
            "–" if row.measured is None else f"{row.measured.mean_ms:.3f}",
            row.verdict,
            row.reason,
        ]
        for row in found.rows
    ]
    say(table(["model", "input", "right", "mean ms", "", "why"], rows, "lrrrll"))
    say(f"learned from {found.learned_from:,} images, judged on {found.judged_on:,} others")
    if found.interrupted > MAX_BUSY:
        say(
            f"note: other programs interrupted {found.interrupted:.0%} of the timed runs: times are "
            "doubtful. Give more --runs on a quiet machine.",
            err=True,
        )
