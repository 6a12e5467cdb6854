"""What several training commands make of their options, and say at their end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from zoo.errors import DataError

if TYPE_CHECKING:
    from training.data.images import LabelledImages
    from zoo.models.card import ModelCard


def load_data(spec: str, *, environments: str = "", skip_bad: bool = False, seed: int = 0) -> LabelledImages:
    """The labelled images that a command line names, under the environments that it names."""
    from training.data.environments import ENVIRONMENTS, under_environments
    from training.data.sources import load

    if spec == "digits" or not skip_bad:
        data = load(spec)
    else:
        data = load(spec, skip_bad=True)
        if data.skipped:
            typer.echo(
                f"{len(data.skipped)} images could not be read and were left out: "
                f"{', '.join(data.skipped[:3])}{' …' if len(data.skipped) > 3 else ''}",
                err=True,
            )
    if not environments:
        return data
    names = list(ENVIRONMENTS) if environments == "all" else environments.split(",")
    return under_environments(data, [name.strip() for name in names], seed=seed)


def parse_splits(text: str) -> dict[str, float]:
    """Shares such as ``fit=0.5,tune=0.1,certify=0.2,test=0.2`` as a dictionary.

    Raises
    ------
    DataError
        When `text` is not of that form.
    """
    shares: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        expected = f"expected shares such as fit=0.5,tune=0.1,certify=0.2,test=0.2, got {part!r}."
        if name.strip() not in ("fit", "tune", "certify", "test"):
            raise DataError(expected)
        try:
            shares[name.strip()] = float(value)
        except ValueError:
            raise DataError(expected) from None
    return shares


def tell(card: ModelCard, zoo: Path, as_json: bool) -> None:
    """Say what was added to the zoo, and what comes next."""
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(card).decode())
        return
    typer.echo(
        f"{card.name}: {card.parameters:,} parameters, {card.macs / 1e6:.2f} million multiply-accumulates, "
        f"{card.size_bytes / 1e6:.2f} MB, {len(card.classes)} classes."
    )
    typer.echo(f"Next: zooselect zoo list --zoo {zoo}")
