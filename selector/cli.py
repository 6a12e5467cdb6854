"""The command ``zooselect``: what a device needs is in :mod:`selector.commands`, the rest are plug-ins.

A package adds commands through an entry point of the group ``zooselect.commands``: a function that takes the
Typer application. Exit codes: 0 success, 1 bad input (the message says what to do), 2 wrong usage, 3 the
asked precision is not certified where that was required, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import os
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from selector.commands.last_words import say_last_words
from selector.commands.say import say
from zoo.errors import ZooError
from zoo.extras import install_command
from zoo.text import printable

INTERRUPTED = 130
STOPPED = "interrupted; finished work is kept, the same command continues."
GROUP = "zooselect.commands"
COMMANDS = (
    "agree",
    "answer",
    "bench",
    "device",
    "inspection",
    "plan",
    "publishing.publish",
    "serve",
)  # modules of selector.commands

_ORDER = (
    "demo",
    "make",
    "zoo",
    "profile",
    "outcomes",
    "bench",
    "fit",
    "evaluate",
    "export",
    "inspect",
    "select",
    "predict",
    "route",
    "agree",
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
            say(STOPPED, err=True)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="zooselect",
    cls=_InWorkingOrder,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Pick, for every input, the cheapest neural network that is still precise enough.\n\n"
    "See it work in two minutes: **zooselect demo**. With your own images and ONNX files, all in one: "
    "**zooselect make** photos small.onnx large.onnx. Step by step: **zoo add** (or **zoo train**) → "
    "**profile** → **bench** → **fit** → **evaluate** → **export** → **predict**; each reads and writes "
    "files, so each can be repeated alone.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"zooselect {importlib.metadata.version('zooselect')}")
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
    importlib.import_module("selector.serving.route_command").register(app)
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: point.name):
        point.load()(app)


def main() -> None:
    """Run the command line; every error of ours becomes one line and an exit code."""
    # OpenMP threads that spin while they wait slow training down manyfold beside other busy processes
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.filterwarnings("ignore", "Image size .* could be decompression bomb")  # refused in our words
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal's character set lacks is no error
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            add_commands()
            app(prog_name="zooselect")
        except KeyboardInterrupt:
            say(STOPPED, err=True)
            sys.exit(INTERRUPTED)
        except ZooError as error:
            say(f"error: {error}", err=True)
            sys.exit(1)
        except ModuleNotFoundError as error:
            say(
                f"error: this command needs the package {error.name!r}: {install_command('train')}",
                err=True,
            )
            sys.exit(1)
        finally:
            say_last_words()
    except OSError as error:
        sys.exit(_no_file(error))


def _no_file(error: OSError) -> int:
    """Say what the system refused; nothing where whoever read the output has gone."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # or Python would try again, and complain
            with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
    if not isinstance(error, BrokenPipeError):
        what = "the output" if error.filename is None else os.fsdecode(error.filename)
        with contextlib.suppress(OSError):
            say(f"error: {printable(what)}: {error.strerror or error}. Check the path or the disk.", err=True)
    return 1
