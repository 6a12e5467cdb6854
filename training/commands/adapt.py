"""The command ``zoo adapt``: a child of a model for one environment, that shares nearly all of its bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from selector.commands.completion import ENVIRONMENTS, either, in_zoo, list_of, one_of
from selector.commands.last_words import command
from selector.commands.options import (
    MY_ZOO,
    DataOption,
    EnvironmentsOption,
    EpochsOption,
    JsonOption,
    NameOption,
    SkipBadOption,
    TorchDeviceOption,
    ZooOption,
    names_in,
)
from selector.commands.say import say
from training.commands.adding.added_model import ForceOption
from training.commands.labelled_images import load_data, tell_left_out
from zoo.errors import DataError

if TYPE_CHECKING:
    from training.data.images import LabelledImages
    from training.networks.adapt import Adaptation
    from zoo.models.card import Changed, ModelCard
    from zoo.models.zoo import Zoo


def adapt(
    parent: Annotated[
        str,
        typer.Argument(
            metavar="PARENT", help="The float model of the zoo to adapt.", autocompletion=one_of(in_zoo)
        ),
    ],
    data: DataOption,
    environment: Annotated[
        str,
        typer.Option(
            "--environment",
            help="What the images show, e.g. dark; part of the child's name.",
            autocompletion=one_of(either(*ENVIRONMENTS)),
        ),
    ],
    zoo: ZooOption = MY_ZOO,
    labels_from: Annotated[
        str | None,
        typer.Option(
            "--labels-from",
            help="Right is what this more accurate model of the zoo says; the images need no class folders.",
            autocompletion=one_of(in_zoo),
        ),
    ] = None,
    what: Annotated[
        str,
        typer.Option(
            "--what",
            help="What may change: of normalisation,biases,head. Default: normalisation, and a small head.",
            autocompletion=list_of(either("normalisation", "biases", "head")),
        ),
    ] = "",
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            help="head: fit the last layer anew and nothing else, in seconds; 8-bit models can have it too.",
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Also add the 8-bit version of the child, calibrated on its images."),
    ] = False,
    images: Annotated[
        int, typer.Option("--images", min=2, help="Learn from at most so many images.")
    ] = 20_000,
    share: Annotated[
        float | None,
        typer.Option(
            "--share",
            help="Share of the images to use; the rest may judge. Default: that of the parent, or 0.4.",
        ),
    ] = None,
    epochs: EpochsOption = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Mirror half of the images; wrong for digits and letters.")
    ] = False,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing", help="Go on where some classes have no image; the head then stays as it is."
        ),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Add the child even where it is not better than its parent.")
    ] = False,
    force: ForceOption = False,
    torch_device: TorchDeviceOption = "auto",
    name: NameOption = None,
    environments: EnvironmentsOption = "",
    skip_bad: SkipBadOption = False,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of everything random. Default: the parent's, or 0.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Adapt a model to one environment: train its normalisation and its head on images of it, nothing else.

    The child shares all other bytes with its parent, so a device that has one fetches little for the other.
    A fifth of the images is held out; a child that is not better on them is not added. With --only head the
    parent runs once on each image, and a new last layer is fitted to what goes into it.
    Examples: zooselect zoo adapt resnet56 --data photos-in-the-dark --environment dark --int8; zooselect zoo
    adapt resnet20 --data loose-photos --environment dark --labels-from resnet56 --share 1; zooselect zoo
    adapt resnet20-int8 --data my-photos --environment kitchen --only head
    """
    import msgspec

    from training.networks.adapt import adapt as adapt_model
    from training.networks.refit import refit_head
    from zoo.inputs.kinds import check_images
    from zoo.models.zoo import Zoo

    if only is not None:
        _check_only(only, what=what, int8=int8, epochs=epochs, flip=flip, allow_missing=allow_missing)
    target = Zoo.open(zoo)
    check_images(target.kind, "zoo adapt")
    target.card(parent)  # before the images are read, which may take a while
    given = _images(target, data, labels_from, environments=environments, skip_bad=skip_bad, seed=seed or 0)
    if only is not None:
        made = refit_head(
            target,
            parent,
            given,
            environment,
            labels_from=labels_from,
            name=name,
            share=share,
            seed=seed,
            images=images,
            keep=keep,
            force=force,
            progress=not as_json,
        )
    else:
        made = adapt_model(
            target,
            parent,
            given,
            environment,
            labels_from=labels_from,
            name=name,
            what=_parse_what(what),
            share=share,
            seed=seed,
            images=images,
            epochs=epochs,
            flip=flip,
            torch_device=torch_device,
            allow_missing=allow_missing,
            keep=keep,
            force=force,
            progress=not as_json,
        )
    small = _add_int8(target, made, given, force=force, progress=not as_json) if int8 and made.kept else None
    if as_json:
        figures = {"difference": made.difference._asdict(), "p_value": made.p_value, "int8": small}
        say(msgspec.json.encode({**msgspec.to_builtins(made), **figures}).decode())
    else:
        _tell(made, small, zoo)


