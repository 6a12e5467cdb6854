"""Options that several commands share, so that they read and behave the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.errors import DataError

if TYPE_CHECKING:
    from training.data import LabelledImages
    from zoo.card import ModelCard

TRAINING_PANEL = "Making a selector"

ZooOption = Annotated[Path, typer.Option("--zoo", help="Folder of the zoo.")]
ProfileOption = Annotated[Path, typer.Option("--profile", help="Folder of the profile.")]
FitOption = Annotated[Path, typer.Option("--fit", help="Folder of the fitted selector.")]
DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        help="'digits', a folder of class folders, or a torchvision name such as cifar10 or cifar10:test.",
    ),
]
EnvironmentsOption = Annotated[
    str,
    typer.Option(
        "--environments",
        help="Show every image under these conditions: 'all', or names such as clear,dark,noise,blur,"
        "occlusion,rotation,jpeg. Default: as it is.",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Leave unreadable images out and count them.")
]
NameOption = Annotated[
    str | None, typer.Option("--name", help="What the zoo calls the model. Default: after its origin.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for another program instead of text.")]

MY_ZOO = Path("my-zoo")
MY_PROFILE = Path("my-profile")
MY_FIT = Path("my-selector")
MY_BUNDLE = Path("my-bundle")
THIS_MACHINE = MY_PROFILE / "latency" / "this-machine.json"


def load_data(spec: str, *, environments: str = "", skip_bad: bool = False, seed: int = 0) -> LabelledImages:
    """The labelled images that a command line names, under the environments that it names."""
    from training.data import load
    from training.environments import ENVIRONMENTS, under_environments

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


def given(**values: float | None) -> dict[str, float]:
    """Only the options that were given."""
    return {name: value for name, value in values.items() if value is not None}


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
