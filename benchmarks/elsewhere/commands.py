"""The suites ``one-file``, ``web`` and ``providers``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.options import Given, ResultsOption, named, on_data


def register(app: typer.Typer) -> None:
    """Add them to the command line of the benchmarks."""
    app.command("one-file")(one_file)
    app.command("web")(web)
    app.command("providers")(providers)


@on_data
def one_file(
    given: Given,
    images: Annotated[int, typer.Option(min=20, help="Test images to compare on.")] = 1_000,
    rounds: Annotated[int, typer.Option(min=1, help="How often each timed image is answered.")] = 5,
    kinds: Annotated[str, typer.Option(help="Kinds of policy, separated by commas. Default: all.")] = "",
    results: ResultsOption = Path("results"),
) -> None:
    """Every kind of policy as one file beside its bundle: answers, times, and a process without zooselect."""
    from benchmarks.elsewhere.bundles import KINDS
    from benchmarks.elsewhere.one_file import run_one_file

    chosen = named("kinds", kinds or ",".join(KINDS), KINDS)
    run_one_file(given, images=images, rounds=rounds, kinds=chosen, results=results)


@on_data
def web(
    given: Given,
    images: Annotated[int, typer.Option(min=6, help="Test images to compare on.")] = 200,
    runtime: Annotated[
        str | None,
        typer.Option(help="Folder 'dist' of the npm package onnxruntime-web. Default: npm fetches it."),
    ] = None,
    results: ResultsOption = Path("results"),
) -> None:
    """The page in Chromium: answers beside those of Python, and times beside the largest model alone."""
    from benchmarks.elsewhere.web import run_web

    run_web(given, images=images, runtime=runtime, results=results)


@on_data
def providers(
    provider: Annotated[str, typer.Option(help="The one beside the CPU's, such as OpenVINO.")],
    given: Given,
    images: Annotated[int, typer.Option(min=20, help="Test images to compare on.")] = 1_000,
    results: ResultsOption = Path("results"),
) -> None:
    """CIFAR-10 with another execution provider: agreement, times, and what certificates are worth there."""
    from benchmarks.elsewhere.providers import run_providers
    from zoo.providers import Provider

    run_providers(given, Provider.of(provider), images=images, results=results)
