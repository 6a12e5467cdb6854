"""The commands ``zoo list``, ``zoo rename`` and ``zoo remove``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from selector.commands.completion import in_zoo, one_of
from selector.commands.options import MY_ZOO, JsonOption, ZooOption
from selector.commands.say import say
from selector.commands.tables import table

if TYPE_CHECKING:
    from zoo.models.card import ModelCard


def list_models(zoo: ZooOption = MY_ZOO, as_json: JsonOption = False) -> None:
    """List the models of the zoo: size, cost, classes, and what each was made from.

    Example: zooselect zoo list --zoo my-zoo --json
    """
    import msgspec

    from zoo.models.zoo import Zoo

    cards = Zoo.open(zoo).cards
    if as_json:
        say(msgspec.json.encode(cards).decode())
        return
    rows = [
        [
            card.name,
            "x".join(map(str, card.resolution)),
            f"{card.macs / 1e6:.2f}",
            f"{card.parameters:,}",
            f"{card.size_bytes / 1e6:.2f}",
            str(len(card.classes)),
            _made(card),
        ]
        for card in cards
    ]
    heads = ["model", "input", "million MACs", "parameters", "MB", "classes", "made from"]
    say(table(heads, rows, "lrrrrrl"))


def rename(
    old: Annotated[
        str, typer.Argument(metavar="OLD", help="Name of a model of the zoo.", autocompletion=one_of(in_zoo))
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")],
    zoo: ZooOption = MY_ZOO,
    as_json: JsonOption = False,
) -> None:
    """Give a model of the zoo another name; the models that were made from it name it anew.

    Profiles, latency tables and selectors know the old name and have to be made again.
    Example: zooselect zoo rename resnet56 large --zoo my-zoo
    """
    import msgspec

    from zoo.models.zoo import Zoo

    card = Zoo.open(zoo).rename(old, new)
    if as_json:
        say(msgspec.json.encode(card).decode())
        return
    say(f"{old} is called {new} now. Make profiles and selectors that name it again.")


def remove(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The model of the zoo to remove.", autocompletion=one_of(in_zoo)),
    ],
    zoo: ZooOption = MY_ZOO,
    as_json: JsonOption = False,
) -> None:
    """Remove a model and its file from the zoo. The models that were made from it stay.

    Profiles and selectors made with it have to be made again.
    Example: zooselect zoo remove resnet56 --zoo my-zoo
    """
    import msgspec

    from zoo.models.zoo import Zoo

    opened = Zoo.open(zoo)
    opened.remove(name)
    children = opened.children(name)
    if as_json:
        say(msgspec.json.encode({"removed": name, "children": children}).decode())
        return
    say(f"{name} is removed. Make profiles and selectors that name it again.")
    if children:
        say(f"Made from it, and still in the zoo: {', '.join(children)}.")


def _made(card: ModelCard) -> str:
    """What a model was made from, and the environment that it was adapted to."""
    if card.parent is None:
        return card.source
    how: list[str] = [card.compression] if card.compression != "none" else []
    how += [f"adapted to {card.adapted.environment}"] if card.adapted is not None else []
    how += [f"its tail on {card.remote.address}"] if card.remote is not None else []
    return ", ".join([card.parent, *how])
