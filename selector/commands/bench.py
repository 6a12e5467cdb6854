"""The command bench: how long every model takes on this device."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selector.commands.input_files import input_files, read_inputs, tell_unread
from selector.commands.last_words import command
from selector.commands.options import DEVICE_PANEL, JsonOption, ProviderOption, SeedOption, ThreadsOption
from selector.commands.say import say
from selector.commands.tables import table
from zoo.errors import LatencyError

if TYPE_CHECKING:
    from zoo.models.latency import Latency, LatencyTable

_NETWORK_ROUNDS = 50
_IMAGES = 64  # how many are read and measured in turns


def bench(
    path: Annotated[Path, typer.Argument(help="Folder of a zoo or of a bundle.")] = Path("my-zoo"),
    device: Annotated[str, typer.Option(help="A name for this machine and setting.")] = "this-machine",
    images: Annotated[
        Path | None, typer.Option(help="Folder of images, or other inputs, like those the device will see.")
    ] = None,
    size: Annotated[
        str,
        typer.Option(
            help="Height x width of random images, or length of random signals, without --images. "
            "Default: 32x32 or 4096."
        ),
    ] = "",
    threads: ThreadsOption = 1,
    provider: ProviderOption = None,
    runs: Annotated[int, typer.Option(min=20, max=10_000, help="Runs per model.")] = 300,
    wait_quiet: Annotated[
        float, typer.Option(min=0, help="Seconds to wait at most for a machine that is not busy.")
    ] = 0.0,
    watch: Annotated[
        bool, typer.Option("--watch", help="Of a bundle: with the drift monitor at every answer.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write the table. Default: my-profile/latency/DEVICE.json for a zoo."),
    ] = None,
    network: Annotated[
        bool,
        typer.Option("--network", help="Of a zoo: the way to the server of its remote models."),
    ] = False,
    throughput: Annotated[
        bool,
        typer.Option(
            "--throughput", help="Images a second instead of times, in 1 to --workers threads and processes."
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, help="With --throughput: threads and processes at most. Default: cores."
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.01, max=600, help="With --throughput: of each of three rounds.")
    ] = 1.0,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure how long every model takes on this device, and whole answers of a bundle.

    One image at a time, all models in turns, after a warm-up; gives p50 with its confidence interval, p95,
    p99 and mean. Runs that other programs interrupt are counted and left out: while they wait, the clock of
    the processor stands still. Where these are more than a tenth, the machine is busy; with --wait-quiet the
    command waits for it and measures again. Example: zooselect bench my-zoo --size 224x224
    --device kitchen-camera
    """
    import msgspec

    from selector.answering.measuring.bench import kind_of_folder, measure_folder
    from zoo.models.latency import save_table
    from zoo.providers import CPU, Provider

    if throughput and provider is not None:
        raise LatencyError(
            "expected --throughput or --provider, got both: throughput is measured on the CPU. Leave one out."
        )
    if network and throughput:
        raise LatencyError("expected one of --network and --throughput, got both. Measure twice.")
    kind = kind_of_folder(path)
    if images is not None:
        files, unread = input_files([images], kind), list[str]()
        pixels = [item for _, item in itertools.islice(read_inputs(files, unread, kind), _IMAGES)]
        tell_unread(unread, len(pixels) + len(unread), kind, skip_bad=True)
    else:
        import numpy as np

        rng, side = np.random.default_rng(seed), kind.parse_size(size) if size else kind.default_size
        pixels = [kind.random(side, rng) for _ in range(8)]
    if network:
        _measure_network(path, pixels, device, min(runs, _NETWORK_ROUNDS), out, as_json)
        return
    if throughput:
        _measure_throughput(path, pixels, workers, seconds, watch, seed, as_json)
        return
    measured = _measured(
        partial(
            measure_folder,
            path,
            pixels,
            device=device,
            threads=threads,
            runs=runs,
            seed=seed,
            watch=watch,
            progress=not as_json,
            provider=CPU if provider is None else Provider.of(provider),
        ),
        wait_quiet,
    )
    is_zoo = (path / "zoo.json").is_file()
    target = out or (Path("my-profile") / "latency" / f"{device}.json" if is_zoo else None)
    if target is not None:
        save_table(measured, target)
    if as_json:
        say(msgspec.json.encode(measured).decode())
        return
    say(
        f"{measured.machine.processor}, {measured.provider}, {threads} thread(s), "
        f"{kind.noun}s {'x'.join(map(str, measured.image))}"
    )
    rows = {name: row.latency for name, row in measured.models.items()}
    if measured.selector is not None:
        rows["(features + scores)"] = measured.selector.latency
    say(_shown(rows))
    if measured.paths:
        answers = {f"{' → '.join(row.models)} ({row.steps})": row.latency for row in measured.paths}
        say("\nWhole answers, by the models that run" + (", watched:" if watch else ":"))
        say(_shown(answers, head="path"))
        rows |= answers
    for note in _notes(rows, measured, wait_quiet):
        say(note)
    if target is not None:
        beside = target.parent.parent  # a table lies in the folder latency of a profile
        profile = beside if (beside / "profile.json").is_file() else None
        following = command("fit", zoo=path if is_zoo else None, profile=profile, latency=target)
        say(f"Written to {target}. Next: {following}")