def _check_only(only: str, **others: object) -> None:
    if only != "head":
        raise DataError(f"expected --only head, got {only!r}. Leave it out to adapt the normalisation too.")
    given = [f"--{key.replace('_', '-')}" for key, value in others.items() if value]
    if given:
        raise DataError(
            f"expected --only head without {', '.join(given)}: nothing else changes, and the layer is "
            "fitted, not trained. Leave out one of them."
        )


def _parse_what(text: str) -> tuple[Changed, ...] | None:
    """The groups that were named; whether the model has them is checked where they are looked for."""
    return cast("tuple[Changed, ...]", tuple(names_in(text))) or None


def _images(
    zoo: Zoo, spec: str, labels_from: str | None, *, environments: str, skip_bad: bool, seed: int
) -> LabelledImages:
    from training.data.folder import is_loose, loose

    if not is_loose(Path(spec)):
        return load_data(spec, environments=environments, skip_bad=skip_bad, seed=seed)
    if labels_from is None:
        raise DataError(
            f"{spec}: expected a folder for every class, got images without one. Sort them into class "
            "folders, or name a more accurate model of the zoo that says what they show: --labels-from MODEL."
        )
    return tell_left_out(loose(Path(spec), zoo.card(labels_from).classes, skip_bad=skip_bad))


def _add_int8(zoo: Zoo, made: Adaptation, data: LabelledImages, *, force: bool, progress: bool) -> ModelCard:
    from training.networks.adapt import add_adapted_int8

    return add_adapted_int8(zoo, made.card.name, data, force=force, progress=progress)


def _tell(made: Adaptation, small: ModelCard | None, zoo: Path) -> None:
    card = made.card
    assert card.adapted is not None
    changed = " and ".join(card.adapted.changed)
    right = "agrees with the labelling model" if card.adapted.labels != "given" else "is right"
    say(
        f"{card.name}: {right} on {made.after:.1%} of {made.held_out:,} held-out images, its parent on "
        f"{made.before:.1%}; alone right {made.better} and {made.worse} times (p = {made.p_value:.2g})."
    )
    say(
        f"Changed: {changed}, {card.adapted.changed_bytes:,} bytes, "
        f"{made.difference.share:.2%} of the weights."
    )
    if made.missing:
        say(
            f"Without an image: {', '.join(made.missing[:8])}{' …' if made.missing[8:] else ''}; "
            "nothing was learned about them."
        )
    if "biases" in card.adapted.changed:
        say("The parent's normalisation is folded into its convolutions; their biases took its place.")
    if small is not None:
        assert small.adapted is not None
        say(f"{small.name}: differs from {small.adapted.parent} in {small.adapted.changed_bytes:,} bytes.")
    if made.kept:
        say(f"Next: {command('zoo', 'list', zoo=zoo)}")
    else:
        say(
            "Not added: on these images it is not better than its parent by more than chance explains. "
            "Give more images or --epochs, or add it all the same with --keep."
        )
