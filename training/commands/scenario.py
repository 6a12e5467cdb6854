"""The command scenario."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from selector.commands.options import START_PANEL, JsonOption, OutOption, SeedOption, names_in
from selector.commands.say import say

UNKNOWN_ENVIRONMENT = "rotation"


def scenario(
    out: OutOption = Path("zooselect-scenario"),
    environments: Annotated[
        str,
        typer.Option(help="In which the device is, one after another; models are trained in the first."),
    ] = "clear,dark,blur,clear",
    unknown: Annotated[
        str, typer.Option(help="An environment at the end that nobody has a specialist for; '' for none.")
    ] = UNKNOWN_ENVIRONMENT,
    inputs: Annotated[int, typer.Option(min=10, help="Inputs in each environment.")] = 400,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="Storage of the device, in MB (millions of bytes). Default: 0.45; with --data 1.",
        ),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Inputs a second.")] = 50.0,
    precision: Annotated[
        float | None,
        typer.Option(help="Precision to certify and to ask for, in (0, 1). Default: 0.9; with --data 0.75."),
    ] = None,
    server: Annotated[
        bool, typer.Option("--server", help="A server assigns the specialists, before the changes.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="Instead of digits: a folder with cifar10-train.zip and cifar10-test.zip."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="With --data: a folder with cifar10-resnet20.npz and so on.")
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """See a device notice that its environment has changed, fetch a specialist and switch to it.

    Handwritten digits; needs no download and some minutes. A second run uses what the first one made. The
    time line is in scenario.html. Example: zooselect scenario --environments clear,dark --unknown ''
    """
    import msgspec

    from training.evaluation.timeline import timeline_table
    from training.reports.timeline_page import render_timeline
    from training.scenarios.materials import cifar10, digit_networks
    from training.scenarios.scenario import Settings, run_scenario
    from training.scenarios.specialists import make_specialists
    from zoo.errors import DataError

    tell = partial(say, err=True)
    names = tuple(names_in(environments))
    if unknown in names:
        raise DataError(
            f"expected an --unknown environment that is not among {', '.join(names)}, got {unknown!r}."
        )
    if (data is None) != (weights is None):
        raise DataError("expected --data and --weights together, got one of them.")
    known = tuple(dict.fromkeys(names))
    if data is None or weights is None:
        zoo, material = digit_networks(out, known[0] if known else "", seed=seed, progress=not as_json)
    else:
        zoo, material = cifar10(out, data, weights, seed=seed)
    asked = material.precision if precision is None else precision
    published = make_specialists(
        out, zoo, material, known, precision=asked, seed=seed, progress=not as_json, say=tell
    )
    settings = Settings(
        environments=(*names, *((unknown,) if unknown else ())),
        inputs=inputs,
        budget_bytes=material.budget_bytes if budget is None else int(budget * 1e6),
        inputs_per_s=rate,
        precision=asked,
        server=server,
        seed=seed,
    )
    timeline = run_scenario(out, published, settings, say=tell)
    page = out / ("scenario-server.html" if server else "scenario.html")
    render_timeline(timeline, page)
    if as_json:
        say(msgspec.json.encode(timeline).decode())
        return
    say()
    say(timeline_table(timeline))
    say(
        f"\n{len(timeline.answers):,} answers, none failed, the longest took {timeline.longest_ms:.0f} ms. "
        f"The service was told of drift: {', '.join(timeline.reported) or 'never'}.\nTime line: {page}"
    )


def register(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command(rich_help_panel=START_PANEL)(scenario)
