"""Options that several suites have."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from selector.commands.options import Command, with_options
from selector.commands.say import say

_FOLDER = os.environ.get("ZOOSELECT_DATA")
DATA = Path(_FOLDER) if _FOLDER else None
WORK = Path("results/work")

ResultsOption = Annotated[Path, typer.Option(help="Folder for result files and reports.")]
SeedOption = Annotated[int, typer.Option(help="Seed of splits, orders and estimators.")]
DataOption = Annotated[
    Path | None,
    typer.Option(
        help="cifar10-{test,train}.zip, imagenet-600.zip, imagenet-wnids.txt, magika.zip lie there."
    ),
]
WeightsOption = Annotated[Path | None, typer.Option(help="Folder with cifar10-resnet{20,32,44,56}.npz.")]
WorkOption = Annotated[Path, typer.Option(help="Folder for zoos, profiles and bundles; reused.")]


@dataclass(frozen=True)
class Given:
    """Where real data and weights lie, and where to work."""

    work: Path
    # cifar10-{test,train}.zip, imagenet-600.zip, imagenet-wnids.txt, magika.zip, or unpacked
    data: Path | None = None
    weights: Path | None = None  # cifar10-resnet{20,32,44,56}.npz
    seed: int = 0


def on_data(command: Command) -> Command:
    """Decorate a suite: it has the options of data, weights, work and seed in place of `given`."""
    options = {"data": DataOption, "weights": WeightsOption, "work": WorkOption, "seed": SeedOption}
    defaults = {"data": DATA, "weights": DATA, "work": WORK, "seed": 0}
    return with_options(options, Given, command, into="given", defaults=defaults)


def named(what: str, text: str, known: Collection[str]) -> list[str]:
    """Names separated by commas, all of them known."""
    chosen = [part.strip() for part in text.split(",") if part.strip()]
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        say(f"error: expected {what} among {', '.join(known)}, got {', '.join(unknown)}.", err=True)
        raise typer.Exit(1)
    return chosen
