"""What commands print: names and reasons come from outside, and none of them may steer the terminal."""

from __future__ import annotations

import shutil
import sys

import typer

from selector.commands.tables import wrapped
from zoo.text import printable


def say(text: str = "", *, err: bool = False) -> None:
    """Print lines on standard output, or on standard error; other control characters are shown escaped."""
    typer.echo(printable(text, keep="\n"), err=err)  # noqa: TID251


def say_prose(text: str) -> None:
    """Print sentences on standard output: wrapped to the width of a terminal, in a pipe as one line."""
    say(wrapped(text, shutil.get_terminal_size().columns) if sys.stdout.isatty() else text)
