"""What commands print: names and reasons come from outside, and none of them may steer the terminal."""

from __future__ import annotations

import typer

from zoo.text import printable


def say(text: str = "", *, err: bool = False) -> None:
    """Print lines on standard output, or on standard error; other control characters are shown escaped."""
    typer.echo(printable(text, keep="\n"), err=err)  # noqa: TID251
