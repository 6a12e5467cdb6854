"""What is said about a model that a command added to the zoo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selector.commands.last_words import command
from selector.commands.say import say

if TYPE_CHECKING:
    from zoo.models.card import ModelCard


ForceOption = Annotated[bool, typer.Option("--force", help="Replace a different model of the same name.")]
EmbeddingOption = Annotated[
    bool,
    typer.Option(
        "--embedding",
        help="Also give what goes into the last layer: fit can then refit that layer to your images.",
    ),
]


def tell(card: ModelCard, zoo: Path, as_json: bool, *, check: dict[str, object] | None = None) -> None:
    """Say what was added to the zoo, and what comes next; for programs, with what a check found."""
    if as_json:
        import msgspec

        facts = card if check is None else {**msgspec.to_builtins(card), "check": check}
        say(msgspec.json.encode(facts).decode())
        return
    _warn_of_classes(card, zoo)
    if card.remote is not None:
        far = card.remote
        say(
            f"{card.name}: {far.model} on {far.address}, {far.uplink_bytes:,} bytes up and "
            f"{far.downlink_bytes:,} down for one {card.kind.noun}, {len(card.classes)} classes."
        )
        say(f"Next: {command('zoo', 'list', zoo=zoo)}")
        return
    say(
        f"{card.name}: {card.parameters:,} parameters, {card.macs / 1e6:.2f} million multiply-accumulates, "
        f"{card.size_bytes / 1e6:.2f} MB, {len(card.classes)} classes."
    )
    say(f"Next: {command('zoo', 'list', zoo=zoo)}")


def _warn_of_classes(card: ModelCard, zoo: Path) -> None:
    """Say where a model answers with other classes than the first of the zoo: nothing is fitted to both."""
    from zoo.errors import ClassMismatchError
    from zoo.models.card import check_same_classes
    from zoo.models.zoo import Zoo

    try:
        check_same_classes((Zoo.open(zoo).cards[0], card))
    except ClassMismatchError as error:
        say(f"warning: {error}", err=True)
