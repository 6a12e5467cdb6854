"""What a command says last, on standard error, when everything else has been printed."""

from __future__ import annotations

import typer

_words: list[str] = []


def say_last(words: str) -> None:
    """Have a line printed when the command has ended, well or not."""
    _words.append(words)


def say_last_words() -> None:
    """Print the lines, and forget them."""
    for words in _words:
        typer.echo(words, err=True)
    _words.clear()
