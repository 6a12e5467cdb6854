"""``python -m benchmarks SUITE``: figures on real data, as tables, a JSON line, a result file, a report."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.elsewhere.commands import register
from benchmarks.options import (
    DATA,
    WORK,
    DataOption,
    Given,
    ResultsOption,
    SeedOption,
    WeightsOption,
    WorkOption,
    named,
    on_data,
)
from selector.commands.say import say
from zoo.errors import ZooError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Benchmarks on real data. Each prints a table and then one JSON line, and writes a result file.\n\n"
    "Data and weights are found in --data and --weights, by default the folder in ZOOSELECT_DATA.",
)
SplitsOption = Annotated[int, typer.Option(min=1, help="Repetitions with the samples dealt out anew.")]
JobsOption = Annotated[int, typer.Option(min=1, help="Processes that share the repetitions.")]
RayOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS|local",
        help="A cluster of Ray that shares the repetitions instead: HOST:PORT of its head, or local. "
        "Its nodes must see --work.",
    ),
]
RoundsOption = Annotated[int, typer.Option(min=1, help="How often each test image is answered.")]
CoresOption = Annotated[
    str,
    typer.Option(
        help="Cores, separated by commas: answers have the first for themselves, all else the others. "
        "Default: as the system places them."
    ),
]
PeersOption = Annotated[
    str, typer.Option(help="Peers to compare with, separated by commas; 'none' for none. Default: all.")
]


def _add_suite(name: str, about: str) -> None:
    @on_data
    def suite(
        given: Given,
        splits: SplitsOption = 10,
        jobs: JobsOption = 2,
        rounds: RoundsOption = 2,
        peers: PeersOption = "",
        ray: RayOption = None,
        results: ResultsOption = Path("results"),
    ) -> None:
        from benchmarks.peers import PEERS
        from benchmarks.selection.suite import run_suite

        chosen = [] if peers == "none" else named("peers", peers, PEERS)
        run_suite(
            name,
            given,
            splits=splits,
            jobs=jobs,
            rounds=rounds,
            peers=chosen if peers else tuple(PEERS),
            results=results,
            ray=ray,
        )

    app.command(name, help=about)(suite)


for _name, _about in {
    "digits": "Embedded digits under seven environments; needs no data.",
    "cifar10-float": "CIFAR-10 as JPEG, four third-party ResNets on 32 pixels and fewer.",
    "cifar10": "The same with their int8 versions.",
    "cifar10-environments": "The same, every image also in the dark, with noise and blurred.",
    "cifar10-heads": "CIFAR-10 as JPEG, int8 ResNets with a last layer refitted to it.",
    "cifar10-adapted": "CIFAR-10 as JPEG, ResNets adapted to it, and a small first model.",
    "cifar10-environments-adapted": "CIFAR-10 under environments, with specialists for each.",
    "magika": "Files of installed packages as bytes, three third-party classifiers of their types.",
    "sound": "Synthesised sounds under five environments, three networks of them; needs no data.",
    "photos": "Photographs, EfficientNet-Lite 0, 1, 2 at several resolutions, float and int8.",
}.items():
    _add_suite(_name, _about)


def _add_table_suite(name: str, about: str) -> None:
    def suite(
        data: DataOption = DATA,
        work: WorkOption = WORK,
        splits: SplitsOption = 10,
        peers: PeersOption = "",
        seed: SeedOption = 0,
        results: ResultsOption = Path("results"),
    ) -> None:
        from benchmarks.peers import PEERS
        from benchmarks.tables.suite import run_table_suite

        chosen = [] if peers == "none" else named("peers", peers, PEERS)
        run_table_suite(
            name,
            data=data,
            work=work,
            splits=splits,
            peers=chosen if peers else None,
            seed=seed,
            results=results,
        )

    app.command(name, help=about)(suite)


for _name, _about in {
    "three-nets": "Three ImageNet networks on distorted photographs, outcomes of others; GFLOPs.",
    "three-nets-told": "The same, where the application tells the distortion of a photograph.",
    "routerbench": "Eleven language models on questions, outcomes of others; dollars.",
    "mmlu-pro": "28 language models on questions, outcomes of others; characters of the answers.",
    "estimators": "Logistic regression, a forest and boosting on made data; milliseconds.",
}.items():
    _add_table_suite(_name, _about)


@app.command()
@on_data
def scale(
    given: Given,
    samples: Annotated[list[int] | None, typer.Option(help="Samples to fit; may be repeated.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that share a fit. Default: one a core.")
    ] = None,
    results: ResultsOption = Path("results"),
) -> None:
    """Time and peak memory of fitting, by default on 50,000 and 1,000,000 samples of eight models."""
    from benchmarks.selection.scale import SAMPLES, run_scale

    run_scale(given, samples=samples or SAMPLES, jobs=jobs, results=results)


@app.command()
@on_data
def speed(
    given: Given,
    results: ResultsOption = Path("results"),
) -> None:
    """The selector's own time per image, parity with torch and scikit-learn, and profiling throughput."""
    from benchmarks.selection.speed import run_speed

    run_speed(given, results=results)


