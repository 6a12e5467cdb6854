"""What a command says last, on standard error, when everything else has been printed."""

from __future__ import annotations

import shlex

from selector.commands.say import say

_words: list[str] = []


def say_last(words: str) -> None:
    """Have a line printed when the command has ended, well or not."""
    _words.append(words)


def say_last_words() -> None:
    """Print the lines, and forget them."""
    for words in _words:
        say(words, err=True)
    _words.clear()


def command(*words: object, **options: object) -> str:
    """A command of zooselect as a shell takes it; an option that is None, False or empty is left out."""
    parts = [str(word) for word in words]
    for name, value in options.items():
        if value is not None and value is not False and value != "":
            dashed = f"--{name.replace('_', '-')}"
            parts += [dashed] if value is True else [dashed, str(value)]
    return shlex.join(["zooselect", *parts])
