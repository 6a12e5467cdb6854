"""The command scenario."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from selector.commands.options import START_PANEL, JsonOption, OutOption, SeedOption, names_in
from selector.commands.say import say

UNKNOWN_ENVIRONMENT = "rotation"
ENVIRONMENTS, INPUTS, RATE = "clear,dark,blur,clear", 400, 50.0
MOVING = "clear,dark", 300, 20.0  # the same with --network
NETWORKS = "wifi,4g,none,wifi"
FITTED_FOR = "4g"  # the dearest network that there is


def scenario(
    out: OutOption = Path("zooselect-scenario"),
    environments: Annotated[
        str,
        typer.Option(
            help="In which the device is, one after another; models are trained in the first. "
            f"Default: {ENVIRONMENTS}; with --network {MOVING[0]}."
        ),
    ] = "",
    unknown: Annotated[
        str | None,
        typer.Option(
            help="An environment at the end that nobody has a specialist for; '' for none. "
            f"Default: {UNKNOWN_ENVIRONMENT}; with --network none."
        ),
    ] = None,
    inputs: Annotated[
        int | None,
        typer.Option(
            min=10,
            help=f"Inputs in each environment, and on each network. Default: {INPUTS}; with --network "
            f"{MOVING[1]}.",
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="Storage of the device, in MB (millions of bytes). Default: 0.45; with --data 1.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, help=f"Inputs a second. Default: {RATE:g}; with --network {MOVING[2]:g}."),
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(
            help="Precision to certify and to ask for, in (0, 1). Default: 0.9; with --data 0.75; with "
            "--network 0.95."
        ),
    ] = None,
    server: Annotated[
        bool, typer.Option("--server", help="A server assigns the specialists, before the changes.")
    ] = False,
    network: Annotated[
        bool,
        typer.Option(
            "--network",
            help="The device has a small model alone and asks a server for hard inputs, while networks come "
            "and go; the server is killed in the middle.",
        ),
    ] = False,
    networks: Annotated[
        str, typer.Option(help="With --network: through which it moves in each environment.")
    ] = NETWORKS,
    deadline_ms: Annotated[
        float, typer.Option(min=1.0, help="With --network: of an answer that asks the server.")
    ] = 500.0,
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
    time line is in scenario.html; with --network in scenario-network.html.
    Examples: zooselect scenario --environments clear,dark --unknown ''; zooselect scenario --network
    """
    import msgspec

    from training.evaluation.timeline import LATE_MS, late_answers, timeline_table
    from training.reports.timeline_page import render_timeline
    from training.scenarios.materials import cifar10, digit_networks, digits_over_network
    from training.scenarios.scenario import Settings, run_scenario
    from training.scenarios.specialists import make_specialists
    from training.scenarios.surroundings import earlier_address, network_of, surroundings
    from zoo.errors import DataError

    tell = partial(say, err=True)
    usual = MOVING if network else (ENVIRONMENTS, INPUTS, RATE)
    names = tuple(names_in(environments or usual[0]))
    unknown = ("" if network else UNKNOWN_ENVIRONMENT) if unknown is None else unknown
    if network and (data is not None or server):
        raise DataError("--network: expected neither --data nor --server with it, got one of them.")
    if unknown in names:
        raise DataError(
            f"expected an --unknown environment that is not among {', '.join(names)}, got {unknown!r}."
        )
    if (data is None) != (weights is None):
        raise DataError("expected --data and --weights together, got one of them.")
    course = tuple(names_in(networks)) if network else ()
    for one in course:
        network_of(one)
    known = tuple(dict.fromkeys(names))
    first = known[0] if known else ""
    if data is not None and weights is not None:
        zoo, material = cifar10(out, data, weights, seed=seed)
    else:
        make = digits_over_network if network else digit_networks
        zoo, material = make(out, first, seed=seed, progress=not as_json)
    asked = material.precision if precision is None else precision
    places = (*names, *((unknown,) if unknown else ()))
    settings = Settings(
        environments=tuple(place for place in places for _ in course or ("",)),
        networks=course * len(places),
        inputs=usual[1] if inputs is None else inputs,
        budget_bytes=material.budget_bytes if budget is None else int(budget * 1e6),
        inputs_per_s=usual[2] if rate is None else rate,
        precision=asked,
        deadline_s=deadline_ms / 1e3,
        server=server,
        seed=seed,
    )
    with surroundings(zoo, earlier_address(zoo)) if network else nullcontext() as around:
        published = make_specialists(
            out,
            zoo,
            material,
            known,
            precision=asked,
            seed=seed,
            around=around,
            network=network_of(FITTED_FOR) if network else None,
            progress=not as_json,
            say=tell,
        )
        timeline = run_scenario(out, published, settings, around=around, say=tell)
    page = out / f"scenario{'-network' if network else '-server' if server else ''}.html"
    render_timeline(timeline, page)
    if as_json:
        say(msgspec.json.encode(timeline).decode())
        return
    say()
    say(timeline_table(timeline))
    limit = timeline.deadline_ms
    late = (
        ""
        if limit is None
        else f", {late_answers(timeline)} more than {LATE_MS:g} ms after the deadline of {limit:g}"
    )
    say(
        f"\n{len(timeline.answers):,} answers, none failed, the longest took {timeline.longest_ms:.0f} ms"
        f"{late}. "
        f"The service was told of drift: {', '.join(timeline.reported) or 'never'}.\nTime line: {page}"
    )


def register(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command(rich_help_panel=START_PANEL)(scenario)