def _measure_network(
    path: Path, images: list[Any], name: str, rounds: int, out: Path | None, as_json: bool
) -> None:
    """Measure the way to a server, and write a network table."""
    import msgspec

    from zoo.models.zoo import Zoo
    from zoo.remote.network import measure_network, save_network

    zoo = Zoo.open(path)
    cards = [card for card in zoo.cards if card.remote is not None]
    remotes = {card.name: card.remote for card in cards if card.remote is not None}
    widths = {card.name: len(card.classes) for card in cards}
    found = measure_network(remotes, widths, images, name=name, rounds=rounds, kind=zoo.kind)
    target = out or Path("my-profile") / "network" / f"{name}.json"
    save_network(found, target)
    if as_json:
        say(msgspec.json.encode(found).decode())
        return
    say(f"Round trip {found.rtt_ms:.2f} ms, {found.uplink_mbps:,.1f} Mbit/s up.")
    rows = [
        [
            card.name,
            f"{remotes[card.name].uplink_bytes:,}",
            f"{remotes[card.name].downlink_bytes:,}",
            f"{found.server_ms[card.name]:.2f}",
            f"{found.model_ms(card.name, remotes[card.name]):.2f}",
        ]
        for card in cards
    ]
    say(table(["model", "bytes up", "bytes down", "server ms", "whole ms"], rows, "lrrrr"))
    say(f"Written to {target}.")


def _measure_throughput(
    path: Path,
    images: list[Any],
    workers: int | None,
    seconds: float,
    watch: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Measure images a second, and print them."""
    import msgspec

    from selector.answering.measuring.throughput import measure_throughput

    found = measure_throughput(path, images, workers=workers, seconds=seconds, watch=watch, seed=seed)
    if as_json:
        say(msgspec.json.encode(found).decode())
        return
    counts = sorted({row.workers for row in found})
    rates = {(row.what, row.way, row.workers): row.images_per_s for row in found}
    rows = []
    for what, way in dict.fromkeys((row.what, row.way) for row in found):
        first, *others = (rates[what, way, count] for count in counts)
        more = [f"{rate:,.0f} ({rate / first:.2f}×)" for rate in others]
        rows.append([what, way, f"{first:,.0f}", *more])
    say(f"Images a second, by the number of workers, {'watched' if watch else 'not watched'}:")
    say(table(["", "workers are", *map(str, counts)], rows, "ll" + "r" * len(counts)))


def _measured(measure: Callable[[], LatencyTable], wait_quiet: float) -> LatencyTable:
    """A table; measured again, after a wait, for as long as the machine was busy and time is left."""
    from zoo.models.latency import BUSY_SHARE
    from zoo.models.timing import wait_quiet as wait

    end = time.monotonic() + wait_quiet
    if wait_quiet > 0:
        wait(wait_quiet, most=BUSY_SHARE)
    measured = measure()
    while measured.busy and time.monotonic() < end:
        if not wait(max(0.0, end - time.monotonic()), most=BUSY_SHARE):
            break
        measured = measure()
    return measured


def _shown(rows: Mapping[str, Latency], head: str = "model") -> str:
    from zoo.models.spread import bars

    heads = [head, "p50 ms", "95 % interval", "p95 ms", "p99 ms", "mean ms", "interrupted", "min .. p99"]
    cells = [
        [
            name,
            f"{row.p50_ms:.3f}",
            f"{row.p50_low_ms:.3f} .. {row.p50_high_ms:.3f}",
            f"{row.p95_ms:.3f}",
            "–" if row.p99_ms is None else f"{row.p99_ms:.3f}",
            f"{row.mean_ms:.3f}",
            "–" if row.share_interrupted is None else f"{row.share_interrupted:.0%}",
            bars(row.times_ms),
        ]
        for name, row in sorted(rows.items(), key=lambda item: item[1].mean_ms)
    ]
    return table(heads, cells, "lrrrrrrl")


def _notes(rows: Mapping[str, Latency], measured: LatencyTable, waited: float) -> list[str]:
    """What a reader of the table has to know."""
    notes = []
    found = [(name, row.two_peaks_ms) for name, row in rows.items()]
    twice = [f"{name} at {two[0]:.3f} and {two[1]:.3f} ms" for name, two in found if two is not None]
    if twice:
        notes.append(
            f"Two peaks: {', '.join(twice)}. Something changes while they run: the clock of the processor, "
            "other programs, or other machines on the same processor."
        )
    if measured.threads > 1:
        notes.append(
            f"With {measured.threads} threads, runs are interrupted only where all of them stood still."
        )
    if measured.busy:
        after = f" after {waited:g} s of waiting for a quiet machine" if waited else ""
        notes.append(
            f"BUSY{after}: other programs interrupted {measured.share_interrupted():.0%} of the runs of a "
            "model or path. These are left out, but the others are slower than on a quiet machine too. "
            "Measure again when it is quiet, or with --wait-quiet SECONDS."
        )
    return notes


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=DEVICE_PANEL)(bench)
