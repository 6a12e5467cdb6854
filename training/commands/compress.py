"""The command ``zoo compress``: a smaller model out of one of the zoo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from selector.commands.completion import in_zoo, one_of
from selector.commands.options import (
    MY_ZOO,
    DataOption,
    EnvironmentsOption,
    JsonOption,
    NameOption,
    SeedOption,
    ZooOption,
)
from selector.commands.say import say
from selector.commands.tables import table
from training.commands.adding.added_model import EmbeddingOption, ForceOption, tell
from training.commands.labelled_images import load_data

if TYPE_CHECKING:
    from zoo.convert.int8.calibration import Quantised


def compress(
    model: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="The model of the zoo to make smaller.", autocompletion=one_of(in_zoo)
        ),
    ],
    data: DataOption,
    zoo: ZooOption = MY_ZOO,
    method: Annotated[
        Literal["int8", "distill"],
        typer.Option(
            help="int8: 8-bit integer weights and activations, no training; distill: the model teaches a "
            "narrower network."
        ),
    ] = "int8",
    images: Annotated[
        int,
        typer.Option(
            min=8, help="int8: measure value ranges on at most so many images; up to as many others compare."
        ),
    ] = 256,
    student: Annotated[
        Literal["tiny", "small", "medium", "full"],
        typer.Option(help="distill: size of the narrower network."),
    ] = "small",
    share: Annotated[
        float | None,
        typer.Option(
            help="Share of the images to use; it is remembered: they never judge the model. Default: what "
            "models of the zoo were trained on, or 0.4."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="distill: passes over the images. Default: what suits the data.")
    ] = None,
    name: NameOption = None,
    embedding: EmbeddingOption = False,
    force: ForceOption = False,
    environments: EnvironmentsOption = "",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Make a smaller, faster model out of one of the zoo; both stay in it, and the selector chooses.

    The images should be like those of the device. A share of them is used and remembered, and never judges
    the model; where models of the zoo were trained on the same data, it is their training images. An 8-bit
    version that answers otherwise than its parent is not added, unless --force is given.
    Examples: zooselect zoo compress resnet56 --data photos/train --method int8; zooselect zoo compress
    resnet56 --data photos/train --method distill --student small --share 1
    """
    from zoo.inputs.kinds import check_images
    from zoo.models.zoo import Zoo

    target = Zoo.open(zoo)
    target.card(model)  # before the images are read, which may take a while
    if method == "distill":
        check_images(target.kind, "zoo compress --method distill")
        from training.networks.distill import distill

        card = distill(
            target,
            model,
            load_data(data, environments=environments, seed=seed),
            student=student,
            name=name,
            share=share,
            epochs=epochs,
            force=force,
            embedding=embedding,
            progress=not as_json,
        )
        tell(card, zoo, as_json)
        return
    from training.data.seen import remember
    from training.networks.calibration_images import calibration_part, read_some
    from zoo.convert.int8.add_int8 import add_int8

    whole = load_data(data, environments=environments, seed=seed, kind=target.kind)
    part, images_of_it = calibration_part(target, whole, share=share, seed=seed)
    remember(target, part, whole)
    ranges, held_out = read_some(images_of_it, images, seed=part.seed, progress=not as_json)
    say(f"Quantising {model} on {len(ranges)} {target.kind.noun}s.", err=True)
    card = add_int8(
        target,
        model,
        ranges,
        held_out=held_out,
        calibrated_on=part,
        name=name,
        force=force,
        embedding=embedding,
        tell=_show_trials,
        progress=not as_json,
    )
    if part not in card.learned_from:
        say(
            f"note: {card.name} remembers the images that {model} was trained on, and not these ones: "
            "profile it on other images.",
            err=True,
        )
    tell(card, zoo, as_json)


def _show_trials(found: Quantised) -> None:
    """What was tried and what came of it, on standard error: it is told before a refusal, too."""
    rows = [[str(trial.calibration), f"{trial.agreement:.1%}"] for trial in found.trials]
    say(table(["calibration", "parent's class"], rows), err=True)
    which = "other images" if found.apart else "of the same images: there are too few to hold some out"
    say(f"on {found.held_out} {which}", err=True)
