"""The option ``--check`` of ``zoo add``: some images say at once whether a model was added wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from selector.commands.say import say
from selector.commands.tables import table
from training.commands.labelled_images import load_data

if TYPE_CHECKING:
    from training.data.images import LabelledImages
    from training.outcomes.check import ModelCheck, Source
    from zoo.inputs.kind import InputKind
    from zoo.models.card import ModelCard
    from zoo.models.zoo import Zoo

_SHOWN = 4  # alternatives
_SHOWN_CLASSES = 8

CheckOption = Annotated[
    str,
    typer.Option(
        "--check",
        metavar="DATA",
        help="Labelled images, as for --data: see how often the model is right on some of them, and whether "
        "other channels, means, pixel ranges or orders of the classes fit better.",
    ),
]


def check_images(check: str, kind: InputKind | None = None) -> LabelledImages | None:
    """The images to check with, before the model is made: a wrong path costs no time then."""
    return load_data(check, kind=kind) if check else None


def check_added(
    zoo: Zoo, card: ModelCard, data: LabelledImages, *, source: Source, as_json: bool
) -> dict[str, object]:
    """Say how often the model is right on the images, and what it may be instead; for programs, a record."""
    import msgspec

    from training.outcomes.check import check_model

    found = check_model(zoo, card.name, data, source=source, progress=not as_json)
    if not as_json:
        _show(found)
    record: dict[str, object] = msgspec.to_builtins(found)
    return {**record, "near_chance": found.near_chance, "better": [one.what for one in found.better]}


def _show(found: ModelCheck) -> None:
    say(
        f"{found.model}: right on {found.accuracy:.1%} ({found.low:.1%} to {found.high:.1%}) of "
        f"{found.images} images of the split 'fit'; the answer {found.commonest!r} alone on "
        f"{found.chance:.1%}."
    )
    if found.better:
        rows = [[one.what, f"{one.accuracy:.1%}", f"{one.p_value:.2g}"] for one in found.better[:_SHOWN]]
        say(table(["instead", "right", "p-value"], rows, align="lrr"))
        say(f"on the {found.images // 2} images that decided nothing")
        best = found.better[0]
        how = f"with {best.options}" if best.options else f"with other --classes: {best.what}"
        if best.classes:
            more = ", …" if best.classes[_SHOWN_CLASSES:] else ""
            how += f" ({', '.join(best.classes[:_SHOWN_CLASSES])}{more})"
        say(f"warning: {found.model} may have been added wrongly. Add it again {how} and --force.", err=True)
    elif found.near_chance:
        say(
            f"warning: {found.model} is no better than always answering {found.commonest!r}, and no usual "
            "alternative is. Check its weights, its class names and what its images have to look like.",
            err=True,
        )