@app.command()
@on_data
def clock(
    given: Given,
    suites: Annotated[
        str, typer.Option(help="Which, separated by commas.")
    ] = "cifar10,cifar10-float,cifar10-environments",
    answers: Annotated[int, typer.Option(min=100, help="Inputs to answer under each budget.")] = 2000,
    results: ResultsOption = Path("results"),
) -> None:
    """Certified budgets of time, mean and 95th percentile, held against a clock on fresh inputs."""
    from benchmarks.selection.clock import run_clock
    from benchmarks.selection.zoos import SUITES

    chosen = named("suites", suites, SUITES)
    run_clock(given, suites=chosen, answers=answers, results=results)


@app.command()
@on_data
def drift(
    given: Given,
    suites: Annotated[str, typer.Option(help="Which, separated by commas.")] = "cifar10,digits",
    streams: Annotated[int, typer.Option(min=1, help="Streams in which nothing changes.")] = 1000,
    runs: Annotated[int, typer.Option(min=1, help="Changes to each environment.")] = 200,
    every: Annotated[
        int,
        typer.Option(min=2, help="One of how many inputs is looked at while nothing speaks for a change."),
    ] = 2,
    results: ResultsOption = Path("results"),
) -> None:
    """False alarms of the drift monitor, how soon it notices each environment, and its time per input."""
    from benchmarks.selection.drift import SUITES, run_drift

    chosen = named("suites", suites, SUITES)
    run_drift(given, suites=chosen, streams=streams, runs=runs, every=every, results=results)


@app.command()
@on_data
def certificates(
    given: Given,
    draws: Annotated[int, typer.Option(min=1, help="Draws of each simulation.")] = 2000,
    splits: Annotated[int, typer.Option(min=0, help="Splits of CIFAR-10 outcomes; 0: none.")] = 3,
    latency: Annotated[
        Path | None, typer.Option(help="Latency table of the CIFAR-10 zoo; measured where it is not there.")
    ] = None,
    results: ResultsOption = Path("results"),
) -> None:
    """False certificates at the boundary, and what each test of a precision proves on CIFAR-10 outcomes."""
    from benchmarks.selection.certificates import run_certificates

    run_certificates(given, draws=draws, splits=splits, latency=latency, results=results)


@app.command()
def distribution(
    weights: WeightsOption = DATA,
    devices: Annotated[int, typer.Option(min=1, help="Devices that poll one service.")] = 1000,
    seed: SeedOption = 0,
    results: ResultsOption = Path("results"),
) -> None:
    """Bytes and times of publishing, fetching, updating and reporting, on a loopback network."""
    from benchmarks.distribution.traffic import run_distribution

    run_distribution(weights=weights, devices=devices, seed=seed, results=results)


@app.command()
@on_data
def network(
    given: Given,
    only: Annotated[str, typer.Option(help="Parts, separated by commas. Default: all.")] = "",
    results: ResultsOption = Path("results"),
) -> None:
    """Models on servers: which inputs are worth asking for, what serving takes, and clusters."""
    from benchmarks.network.suites import PARTS

    for part in named("parts", only or ",".join(PARTS), PARTS):
        PARTS[part](given, results)


@app.command()
def answering(
    weights: WeightsOption = DATA,
    cores: CoresOption = "",
    phases: Annotated[int, typer.Option(min=1, help="Times of each kind of phase.")] = 5,
    seed: SeedOption = 0,
    results: ResultsOption = Path("results"),
) -> None:
    """Answers of a device while models come and go: calm, with an installing neighbour, installing itself."""
    from benchmarks.distribution.answering import run_answering_suite

    run_answering_suite(weights=weights, cores=_cores(cores), phases=phases, seed=seed, results=results)


@app.command()
def soak(
    minutes: Annotated[float, typer.Option(min=0.05, help="How long things go wrong.")] = 20.0,
    devices: Annotated[int, typer.Option(min=1, help="Devices of one service.")] = 50,
    seed: SeedOption = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the line of JSON only.")] = False,
    results: ResultsOption = Path("results"),
) -> None:
    """Devices that answer through kills, faults of the network, full disks, updates and withdrawals."""
    from benchmarks.distribution.soak import run_soak_suite

    held = run_soak_suite(minutes=minutes, devices=devices, seed=seed, json_only=json, results=results)
    if not held:
        raise typer.Exit(1)


@app.command()
@on_data
def cuts(
    given: Given,
    models: Annotated[str, typer.Option(help="Which, separated by commas.")] = "resnet56,efficientnet-lite0",
    images: Annotated[int, typer.Option(min=8, help="Images on which 8-bit codes are judged.")] = 200,
    results: ResultsOption = Path("results"),
) -> None:
    """Models cut in two at every place: answers against the whole, and the plan's best against a clock."""
    from benchmarks.network.cuts import MODELS, run_cuts

    chosen = named("models", models, MODELS)
    run_cuts(given, models=chosen, images=images, results=results)


def _cores(text: str) -> list[int]:
    if not text:
        return []
    there = os.sched_getaffinity(0)
    cores = [int(part) if part.strip().isdecimal() else -1 for part in text.split(",")]
    if len(cores) < 2 or len(set(cores)) < len(cores) or not set(cores) <= there:
        say(
            f"error: expected at least two of the cores {', '.join(map(str, sorted(there)))}, separated by "
            f"commas, got {text!r}.",
            err=True,
        )
        raise typer.Exit(1)
    return cores


register(app)

if __name__ == "__main__":
    try:
        app()
    except ZooError as error:
        say(f"error: {error}", err=True)
        sys.exit(1)
