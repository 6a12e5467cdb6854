"""Text from outside, made safe to show: names, reasons of servers, whatever a file holds."""

from __future__ import annotations

import unicodedata

# Control characters, marks that turn the direction of writing, halves of characters, and line separators.
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # parts of words in Persian and Hindi, and of emoji


def printable(text: str, *, keep: str = "") -> str:
    r"""The text with every character that could steer a terminal as ``\uXXXX``, which is right in JSON too.

    Parameters
    ----------
    keep
        Characters that stay as they are, such as line breaks of one's own.

    Examples
    --------
    >>> printable("photo\x1b[2J.jpg")
    'photo\\u001b[2J.jpg'
    """
    if text.isprintable():  # most are
        return text
    return "".join(
        letter if letter in keep or letter in _JOINERS or not _is_hidden(letter) else _escaped(letter)
        for letter in text
    )


def _is_hidden(letter: str) -> bool:
    return unicodedata.category(letter) in _HIDDEN


def _escaped(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
