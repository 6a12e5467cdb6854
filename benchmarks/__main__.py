"""``python -m benchmarks SUITE``: figures on real data, as a table, a JSON line and a result file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from zoo.errors import ZooError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Benchmarks on real data. Each prints a table and then one JSON line, and writes a result file.",
)

ResultsOption = Annotated[Path, typer.Option(help="Folder for result files and reports.")]
SeedOption = Annotated[int, typer.Option(help="Seed of splits, orders and estimators.")]


@app.command()
def cifar10(
    data: Annotated[Path, typer.Option(help="Folder with cifar10-test.zip and cifar10-train.zip.")],
    weights: Annotated[Path, typer.Option(help="Folder with cifar10-resnet{20,32,44,56}.npz.")],
    work: Annotated[Path, typer.Option(help="Folder for zoo, profile and bundles; reused.")] = Path(
        "results/cifar10"
    ),
    precision: Annotated[list[float] | None, typer.Option(help="Precision level; may be repeated.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each test image is answered.")] = 2,
    seed: SeedOption = 0,
    results: ResultsOption = Path("results"),
) -> None:
    """Four third-party CIFAR ResNets on JPEG images, float alone and with int8, wall-clock."""
    from benchmarks.cifar import PRECISIONS, run_cifar10

    run_cifar10(
        data, weights, work, precisions=precision or PRECISIONS, rounds=rounds, seed=seed, results=results
    )


@app.command()
def speed(
    data: Annotated[
        Path | None, typer.Option(help="Folder with the CIFAR-10 archives, for 32x32; as for cifar10.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Folder with cifar10-resnet{20,32,44,56}.npz, for --data.")
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of class folders of ImageNet photographs, for 224x224.")
    ] = None,
    wnids: Annotated[
        Path | None, typer.Option(help="File with the 1000 class names in index order, for --photos.")
    ] = None,
    seed: SeedOption = 0,
    results: ResultsOption = Path("results"),
) -> None:
    """The selector's own time per image, parity with torch and scikit-learn, and profiling throughput."""
    from benchmarks.speed import run_speed

    run_speed(cifar=data, weights=weights, photos=photos, wnids=wnids, seed=seed, results=results)


if __name__ == "__main__":
    try:
        app()
    except ZooError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
