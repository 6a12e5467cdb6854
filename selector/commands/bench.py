"""The command bench: how long every model takes on this device."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from selector.commands.images import image_files, read_images, tell_unread
from selector.commands.last_words import command
from selector.commands.options import DEVICE_PANEL, JsonOption, SeedOption, ThreadsOption
from selector.commands.say import say
from selector.commands.tables import table
from zoo.errors import DataError

_IMAGES = 64  # how many are read and measured in turns


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
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure how long every model takes on this device.

    One image at a time, all models in turns, after a warm-up; gives p50 with its confidence interval, p95 and
    mean. Example: zooselect bench my-zoo --size 224x224 --device kitchen-camera
    """
    import msgspec

    from selector.answering.bench import measure_folder
    from zoo.models.latency import save_table

    if images is not None:
        files, unread = image_files([images]), list[str]()
        pixels = [image for _, image in itertools.islice(read_images(files, unread), _IMAGES)]
        tell_unread(unread, len(pixels) + len(unread), skip_bad=True)
    else:
        pixels = _random_images(size, seed)
    measured = measure_folder(
        path, pixels, device=device, threads=threads, runs=runs, seed=seed, progress=not as_json
    )
    is_zoo = (path / "zoo.json").is_file()
    target = out or (Path("my-profile") / "latency" / f"{device}.json" if is_zoo else None)
    if target is not None:
        save_table(measured, target)
    if as_json:
        say(msgspec.json.encode(measured).decode())
        return
    say(f"{measured.machine.processor}, {threads} thread(s), images {measured.image[0]}x{measured.image[1]}")
    rows = {name: row.latency for name, row in measured.models.items()}
    if measured.selector is not None:
        rows["(features + scores)"] = measured.selector.latency
    cells = [
        [
            name,
            f"{row.p50_ms:.3f}",
            f"{row.p50_low_ms:.3f} .. {row.p50_high_ms:.3f}",
            f"{row.p95_ms:.3f}",
            f"{row.mean_ms:.3f}",
        ]
        for name, row in sorted(rows.items(), key=lambda item: item[1].mean_ms)
    ]
    say(table(["model", "p50 ms", "95 % interval", "p95 ms", "mean ms"], cells))
    if target is not None:
        beside = target.parent.parent  # a table lies in the folder latency of a profile
        profile = beside if (beside / "profile.json").is_file() else None
        following = command("fit", zoo=path if is_zoo else None, profile=profile, latency=target)
        say(f"Written to {target}. Next: {following}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=DEVICE_PANEL)(bench)


def _random_images(size: str, seed: int) -> list[Any]:
    try:
        height, width = (int(part) for part in size.lower().split("x"))
    except ValueError:
        height = width = 0
    if height < 1 or width < 1 or height * width > 2**26:
        raise DataError(f"expected a size such as 224x224, got {size!r}.")
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(8)]
