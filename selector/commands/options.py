"""Arguments and options that several commands have, so that they read and behave the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEVICE_PANEL = "On the device"
TRAINING_PANEL = "Making a selector"

BundleArgument = Annotated[Path, typer.Argument(help="Folder of a bundle, made by 'zooselect export'.")]
ImagesArgument = Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")]
PrecisionOption = Annotated[
    float | None,
    typer.Option(help="Required probability of a right answer, in (0, 1). Default: the bundle's own."),
]
MaxDropOption = Annotated[
    float | None, typer.Option(help="Instead: by how much it may lie below the reference model's.")
]
MeanOption = Annotated[
    float | None, typer.Option("--mean-ms", help="Instead: the most accurate answers within this mean time.")
]
P95Option = Annotated[
    float | None, typer.Option("--p95-ms", help="Instead: with 95 of 100 answers within this time.")
]
EnvironmentOption = Annotated[
    str | None, typer.Option(help="Where the images were taken: use the certificates of that environment.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for another program instead of text.")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="Threads of one inference.")]
SkipBadOption = Annotated[bool, typer.Option(help="Leave unreadable images out and count them.")]
WatchOption = Annotated[
    bool, typer.Option(help="Notice images that are unlike those of the calibration, and say so.")
]
CertifiedOption = Annotated[
    bool, typer.Option("--require-certified", help="Exit with code 3 where an answer is not certified.")
]

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
NameOption = Annotated[
    str | None, typer.Option("--name", help="What the zoo calls the model. Default: after its origin.")
]

MY_ZOO = Path("my-zoo")
MY_PROFILE = Path("my-profile")
MY_FIT = Path("my-selector")
MY_BUNDLE = Path("my-bundle")
THIS_MACHINE = MY_PROFILE / "latency" / "this-machine.json"


def given(**values: float | None) -> dict[str, float]:
    """Only the options that were given."""
    return {name: value for name, value in values.items() if value is not None}
