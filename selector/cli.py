"""The command ``zooselect``: what a device needs is in :mod:`selector.commands`, the rest are plug-ins.

A package adds commands through an entry point of the group ``zooselect.commands``: a function that takes the
Typer application. Exit codes: 0 success, 1 bad input (the message says what to do), 2 wrong usage, 3 the
asked precision is not certified where that was required, 130 interrupted.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from selector.commands.last_words import say_last_words
from zoo.errors import ZooError

INTERRUPTED = 130
GROUP = "zooselect.commands"
COMMANDS = ("answer", "bench", "device", "plan", "publish", "serve")  # modules of selector.commands

_ORDER = (
    "demo",
    "make",
    "zoo",
    "profile",
    "bench",
    "fit",
    "evaluate",
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
    finally:
        say_last_words()
