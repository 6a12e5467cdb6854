"""The command ``zooselect``: what a device needs is here, the other packages add theirs as plug-ins.

A package adds commands through an entry point of the group ``zooselect.commands``: a function that takes the
Typer application. Exit codes: 0 success, 1 bad input (the message says what to do), 2 wrong usage, 3 the
asked precision is not certified where that was required, 130 interrupted.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from typer.core import TyperGroup

from zoo.errors import DataError, ImageError, ZooError

UNCERTIFIED = 3
INTERRUPTED = 130
GROUP = "zooselect.commands"
DEVICE_PANEL = "On the device"
COMMANDS = ("device", "plan")  # modules of selector.commands

_ORDER = (
    "demo",
    "zoo",
    "profile",
    "bench",
    "fit",
    "evaluate",
    "report",
    "export",
    "select",
    "predict",
    "publish",
    "plan",
    "serve",
    "device",
)


class _InWorkingOrder(TyperGroup):
    """Lists the commands in the order in which they are used, whichever package adds them."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # here, because Typer would end without a word
            typer.echo("interrupted; finished work is kept, the same command continues.", err=True)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="zooselect",
    cls=_InWorkingOrder,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Pick, for every input, the cheapest neural network that is still precise enough.\n\n"
    "See it work in two minutes: **zooselect demo**. With your own images and models, the steps are "
    "**zoo add** (or **zoo train**) → **profile** → **bench** → **fit** → **evaluate** → **export** → "
    "**predict**; each reads and writes files, so each can be repeated alone.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"zooselect {importlib.metadata.version('zooselect')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None: ...


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


@app.command(rich_help_panel=DEVICE_PANEL)
def select(
    bundle: BundleArgument,
    images: ImagesArgument,
    precision: PrecisionOption = None,
    max_drop: MaxDropOption = None,
    mean_ms: MeanOption = None,
    p95_ms: P95Option = None,
    environment: EnvironmentOption = None,
    threads: ThreadsOption = 1,
    skip_bad: SkipBadOption = False,
    require_certified: CertifiedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say which model is enough for each image, and what it costs.

    Example: zooselect select my-bundle photo.jpg --precision 0.95
    """
    from selector.runtime import Selector

    chooser = Selector.load(bundle, threads=threads)
    asked = asked_for(precision, max_drop, mean_ms, p95_ms, environment)
    _announce(chooser, asked)
    rows: list[dict[str, Any]] = []
    for path, image in _read(_files(images), skip_bad):
        found = chooser.select(image, **asked)
        rows.append(
            {
                "image": str(path),
                "model": found.model,
                "probability": _number(found.probability),
                "cost_ms": round(found.cost_ms, 4),
                "certified": found.certified,
            }
        )
    _show(rows, as_json)
    leave(rows, require_certified)


@app.command(rich_help_panel=DEVICE_PANEL)
def predict(
    bundle: BundleArgument,
    images: ImagesArgument,
    precision: PrecisionOption = None,
    max_drop: MaxDropOption = None,
    mean_ms: MeanOption = None,
    p95_ms: P95Option = None,
    environment: EnvironmentOption = None,
    threads: ThreadsOption = 1,
    skip_bad: SkipBadOption = False,
    watch: WatchOption = True,
    require_certified: CertifiedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Answer images with the cheapest models that meet the precision.

    Example: zooselect predict my-bundle photos/ --precision 0.95 --json
    """
    from selector.runtime import Selector

    chooser = Selector.load(bundle, threads=threads, watch=watch)
    asked = asked_for(precision, max_drop, mean_ms, p95_ms, environment)
    leave(answer_images(chooser, images, asked, skip_bad=skip_bad, as_json=as_json), require_certified)


@app.command(rich_help_panel=DEVICE_PANEL)
def bench(
    path: Annotated[Path, typer.Argument(help="Folder of a zoo or of a bundle.")] = Path("my-zoo"),
    device: Annotated[str, typer.Option(help="A name for this machine and setting.")] = "this-machine",
    images: Annotated[
        Path | None, typer.Option(help="Folder of images like those the device will see.")
    ] = None,
    size: Annotated[str, typer.Option(help="Height x width of random images, without --images.")] = "32x32",
    threads: ThreadsOption = 1,
    runs: Annotated[int, typer.Option(min=20, help="Runs per model.")] = 300,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write the table. Default: my-profile/latency/DEVICE.json for a zoo."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the order and of random images.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure how long every model takes on this device.

    One image at a time, all models in turns, after a warm-up; gives p50 with its confidence interval, p95 and
    mean. Example: zooselect bench my-zoo --size 224x224 --device kitchen-camera
    """
    import msgspec

    from selector.bench import measure_folder
    from zoo.latency import save_table

    if images is not None:
        pixels = [image for _, image in _read(_files([images]), skip_bad=True)][:64]
    else:
        pixels = _random_images(size, seed)
    table = measure_folder(
        path, pixels, device=device, threads=threads, runs=runs, seed=seed, progress=not as_json
    )
    is_zoo = (path / "zoo.json").is_file()
    target = out or (Path("my-profile") / "latency" / f"{device}.json" if is_zoo else None)
    if target is not None:
        save_table(table, target)
    if as_json:
        typer.echo(msgspec.json.encode(table).decode())
        return
    typer.echo(f"{table.machine.processor}, {threads} thread(s), images {table.image[0]}x{table.image[1]}")
    typer.echo(f"{'model':<28}{'p50 ms':>10}{'95 % interval':>20}{'p95 ms':>10}{'mean ms':>10}")
    rows = {name: row.latency for name, row in table.models.items()}
    if table.selector is not None:
        rows["(features + scores)"] = table.selector.latency
    for name, row in sorted(rows.items(), key=lambda item: item[1].mean_ms):
        interval = f"{row.p50_low_ms:.3f} .. {row.p50_high_ms:.3f}"
        typer.echo(f"{name:<28}{row.p50_ms:>10.3f}{interval:>20}{row.p95_ms:>10.3f}{row.mean_ms:>10.3f}")
    if target is not None:
        typer.echo(f"Written to {target}. Next: zooselect fit --latency {target}")


def answer_images(
    chooser: Any, images: list[Path], asked: Any, *, skip_bad: bool, as_json: bool
) -> list[dict[str, Any]]:
    """Answer images with a Selector, print the answers and return them."""
    _announce(chooser, asked)
    rows: list[dict[str, Any]] = []
    warm: set[tuple[int, ...]] = set()
    files = _files(images)
    # in random order, so that a folder that is sorted by class does not look like inputs that change
    order = np.random.default_rng(0).permutation(len(files))
    for path, image in _read([files[i] for i in order], skip_bad):
        if image.shape not in warm:  # so that no row's time contains opening the models
            chooser.warm_up(*image.shape[:2])
            warm.add(image.shape)
        found = chooser.predict(image, **asked)
        rows.append(
            {
                "image": str(path),
                "label": found.label,
                "class_probability": round(float(found.probabilities.max()), 6),
                "model": found.model,
                "path": list(found.path),
                "probability": _number(found.probability),
                "latency_ms": round(found.latency_ms, 4),
                "certified": found.certified,
            }
        )
    places = {str(path): place for place, path in enumerate(files)}
    rows.sort(key=lambda row: places[row["image"]])
    _show(rows, as_json)
    status = chooser.drift
    if status is not None and status.alarm:
        typer.echo(
            f"drift: these images are unlike those that the certificates were made on; "
            f"{', '.join(status.moved[:3])} changed. From then on the reference model {chooser.reference} "
            "answered, uncertified. Fit again on images like these.",
            err=True,
        )
    return rows


@cache
def add_commands() -> None:
    """Let the packages add their commands, once in a process."""
    for name in COMMANDS:
        importlib.import_module(f"selector.commands.{name}").register(app)
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: point.name):
        point.load()(app)


def main() -> None:
    """Run the command line; every error of ours becomes one line and an exit code."""
    # OpenMP threads that spin while they wait slow training down manyfold beside other busy processes
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    add_commands()
    try:
        app(prog_name="zooselect")
    except ZooError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        typer.echo(
            f"error: this command needs the package {error.name!r}: pip install 'zooselect[train]'", err=True
        )
        sys.exit(1)


def _files(paths: list[Path]) -> list[Path]:
    """Image files, and those inside folders."""
    from zoo.image import SUFFIXES

    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not inside:
                raise DataError(
                    f"expected images in {path}, got none. Supported: {', '.join(sorted(SUFFIXES))}"
                )
            files += inside
        else:
            files.append(path)
    return files


def _read(files: list[Path], skip_bad: bool) -> Iterator[tuple[Path, Any]]:
    from zoo.image import load_image

    skipped = 0
    for path in files:
        try:
            image = load_image(path)
        except ImageError as error:
            if not skip_bad:
                raise ImageError(f"{error} With --skip-bad the others are answered.") from error
            skipped += 1
            continue
        yield path, image
    if skipped:
        typer.echo(f"{skipped} of {len(files)} images could not be read and were left out.", err=True)


def asked_for(
    precision: float | None,
    max_drop: float | None,
    mean_ms: float | None,
    p95_ms: float | None,
    environment: str | None,
) -> dict[str, Any]:
    """What was asked on the command line, as :meth:`selector.Selector.predict` takes it."""
    given = {
        "precision": precision,
        "max_drop": max_drop,
        "mean_ms": mean_ms,
        "p95_ms": p95_ms,
        "environment": environment,
    }
    return {name: value for name, value in given.items() if value is not None}


def _announce(chooser: Any, asked: dict[str, Any]) -> None:
    if chooser.certificate(**asked) is not None:
        return
    from selector.constraint import constraint

    environment = asked.get("environment")
    wanted = constraint(**{k: v for k, v in asked.items() if k != "environment"}) or chooser.bundle.default
    levels = chooser.certified_levels(wanted.kind, environment)
    nearest = (levels[-1] if wanted.kind == "precision" else levels[0]) if levels else None
    where = f" in the environment {environment!r}" if environment else ""
    typer.echo(
        f"{wanted} is not certified with the models {', '.join(chooser.models)}{where}; "
        f"{'none is' if nearest is None else f'{nearest:g} is the nearest that is'}. "
        f"The reference model {chooser.reference} answers.",
        err=True,
    )


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
        return
    if not rows:
        return
    cells = [[_text(value) for value in row.values()] for row in rows]
    heads = [name.replace("_", " ") for name in rows[0]]
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(len(heads))]
    for line in [heads, *cells]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def leave(rows: list[dict[str, Any]], require_certified: bool) -> None:
    """End with :data:`UNCERTIFIED` where certificates are required and one is missing."""
    if require_certified and not all(row["certified"] for row in rows):
        raise typer.Exit(UNCERTIFIED)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return " → ".join(value)
    return "–" if value is None else str(value)


def _random_images(size: str, seed: int) -> list[Any]:
    try:
        height, width = (int(part) for part in size.lower().split("x"))
    except ValueError:
        height = width = 0
    if height < 1 or width < 1 or height * width > 2**26:
        raise DataError(f"expected a size such as 224x224, got {size!r}.")
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(8)]
