"""The command demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from selector.commands.options import START_PANEL, JsonOption, OutOption, SeedOption
from selector.commands.say import say, say_prose

OUT = Path("zooselect-demo")


def demo(
    out: OutOption = OUT,
    kind: Annotated[
        Literal["images", "bytes"], typer.Option(help="Handwritten digits, or fragments of files.")
    ] = "images",
    precision: Annotated[
        float | None,
        typer.Option(help="Precision to certify and to answer with, in (0, 1). Default: 0.92, bytes 0.85."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew instead of using what is there.")
    ] = False,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """See it work: train models of three sizes, compress, profile, fit, certify, export, and answer.

    Handwritten digits in light, dark, noise, blur and more; needs no download and about two minutes. With
    --kind bytes, three networks tell the type of fragments of files. A second run uses what the first one
    made.
    """
    import msgspec

    from training.reports.method_table import table
    from training.scenarios.bytes_demo import run_bytes_demo
    from training.scenarios.demo import run_demo

    run = run_demo if kind == "images" else run_bytes_demo
    asked: dict[str, Any] = {} if precision is None else {"precision": precision}
    result = run(
        out if kind == "images" or out != OUT else OUT.with_name(f"{OUT.name}-bytes"),
        **asked,
        seed=seed,
        fresh=fresh,
        progress=not as_json,
        say=lambda line: say(line, err=True),
    )
    if as_json:
        say(msgspec.json.encode(result.evaluation).decode())
        return
    say()
    say(table(result.evaluation))
    say()
    for note in result.evaluation.notes:
        say_prose(note)
    say(f"\nTotal {sum(result.seconds.values()):.0f} s. Report: {result.report}\n\nTry next:")
    for command in result.evaluation.next_commands:
        say(f"  {command}")


def register(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command(rich_help_panel=START_PANEL)(demo)
